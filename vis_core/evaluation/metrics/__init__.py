"""The scores: average precision, HOTA, CLEAR, Identity."""
