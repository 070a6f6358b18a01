"""The page on which people grade candidates."""
