"""Recordings: read, written, replayed into the node, scored."""
