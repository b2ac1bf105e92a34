"""A small online GMP-VIS, for tests."""

from itertools import pairwise

import torch
from torch import nn

from vis_core.models.gmp_vis.online_network import Dimensions, OnlineNetwork

SIZES = Dimensions(queries=6, width=64, hidden=64, layers=2, heads=2, points=2, embedding=16)


class TinyBackbone(nn.Module):
    """One convolution for each stride."""

    channels = (16, 24, 32, 32)

    def __init__(self):
        super().__init__()
        widths = (8, *self.channels)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stages = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, 2, 1) for inputs, outputs in pairwise(widths))

    def forward(self, images):
        maps = [self.stem(images).relu()]
        for stage in self.stages:
            maps.append(stage(maps[-1]).relu())
        return maps[1:]


def small_network(classes=3, temporal=True, sizes=SIZES):
    torch.manual_seed(0)
    network = OnlineNetwork(TinyBackbone(), classes, temporal, sizes)
    network.initialise()
    return network
