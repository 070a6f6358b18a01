"""Run files to start from. Every number that changes a result stands in them, with its reason."""
