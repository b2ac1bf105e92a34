"""Recorded cases of the published network: what went in, what came out, and weights."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD

EVERY = {
    "backbone/0": (2, 32, 4, 4),
    "backbone/1": (2, 64, 2, 2),
    "backbone/2": (2, 64),
    "backbone/3": (2, 64),
    "position": (1, 16),
    "input_proj": (1, 16),
    "encoder/0": (3, 16),
    "encoder/5": (3, 16),
    "decoder/0": (3, 16),
    "decoder/5": (3, 16),
    "hs": (1, 5, 32),
    "box_attention": (1, 5),
    "offsets": (2, 5, 1, 4, 4),
    "mask_features": (2, 5, 6, 2, 2),
    "pred_masks": (1, 2, 2),
}
"""Of cases 1, 2 and 8: how many elements each stored one stands for, along each axis, as ``case.json`` says."""


class Case:
    """One folder of ``parity/gmp_vis``.

    Attributes:
        record: ``case.json``.
        inputs, expected: the two files of arrays.
        unchecked: names of the arrays that nobody has checked yet.
    """

    def __init__(self, shared, name):
        folder = shared / "parity" / "gmp_vis" / name
        self.record = json.loads((folder / "case.json").read_text())
        self.inputs = np.load(folder / "inputs.npz")
        self.expected = dict(np.load(folder / "expected.npz"))
        self.unchecked = set(self.expected)

    def close(self, name, found, rule=None, every=None):
        """Every element of an array, or of the part of it that is stored."""
        tolerances = self.record["tolerances"]
        rule = rule or next((key for key in tolerances if name in key.split(", ")), "default")
        found = np.asarray(found.detach().cpu() if isinstance(found, torch.Tensor) else found)
        found = found[tuple(slice(None, None, step) for step in every or EVERY.get(name, ()))]
        expected = self.expected[name]
        assert found.shape == expected.shape, f"{name}: {found.shape}, recorded {expected.shape}"
        np.testing.assert_allclose(found, expected, **tolerances[rule], err_msg=name)
        self.unchecked.discard(name)

    def equal(self, name, found):
        assert np.asarray(found).tolist() == self.expected[name].tolist(), name
        self.unchecked.discard(name)

    def same_masks(self, name, found, least=0.97, mean=0.99):
        """Masks bool ``[..., H, W]``: the IoU of each of more than 20 pixels, and the mean of all."""
        expected = np.unpackbits(self.expected[name], axis=-1, count=found.shape[-1]).astype(bool)
        found = np.asarray(found)
        assert found.shape == expected.shape, f"{name}: {found.shape}, recorded {expected.shape}"
        union = (found | expected).sum((-2, -1))
        overlap = np.where(union == 0, 1, (found & expected).sum((-2, -1)) / np.maximum(union, 1))
        assert overlap[expected.sum((-2, -1)) > 20].min(initial=1) >= least, name
        assert overlap.mean() >= mean, name
        self.unchecked.discard(name)

    def tensor(self, name):
        return torch.from_numpy(self.inputs[name].astype(np.float32))

    def images(self):
        """Normalised frames ``[T, 3, H, W]``, padded as recorded, and the mask of the padding, None without any."""
        images = torch.from_numpy(self.inputs["frames"]).float()
        images = ((images - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 3, 1, 2)
        if not self.record.get("padded_to"):
            return images, None
        (height, width), (full_height, full_width) = self.record["size"], self.record["padded_to"]
        padding = torch.ones(len(images), full_height, full_width, dtype=torch.bool)
        padding[:, :height, :width] = False
        return F.pad(images, (0, full_width - width, 0, full_height - height)), padding


def recorded_weights(shared, fill, frames, prefix=""):
    """Of the manifest for clips of so many frames, the tensors whose keys begin so, without it."""
    source = shared / "parity" / "gmp_vis"
    rows = json.loads((source / f"manifest_t{frames}.json").read_text())
    rows = [row for row in rows if row["key"].startswith(prefix)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_text(json.dumps(rows))
        (Path(folder) / "stored.npz").symlink_to(source / "stored.npz")
        arrays = fill(Path(folder) / "manifest.json")
    return {key.removeprefix(prefix): torch.from_numpy(x) for key, x in arrays.items()}
