"""Building blocks that systems share."""
