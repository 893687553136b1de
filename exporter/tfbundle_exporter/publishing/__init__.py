"""A staged folder appears under its number, whole and for good."""
