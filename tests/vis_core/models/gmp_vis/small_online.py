"""A small online GMP-VIS, for tests."""

import torch

from tests.vis_core.models.gmp_vis.small_clip import TinyBackbone
from vis_core.models.gmp_vis.online_network import Dimensions, OnlineNetwork

SIZES = Dimensions(queries=6, width=64, hidden=64, layers=2, heads=2, points=2, embedding=16)


def small_network(classes=3, temporal=True, sizes=SIZES):
    torch.manual_seed(0)
    network = OnlineNetwork(TinyBackbone(), classes, temporal, sizes)
    network.initialise()
    return network
