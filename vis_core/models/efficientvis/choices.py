"""What options of EfficientVIS choose from."""

ATTENTIONS = ("factorised", "spatial", "temporal", "joint")
DYNAMIC_CONVOLUTIONS = ("temporal", "still")
QUERIES_OVER_TIME = ("disentangled", "shared")
CARRIES = ("confident", "all")
PROPOSALS = ("learned", "last")
LINKINGS = ("queries", "handcrafted")
