"""The stages in order, and bringing a run up to date."""
