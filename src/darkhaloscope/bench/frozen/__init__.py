"""The frozen benchmark: what it is made of, and how networks are taught and judged on it."""
