"""How near the answers of an exported network are to those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_masks

from vis_core.errors import ExportError
from vis_core.masks import to_coco
from vis_core.nn.matching import linear_sum_assignment
from vis_core.structures import Instances

SCORE_BOUND, IOU_BOUND = 1e-4, 0.999
"""What an export in float32 must hold: largest difference of scores, least IoU of masks."""


@dataclass(frozen=True)
class Proof:
    """The answers to some frames, compared.

    Attributes:
        frames: that were compared.
        instances: that PyTorch saw in them.
        unmatched: instances of either that the other has not, with a mask that overlaps by half and of its class.
        score_difference: the largest of those that match.
        mask_iou: the least of those that match.
        mask_iou_5th_percentile: of those that match.
        ids_equal: whether the same instances continue the same tracks, however numbered.
    """

    frames: int
    instances: int
    unmatched: int
    score_difference: float
    mask_iou: float
    mask_iou_5th_percentile: float
    ids_equal: bool

    def stated(self) -> dict[str, Any]:
        """As it stands in a file."""
        return asdict(self)

    def check(self) -> None:
        """See that it is what an export in float32 must be.

        Raises:
            ExportError: it is not.
        """
        right = self.score_difference <= SCORE_BOUND and self.mask_iou >= IOU_BOUND
        if self.unmatched or not right or not self.ids_equal:
            raise ExportError(
                f"the exported network does not answer as PyTorch does: {self.stated()}, where scores may differ by "
                f"{SCORE_BOUND} and masks must overlap by {IOU_BOUND}; nothing was written"
            )


def prove(plain: Sequence[Instances], exported: Sequence[Instances]) -> Proof:
    """Compare the answers of PyTorch and of an exported network to the same frames."""
    scores, overlaps, unmatched, count, ids_equal = [0.0], [1.0], 0, 0, True
    names: dict[int, int] = {}
    for one, other in zip(plain, exported, strict=True):
        first, second = ([i for i, mask in enumerate(x.masks) if mask.area] for x in (one, other))
        count += len(first)
        overlap = _overlap(one, first, other, second)
        same_class = one.labels[first][:, None] == other.labels[second][None]
        near = np.abs(one.scores[first][:, None] - other.scores[second][None])
        rows, columns = linear_sum_assignment(np.where(same_class, overlap - 0.01 * near, -1), maximize=True)
        pairs = [(i, j) for i, j in zip(rows, columns) if same_class[i, j] and overlap[i, j] >= 0.5]
        unmatched += len(first) + len(second) - 2 * len(pairs)
        for i, j in pairs:
            scores.append(float(near[i, j]))
            overlaps.append(float(overlap[i, j]))
            track, own = int(one.track_ids[first[i]]), int(other.track_ids[second[j]])
            ids_equal &= names.setdefault(track, own) == own
    ids_equal &= len(set(names.values())) == len(names)
    return Proof(
        len(plain), count, unmatched, max(scores), min(overlaps), float(np.percentile(overlaps, 5)), bool(ids_equal)
    )


def _overlap(one: Instances, first: Sequence[int], other: Instances, second: Sequence[int]) -> npt.NDArray[np.float64]:
    """IoU of the masks of some rows of each, ``[N, M]``."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    sides = ([to_coco(x.masks[i]) for i in rows] for x, rows in ((one, first), (other, second)))
    return np.asarray(coco_masks.iou(*sides, [0] * len(second)), np.float64).reshape(len(first), len(second))
