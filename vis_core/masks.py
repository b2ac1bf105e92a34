"""Binary masks as run lengths inside their tight box, and their conversion to and from COCO run lengths.

The runs are those of ``vis_ros/msg/InstanceTrack``: lengths of alternating runs inside the box, row by row,
beginning with background (a 0 if the first pixel is foreground); they sum to the area of the box.
COCO's run lengths cover the whole image, column by column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.errors import InputError

_NO_RUNS = np.zeros(0, np.uint32)
_NO_RUNS.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class RunLengths:
    """One binary mask of an image.

    Attributes:
        size: height and width of the image, pixels.
        box: x, y, width, height of the tight box of the foreground, pixels; all 0 for an empty mask.
        runs: uint32 ``[R]``, alternating run lengths inside the box, row by row, background first; none if it is empty.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    runs: npt.NDArray[np.uint32] = field(default_factory=lambda: _NO_RUNS)

    @property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(self.runs[1::2].sum(dtype=np.int64))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunLengths):
            return NotImplemented
        return self.size == other.size and self.box == other.box and np.array_equal(self.runs, other.runs)

    def crop(self) -> npt.NDArray[np.uint8]:
        """Foreground inside the box, uint8 0/1 ``[height, width]`` of the box."""
        _, _, width, height = self.box
        return _pixels(self.runs).reshape(height, width)

    def dense(self) -> npt.NDArray[np.bool_]:
        """The mask as bool ``[H, W]``."""
        out = np.zeros(self.size, np.bool_)
        x, y, width, height = self.box
        out[y : y + height, x : x + width] = self.crop()
        return out


def encode(mask: npt.NDArray[Any]) -> RunLengths:
    """Run lengths of a dense mask.

    Args:
        mask: bool or uint8 ``[H, W]``; every value other than 0 is foreground.
    """
    if mask.ndim != 2:
        raise InputError(f"mask: expected [H, W], got shape {tuple(mask.shape)}")
    if mask.dtype not in (np.bool_, np.uint8):
        mask = mask != 0
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    size = (int(mask.shape[0]), int(mask.shape[1]))
    x, y, width, height = tight_box(pixels)
    if width == 0:
        return RunLengths(size)
    flat = (pixels[y : y + height, x : x + width] != 0).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lead = [0, 0] if flat[0] else [0]
    runs = np.diff(np.concatenate((lead, edges, [flat.size]))).astype(np.uint32)
    runs.flags.writeable = False
    return RunLengths(size, (x, y, width, height), runs)


def tight_box(mask: npt.NDArray[Any]) -> tuple[int, int, int, int]:
    """x, y, width, height of the box around what is not 0 in a bool or uint8 ``[H, W]``, pixels; all 0 if nothing is.

    Not by OpenCV: `boundingRect` of 4.6 to 4.8, which Ubuntu 24.04 has, is a row short for some small masks.
    """
    pixels = mask.view(np.uint8)
    rows = np.flatnonzero(np.maximum.reduce(pixels, axis=1, initial=0))
    if not rows.size:
        return 0, 0, 0, 0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(np.bitwise_or.reduce(pixels[top:bottom], axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    return left, top, right - left, bottom - top


def from_box(size: tuple[int, int], box: tuple[int, int, int, int], runs: npt.ArrayLike) -> RunLengths:
    """Run lengths from parts that came from outside, checked.

    Args:
        size: height and width of the image.
        box: x, y, width, height.
        runs: alternating run lengths inside the box, row by row, background first; none: an empty mask, whatever the
            box, as of a lost track that is expected there.

    Raises:
        InputError: the box leaves the image, or runs do not sum to its area.
    """
    values = np.asarray(runs, dtype=np.int64).ravel()
    x, y, width, height = box
    if min(box) < 0 or x + width > size[1] or y + height > size[0]:
        raise InputError(f"mask: box {box} leaves the image of {size[1]}x{size[0]}")
    if values.size and values.min() < 0:
        raise InputError(f"mask: negative run length {values.min()}")
    if not values.size:
        return RunLengths(size)
    if int(values.sum()) != width * height:
        raise InputError(f"mask: runs sum to {int(values.sum())}, the box holds {width * height} pixels")
    checked = values.astype(np.uint32)
    checked.flags.writeable = False
    return RunLengths(size, box, checked) if width and height else RunLengths(size)


def to_coco(mask: RunLengths) -> dict[str, Any]:
    """COCO's compressed run lengths ``{"size": [h, w], "counts": text}`` of the whole image."""
    image = np.zeros(mask.size, np.uint8, order="F")
    x, y, width, height = mask.box
    if width:
        image[y : y + height, x : x + width] = mask.crop()
    encoded = coco_mask.encode(image)
    return {"size": [mask.size[0], mask.size[1]], "counts": encoded["counts"].decode("ascii")}


def from_coco(segmentation: Mapping[str, Any]) -> RunLengths:
    """Run lengths of a COCO segmentation, compressed or not, that is known to be sound.

    Files from outside go through ``vis_core.files``, which checks them before decoding.
    """
    height, width = (int(v) for v in segmentation["size"])
    counts = segmentation["counts"]
    if isinstance(counts, list):
        # Not by pycocotools, which allots six characters a run and writes on where that is short.
        return encode(_pixels(counts).reshape((height, width), order="F"))
    compressed = {"size": [height, width], "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
    return encode(coco_mask.decode(compressed))


def _pixels(runs: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """The pixels of alternating runs, background first, uint8 0/1."""
    lengths = np.asarray(runs, np.int64)
    values = np.zeros(lengths.size, np.uint8)
    values[1::2] = 1
    return np.repeat(values, lengths)
