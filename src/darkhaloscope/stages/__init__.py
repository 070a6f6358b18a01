"""One module a stage: a pure function on Arrow tables, and its record."""
