"""What options of TeViT choose from."""

BACKBONES = ("msgshift", "resnet50", "swin_large")
BACKBONE_RUNS = ("window", "stream")
INTERACTIONS = ("spatiotemporal", "spatial", "joint")
SHIFTS = ("cyclic", "clamp")
MESSENGERS = ("shift", "attention", "none")
