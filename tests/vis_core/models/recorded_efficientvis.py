"""Recorded cases of EfficientVIS: what went in, what came out, and networks with their weights."""

import json

import numpy as np
import torch

from vis_core.models.efficientvis import published
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.nn.region_queries import Dimensions

SMALL = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=6)


class Case:
    def __init__(self, shared, name, system="efficientvis"):
        self.folder = shared / "parity" / system / name
        self.record = json.loads((self.folder / "case.json").read_text())
        self.inputs = np.load(self.folder / "inputs.npz")
        self.expected = np.load(self.folder / "expected.npz")

    def check(self, name, found):
        """Every element within the tolerance of the longest name that a part of the array's begins with."""
        parts, tolerances = name.split("/"), self.record["tolerances"]
        fitting = [key for key in tolerances if any(part.startswith(key) for part in parts)]
        tolerance = tolerances[max(fitting, key=len, default="default")]
        found = np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)
        np.testing.assert_allclose(found, self.expected[name], **tolerance, err_msg=name)

    def tensor(self, name):
        return torch.from_numpy(self.inputs[name].astype(np.float32))

    def levels(self, prefix="", frames=slice(None)):
        """Maps at the four strides, channels-last."""
        maps = [torch.from_numpy(self.inputs[f"{prefix}level{i}"][frames].astype(np.float32) / 16) for i in range(4)]
        return [x.contiguous(memory_format=torch.channels_last) for x in maps]


def small_network(shared, fill, **options):
    """Without a backbone: maps of 32 channels are given."""
    arrays = fill(shared / "parity" / "efficientvis" / "manifest_small.json")
    network = EfficientVISNetwork(None, 5, 6, SMALL, **options)
    network.load_state_dict(published.convert({key: torch.from_numpy(x) for key, x in arrays.items()}))
    return network.eval()


def as_recorded(regions, size):
    """``[T, N, P, C]`` as the cases have it, ``[T, N, C, size, size]``."""
    return regions.transpose(2, 3).unflatten(3, (size, size))
