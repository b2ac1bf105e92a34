"""Recorded cases of Video K-Net: what went in, what came out, and networks with their weights."""

import json

import numpy as np
import torch

from vis_core.models.video_knet import published
from vis_core.models.video_knet.network import ClipNetwork, OnlineNetwork


class SmallBackbone(torch.nn.Module):
    """Maps at strides 4, 8, 16 and 32 in no time."""

    channels = (8, 8, 8, 8)

    def __init__(self):
        super().__init__()
        self.stages = torch.nn.ModuleList(
            torch.nn.Conv2d(3 if i == 0 else 8, 8, stride, stride) for i, stride in enumerate((4, 2, 2, 2))
        )

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x).tanh()
            maps.append(x)
        return maps


class Case:
    """A recorded case, which knows what of it was compared.

    Args:
        shared: folder of all recorded answers.
        name: of the case.
    """

    def __init__(self, shared, name):
        folder = shared / "parity" / "video_knet" / f"case_{name}"
        self.record = json.loads((folder / "case.json").read_text())
        self.config, self.arrays = self.record["config"], self.record["arrays"]
        self.inputs, self.expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
        self.compared = set()

    def check(self, name, found):
        """Compare an array as its entry says."""
        entry, expected = self.arrays[name], self.expected[name]
        found = np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)
        self.compared.add(name)
        shape = tuple(entry["shape"])
        if entry.get("packed"):
            wanted = np.unpackbits(expected, axis=-1, count=shape[-1]).astype(bool).reshape(shape)
            found = found.astype(bool).reshape(shape)
            union = (found | wanted).sum()
            assert union == 0 or (found & wanted).sum() / union >= entry["iou"], name
            return
        if entry.get("exact"):
            np.testing.assert_array_equal(found.reshape(shape), expected.reshape(shape), err_msg=name)
            return
        assert found.size == np.prod(shape, dtype=int), f"{name}: {found.shape}, expected {shape}"
        if "equal_fraction" in entry:
            assert (found.reshape(shape) == expected.reshape(shape)).mean() >= entry["equal_fraction"], name
            return
        found = found.astype(np.float64).ravel()[:: entry.get("stride", 1)]
        expected = expected.astype(np.float64).ravel()
        close = np.abs(found - expected) <= entry["atol"] + entry["rtol"] * np.abs(expected)
        if "within" in entry:
            assert close.mean() >= entry["within"], f"{name}: {close.mean()} of the elements"
        else:
            np.testing.assert_allclose(found, expected, entry["rtol"], entry["atol"], err_msg=name)

    def check_all_compared(self):
        """Nothing of the case was left out."""
        assert self.compared == set(self.arrays)


def load_filled(network, tensors):
    network.load_state_dict(tensors)
    return network.eval().to(memory_format=torch.channels_last)


class FilledWeights:
    """Published files as the cases fill them, made once each.

    Args:
        shared: folder of all recorded answers.
        fill: maker of arrays from a manifest.
    """

    def __init__(self, shared, fill):
        self._folder, self._fill, self._made = shared / "parity" / "video_knet", fill, {}

    def tensors(self, name):
        """Under the published keys."""
        if name not in self._made:
            self._made.clear()  # half a gigabyte each, as float64 while they are made
            arrays = self._fill(self._folder / f"weights_{name}" / "manifest.json")
            self._made[name] = {key: torch.from_numpy(x) for key, x in arrays.items()}
        return self._made[name]

    def clip_network(self, name):
        tensors = published.convert(self.tensors(name))
        found = published.frame_sizes(tensors)
        return load_filled(ClipNetwork(found.backbone, found.neck, found.classes, found.sizes), tensors)

    def online_network(self, name):
        tensors = published.convert(self.tensors(name))
        found = published.frame_sizes(tensors)
        links = published.links(tensors, found.classes)
        network = OnlineNetwork(
            found.backbone,
            found.neck,
            links.things,
            found.classes - links.things,
            links.linking,
            links.fusion,
            links.embedding_layers,
            found.sizes,
        )
        return load_filled(network, tensors)
