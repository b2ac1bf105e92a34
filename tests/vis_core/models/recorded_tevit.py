"""Recorded cases of TeViT: what went in, what came out, and weights."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD


class Case:
    """One folder of ``parity/tevit``.

    Attributes:
        record: ``case.json``; under ``arrays`` shape and tolerance of each array.
        inputs, expected: the two files of arrays.
        unchecked: names of the arrays that nobody has checked yet.
    """

    def __init__(self, shared, name):
        self.folder = shared / "parity" / "tevit" / name
        self.record = json.loads((self.folder / "case.json").read_text())
        self.inputs = np.load(self.folder / "inputs.npz")
        self.expected = np.load(self.folder / "expected.npz")
        self.unchecked = set(self.record["arrays"])

    def check(self, name, found):
        """An array, a tensor or a number, of the full shape, by the rule that the case states for it."""
        rule, expected = self.record["arrays"][name], self.expected[name]
        found = np.asarray(found.detach().cpu() if isinstance(found, torch.Tensor) else found)
        assert list(found.shape) == rule["shape"], f"{name}: shape {found.shape}, recorded {rule['shape']}"
        if rule.get("packed"):
            check_masks(name, found, np.unpackbits(expected, axis=-1, count=found.shape[-1]), rule["iou"])
        elif rule.get("equal"):
            np.testing.assert_array_equal(found, expected.reshape(found.shape), err_msg=name)
        else:
            check_close(name, found.ravel()[:: rule.get("stride", 1)], expected.ravel(), rule)
        self.unchecked.discard(name)

    def check_all(self, found):
        """Arrays by name."""
        for name, value in found.items():
            self.check(name, value)

    def network_input(self, frames=slice(None)):
        """Normalised images ``[T, 3, H, W]``, padded to a multiple of 32: of the resized ones, where there are such."""
        pixels = self.expected["resized"] if "resized" in self.record["arrays"] else self.inputs["images"]
        return normalised(pixels[frames])

    def tensor(self, name):
        """An input as it is, floats and bytes as float32."""
        values = self.inputs[name]
        return torch.from_numpy(values.astype(np.int64 if values.dtype == np.int64 else np.float32))


def check_close(name, found, expected, rule):
    """``|x - y| <= atol + rtol |y|`` for every element, or for the share ``within`` of them."""
    excess = np.abs(found - expected) - rule["rtol"] * np.abs(expected) - rule["atol"]
    good = excess <= 0  # not so for what is not a number
    worst = f"{name}: {np.sum(~good)} of {good.size} elements out of tolerance, by {np.nanmax(excess):.3g} at most"
    assert good.mean() >= rule.get("within", 1), worst


def check_masks(name, found, expected, least):
    """IoU of each mask ``[..., H, W]`` with the recorded one; 1 where both are empty."""
    assert np.isin(found, (0, 1)).all(), f"{name}: not masks"
    found, expected = found.astype(bool), expected.astype(bool)
    union = (found | expected).sum((-2, -1))
    iou = np.where(union == 0, 1, (found & expected).sum((-2, -1)) / np.maximum(union, 1))
    assert iou.min() >= least, f"{name}: least IoU {iou.min():.4f}"


def normalised(pixels):
    """Of RGB uint8 ``[T, H, W, 3]``: normalised float32 ``[T, 3, h, w]``, zeros right and below to multiples of 32."""
    images = (torch.from_numpy(pixels).float() - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    images = images.permute(0, 3, 1, 2)
    return F.pad(images, (0, -images.shape[3] % 32, 0, -images.shape[2] % 32))


def recorded_weights(shared, fill, prefix="", manifest="weights_msgshift"):
    """The tensors of a manifest whose keys begin with a prefix, without it: a part of them is quicker than all."""
    source = shared / "parity" / "tevit" / manifest
    rows = [row for row in json.loads((source / "manifest.json").read_text()) if row["key"].startswith(prefix)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_text(json.dumps(rows))
        if (source / "stored.npz").exists():
            (Path(folder) / "stored.npz").symlink_to(source / "stored.npz")
        arrays = fill(Path(folder) / "manifest.json")
    return {key.removeprefix(prefix): torch.from_numpy(x) for key, x in arrays.items()}
