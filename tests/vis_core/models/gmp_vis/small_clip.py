"""A small VisTR, for tests."""

from itertools import pairwise

import torch
from torch import nn

from vis_core.models.gmp_vis.clip_network import ClipNetwork


class TinyBackbone(nn.Module):
    """One convolution for each stride."""

    channels = (16, 24, 32, 32)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stages = nn.ModuleList(nn.Conv2d(*widths, 3, 2, 1) for widths in pairwise((8, *self.channels)))

    def forward(self, images):
        maps = [self.stem(images).relu()]
        for stage in self.stages:
            maps.append(stage(maps[-1]).relu())
        return maps[1:]


def small_network(clip_length=6, classes=3, **options):
    """With random weights, for images whose sides are multiples of 32."""
    torch.manual_seed(0)
    network = ClipNetwork(TinyBackbone(), clip_length, classes, 4, width=48, heads=4, hidden=32, layers=2, **options)
    network.initialise()
    return network
