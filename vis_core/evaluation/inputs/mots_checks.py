"""What two folders of MOTS text must have in common, and what MOTS asks of one file.

The text states neither where frames count from nor how many there are, so the two sides are held against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from vis_core.errors import InputError
from vis_core.files.findings import Findings
from vis_core.files.segmentations import Masks

# So many times better must a shift match where not all frames speak for it.
_CLEARLY = 2.0


@dataclass(frozen=True, slots=True)
class SequencePair:
    """One sequence of both sides.

    Attributes:
        truth_path, path: files of the ground truth and of the results.
        size: height and width, pixels.
        first_frame: number of the first frame in the files.
        truth, found: of each side the masks of its tracks, frame by frame.
    """

    truth_path: str
    path: str
    size: tuple[int, int]
    first_frame: int
    truth: Sequence[Masks]
    found: Sequence[Masks]

    @property
    def ranges(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The first and the last frame with a mask, as in the files: of the ground truth, of the results."""
        seen = [_seen(tracks) for tracks in (self.truth, self.found)]
        if not all(seen):
            return None
        (begin, end), (first, last) = [(frames[0] + self.first_frame, frames[-1] + self.first_frame) for frames in seen]
        return (begin, end), (first, last)

    def overlap(self, shift: int) -> float:
        """Sum of the IoUs of all pairs of masks, results ``shift`` frames later than they say."""
        total = 0.0
        for frame in _seen(self.found):
            wanted = [track[frame + shift] for track in self.truth if 0 <= frame + shift < len(track)]
            there = [mask for mask in wanted if mask is not None]
            if there:
                here = [track[frame] for track in self.found if track[frame] is not None]
                sides = [[{"size": [*self.size], "counts": mask} for mask in masks] for masks in (here, there)]
                total += float(coco_mask.iou(*sides, [0] * len(there)).sum())
        return total

    def told(self) -> str:
        """Both ranges of frames, as a message names them."""
        ranges = self.ranges
        assert ranges is not None
        (begin, end), (first, last) = ranges
        return f"frames {first} to {last}, but the ground truth {self.truth_path} has frames {begin} to {end}"


def compare_frames(pairs: Sequence[SequencePair]) -> list[str]:
    """Look whether both sides count their frames from the same number.

    Two things speak for a shift: a sequence begins and ends the same number of frames off, and one side begins with
    frame 0, the other with frame 1. With both it is believed if the masks match better, with one if far better.

    Returns:
        What is odd.

    Raises:
        InputError: the results are of other frames than the ground truth.
    """
    known = [(pair, pair.ranges) for pair in pairs]
    off = [
        (pair, begin - first, end - last)
        for pair, ranges in known
        if ranges
        for (begin, end), (first, last) in [ranges]
    ]
    if not off:
        return []
    exact = Counter(begin for _, begin, end in off if begin == end != 0)
    starts = [min(ranges[side][0] for _, ranges in known if ranges) for side in (0, 1)]
    conventions = sorted(starts) == [0, 1]
    if exact:
        shift = max(exact, key=lambda k: (exact[k], -abs(k)))
    elif conventions:
        shift = starts[0] - starts[1]
    else:
        return _without_common_frame([pair for pair, *_ in off])
    gains = [(pair, pair.overlap(shift), pair.overlap(0), begin == end == shift) for pair, begin, end in off]
    better = [(pair, both) for pair, moved, plain, both in gains if moved > plain]
    moved, plain = sum(row[1] for row in gains), sum(row[2] for row in gains)
    if moved > (1.0 if conventions and exact else _CLEARLY) * plain:
        pair = next((pair for pair, both in better if both), better[0][0])
        text = f"frame n of the results shows what frame n{shift:+d} of the ground truth does"
        raise InputError(
            f"{pair.path}: results: {pair.told()}; {text}: "
            "count the frames of both from the same number (0 in KITTI-MOTS, 1 in MOTSChallenge)"
        )
    suspects = [pair for pair, both in better if both or moved > plain]
    text = f"moved by {shift:+d} the masks match better: do both count from the same number?"
    return [f"{pair.path}: results: {pair.told()}; {text}" for pair in suspects]


def note_shared_pixels(
    tracks: Sequence[tuple[str, Masks]], size: tuple[int, int], first_frame: int, findings: Findings
) -> None:
    """Note as errors the masks of a frame that overlap: in MOTS a pixel is of one track at most.

    Args:
        tracks: name and masks of each, all of the same length.
        size: height and width, pixels.
        first_frame: number of the first frame.
        findings: where errors go.
    """
    for frame in range(max((len(masks) for _, masks in tracks), default=0)):
        here = [(name, {"size": [*size], "counts": masks[frame]}) for name, masks in tracks if masks[frame] is not None]
        items = [item for _, item in here]
        if len(items) < 2 or coco_mask.area(items).sum() == coco_mask.area(coco_mask.merge(items)):
            continue
        for i, j in np.argwhere(np.triu(coco_mask.iou(items, items, [0] * len(items)), 1)).tolist():
            pixels = int(coco_mask.area(coco_mask.merge([items[i], items[j]], intersect=True)))
            text = f"{here[i][0]} and {here[j][0]} share {pixels} pixels; in MOTS a pixel is of one track: cut one mask"
            findings.error(f"frame {frame + first_frame}", text, index=frame)


def _seen(tracks: Sequence[Masks]) -> list[int]:
    """The frames in which a track has a mask, ascending."""
    return sorted({frame for masks in tracks for frame, mask in enumerate(masks) if mask is not None})


def _without_common_frame(pairs: Sequence[SequencePair]) -> list[str]:
    """What to say where no sequence has a frame with masks of both sides."""
    if any(set(_seen(pair.truth)) & set(_seen(pair.found)) for pair in pairs):
        return []
    return [f"{pairs[0].path}: results: {pairs[0].told()}; no frame has masks of both: are they of one recording?"]
