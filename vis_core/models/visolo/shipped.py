"""What visolo-lite ships with: sizes, class names, weights; nothing here loads a network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from vis_core.errors import CheckpointError

NAME = "visolo-lite"
CLASS_NAMES = ("person", "vehicle", "animal")
INPUT_SIZE = (256, 448)
INPUT_MEAN = INPUT_STD = (127.5, 127.5, 127.5)
WIDTH, MASK_WIDTH = 128, 64
GRID = (16, 28)  # denser than in the paper: one cell, one object
GRID_KEY = "grid"
"""Of the tensor of a weight file that holds rows and columns of the grid."""
OTHER_VIEWS = ((1.25, True), (1.5, False), (1.0, True))
"""Size, relative to the network's input, and whether mirrored, of the second to fourth view of a frame."""


def default_weights() -> Path | None:
    """The weight file that is part of the package, None if it is not installed."""
    path = Path(str(resources.files("vis_core.models.visolo"))) / "visolo_lite.safetensors"
    return path if path.is_file() else None


def shipped_weights() -> Path:
    """The weight file that is part of the package, to train from.

    Raises:
        CheckpointError: it is not there.
    """
    path = default_weights()
    if path is None:
        raise CheckpointError(f"{NAME}: this installation has no visolo_lite.safetensors; install the package anew")
    return path
