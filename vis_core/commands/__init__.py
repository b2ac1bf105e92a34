"""The commands of ``vis``, one file each, and what they show and ask."""
