"""What training takes: a few frames with instance masks whose identities are known, and where they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """A few frames of one size with instance masks whose identities are known.

    Attributes:
        images: uint8 ``[T, H, W, 3]`` RGB.
        masks: bool ``[N, T, H, W]``, what is visible of each instance; all False in a frame where it is not seen.
        labels: int64 ``[N]``, from 0.
        exhaustive: bool ``[C]``, whether every visible object of that class has a mask; where not, a prediction without
            a match is no error.
        ignore_masks: bool ``[M, T, H, W]``, regions (crowds, cut remains) in which predictions of `ignore_labels` are
            no error.
        ignore_labels: int64 ``[M]``.
    """

    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    exhaustive: npt.NDArray[np.bool_]
    ignore_masks: npt.NDArray[np.bool_]
    ignore_labels: npt.NDArray[np.int64]


class ClipSource(Protocol):
    """What training clips are drawn from."""

    def __len__(self) -> int:
        """Number of videos or images."""

    def clip(self, index: int, random: np.random.Generator) -> TrainingClip:
        """A clip of item `index`: the same for the same arguments.

        Raises:
            InputError: an image of the item cannot be read.
        """
