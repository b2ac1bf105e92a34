"""What options of Video K-Net choose from."""

CLIP, ONLINE = "video-knet", "video-knet-online"
BACKBONES = ("resnet50", "resnet101", "swin_tiny", "swin_small", "swin_base", "swin_large")
NECKS = ("fpn", "deformable")
LINKINGS = ("ffn", "update")
ASSOCIATIONS = ("embedding", "kernel")
METRICS = ("bisoftmax", "softmax", "cosine")
"""Of `vis_core.tracking.quasi_dense`."""
