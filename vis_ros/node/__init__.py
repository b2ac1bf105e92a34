"""The segmenter node and its parts."""
