"""What options of Mask2Former-VIS and MinVIS choose from, and their defaults."""

BACKBONES = ("resnet50", "resnet101", "swin_tiny", "swin_small", "swin_base", "swin_large")
POINTS = 12544
"""Of a mask, where the losses look at it."""
