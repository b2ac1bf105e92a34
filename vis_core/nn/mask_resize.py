"""From masks at the network's resolution to run lengths at the image's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core import masks as run_lengths
from vis_core.masks import RunLengths

DUPLICATE_OVERLAP = 0.8


def without_duplicates(masks: Tensor, overlap: float = DUPLICATE_OVERLAP) -> Tensor:
    """Rows that stay when, of two masks that overlap too much, the later one is removed.

    Args:
        masks: bool ``[N, ...]``, the best first.
        overlap: IoU above which two masks are of one object.
    """
    flat = masks.flatten(1).float()
    common = flat @ flat.T
    areas = common.diagonal()
    alike = (common > overlap * (areas[:, None] + areas - common)).tolist()
    stay: list[int] = []
    for row in range(len(alike)):
        if not any(alike[row][better] for better in stay):
            stay.append(row)
    return torch.tensor(stay, dtype=torch.int64, device=masks.device)


class MaskResize:
    """Mask logits at a quarter of the network's input, to run lengths at the image's size.

    As published: bilinear to the padded input, cut to the resized image, bilinear to the image, foreground where > 0.
    Both steps are linear, and along one axis at a time, so they are one matrix for each axis; of it the part is used
    that a mask's foreground touches.

    Args:
        mask_size: height and width of the logits.
        padded_size: of the network's input.
        resized_size: of the image in it.
        image_size: of the image as it came.
        device: of the logits.
    """

    def __init__(
        self,
        mask_size: tuple[int, int],
        padded_size: tuple[int, int],
        resized_size: tuple[int, int],
        image_size: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.mask_size, self.image_size = mask_size, image_size
        self._pixels = [p / m * i / r for m, p, r, i in zip(mask_size, padded_size, resized_size, image_size)]
        matrices = [_resize_matrix(*lengths) for lengths in zip(mask_size, padded_size, resized_size, image_size)]
        self._matrices = [matrix.to(device) for matrix in matrices]
        self._reaches = [_Reach(matrix.numpy() != 0) for matrix in matrices]

    def __call__(self, logits: Tensor) -> list[RunLengths]:
        """Run lengths of N masks from their logits ``[N, h, w]``."""
        positive = (logits > 0).view(torch.uint8)
        occupied = torch.cat((positive.amax(2), positive.amax(1)), 1).cpu().numpy()
        return [self._one(mask, *np.split(marks, [logits.shape[1]])) for mask, marks in zip(logits.float(), occupied)]

    def boxes(self, logits: Tensor) -> npt.NDArray[np.float64]:
        """Boxes of N masks, to the cell: x1, y1, x2, y2, pixels of the image ``[N, 4]``; of an empty mask 0."""
        positive = logits > 0
        occupied = torch.cat((positive.any(2), positive.any(1)), 1).cpu().numpy()
        corners = np.zeros((len(logits), 4))
        for axis, marks in enumerate(np.split(occupied, [logits.shape[1]], 1)):
            ends = marks.argmax(1), marks.shape[1] - marks[:, ::-1].argmax(1)
            for corner, end in zip((1 - axis, 3 - axis), ends):
                corners[:, corner] = np.minimum(self._pixels[axis] * end, self.image_size[axis])
        return corners * occupied.any(1, keepdims=True)

    def _one(self, logits: Tensor, rows: npt.NDArray[np.uint8], columns: npt.NDArray[np.uint8]) -> RunLengths:
        if not rows.any():
            return RunLengths(self.image_size)
        (y, used_rows), (x, used_columns) = (
            reach.of(np.flatnonzero(marks)) for reach, marks in zip(self._reaches, (rows, columns))
        )
        vertical, horizontal = self._matrices[0][y, used_rows], self._matrices[1][x, used_columns]
        part = run_lengths.encode((vertical @ logits[used_rows, used_columns] @ horizontal.T > 0).cpu().numpy())
        if not part.area:
            return RunLengths(self.image_size)
        left, top, width, height = part.box
        return RunLengths(self.image_size, (x.start + left, y.start + top, width, height), part.runs)


class _Reach:
    """Which outputs of a resize a range of its inputs touches, and which inputs those outputs need.

    Args:
        used: bool ``[outputs, inputs]``: whether an input has weight in an output.
    """

    def __init__(self, used: npt.NDArray[np.bool_]) -> None:
        self._inputs = used.argmax(1), used.shape[1] - used[:, ::-1].argmax(1)
        self._touched = used

    def of(self, marks: npt.NDArray[np.intp]) -> tuple[slice, slice]:
        """Outputs and inputs for the marked inputs, in ascending order."""
        outputs = np.flatnonzero(self._touched[:, marks[0] : marks[-1] + 1].any(1))
        if not len(outputs):  # the marks lie in the padding
            return slice(0, 1), slice(int(self._inputs[0][0]), int(self._inputs[1][0]))
        first, last = int(outputs[0]), int(outputs[-1])
        return slice(first, last + 1), slice(int(self._inputs[0][first]), int(self._inputs[1][last]))


def _resize_matrix(mask: int, padded: int, resized: int, image: int) -> Tensor:
    """Weights ``[image, mask]`` of both resizes along one axis."""
    enlarged = F.interpolate(torch.eye(mask)[None], padded, mode="linear", align_corners=False)[..., :resized]
    return F.interpolate(enlarged, image, mode="linear", align_corners=False)[0].T.contiguous()
