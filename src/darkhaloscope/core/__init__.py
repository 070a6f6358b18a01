"""What every layer stands on: errors, units, draws, schemas, settings, contracts."""
