"""Data sets, and scenes made by the computer."""
