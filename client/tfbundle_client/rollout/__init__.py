"""Rolling versions out: labels and loaded versions of the servers that a models.config describes."""
