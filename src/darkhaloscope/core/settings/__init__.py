"""Settings of each stage, one module a stage, named after it. `core.config` joins them to a run."""
