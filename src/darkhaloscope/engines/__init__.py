"""What runs a stage over its partitions: processes here, a cluster elsewhere."""
