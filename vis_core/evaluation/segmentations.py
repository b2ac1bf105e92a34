"""Segmentations of JSON files, read into compressed run lengths and areas.

Compressed texts are checked many at a time: a reader takes all frames of a track, and fills in the areas later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.evaluation import run_lengths
from vis_core.evaluation.findings import Findings, is_number, shown

_BATCH_CHARACTERS = 1 << 16
# pycocotools walks along the outline in memory, so its length must be bounded by the image.
_MOST_OUTLINE = 100
_MOST_COORDINATE = 10**6

Masks = list[bytes | None]
Areas = npt.NDArray[np.int64]


class SegmentationReader:
    """Reads the segmentations of one file.

    Args:
        findings: where errors go.
        polygons: whether a segmentation may be a list of polygons.
        frames: whether messages name the frame.
    """

    def __init__(self, findings: Findings, *, polygons: bool, frames: bool = True) -> None:
        self._findings = findings
        self._polygons = polygons
        self._frames = frames
        self._waiting: list[tuple[Masks, Areas, int, bytes, tuple[int, int], str, int]] = []
        self._characters = 0

    def read(self, segmentations: Sequence[Any], size: tuple[int, int], entry: str, index: int) -> tuple[Masks, Areas]:
        """Masks and areas of the frames of a track; complete after ``finish``.

        Args:
            segmentations: one a frame: null, an empty list, run lengths, or polygons.
            size: height and width of the video.
            entry: the track, for messages.
            index: its place in the file, for the order of messages.

        Returns:
            The compressed run lengths (None where there is no mask), and int64 ``[frames]`` areas (-1 there).
        """
        masks: Masks = [None] * len(segmentations)
        areas = np.full(len(segmentations), -1, np.int64)
        for frame, segmentation in enumerate(segmentations):
            if segmentation is None or (isinstance(segmentation, list) and not segmentation):
                continue
            if isinstance(segmentation, dict):
                self._read_runs(segmentation, masks, areas, frame, size, entry, index)
            elif isinstance(segmentation, list) and self._polygons:
                self._read_polygons(segmentation, masks, areas, frame, size, entry, index)
            else:
                wanted = "run lengths or polygons" if self._polygons else "run lengths {size, counts}"
                self._error(entry, index, frame, f"segmentation {shown(segmentation)}; give {wanted} or null")
        return masks, areas

    def finish(self) -> None:
        """Check what still waits."""
        waiting, self._waiting, self._characters = self._waiting, [], 0
        if not waiting:
            return
        pixels = np.array([item[4][0] * item[4][1] for item in waiting], np.int64)
        checked = run_lengths.check_texts([item[3] for item in waiting], pixels)
        areas_found = checked.areas.tolist()
        for position in np.flatnonzero((checked.status != run_lengths.GOOD) | checked.zero_inside).tolist():
            masks, _, frame, text, size, entry, index = waiting[position]
            status = int(checked.status[position])
            if status == run_lengths.GOOD:
                masks[frame] = run_lengths.encode_runs(run_lengths.merge_zero_runs(run_lengths.decode_text(text)), size)
            elif status == run_lengths.WRONG_SUM:
                self._wrong_sum(entry, index, frame, int(checked.sums[position]), size)
            else:
                reason = run_lengths.REASONS[status]
                self._error(entry, index, frame, f"counts {shown(text.decode('latin-1'))} {reason}")
        for (_, areas, frame, *_), area in zip(waiting, areas_found, strict=True):
            areas[frame] = area

    def _read_runs(
        self,
        segmentation: dict[str, Any],
        masks: Masks,
        areas: Areas,
        frame: int,
        size: tuple[int, int],
        entry: str,
        index: int,
    ) -> None:
        given = segmentation.get("size")
        if given != [size[0], size[1]] and not _is_size(given, size):
            wanted = f"the video is [{size[0]}, {size[1]}] (height, width)"
            text = f"size {shown(given)}, but {wanted}" if "size" in segmentation else f"size is missing; {wanted}"
            self._error(entry, index, frame, text)
            return
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            # A character outside latin-1 is no legal one either; what replaces it is refused below.
            counts = counts.encode("latin-1", "replace")
        if isinstance(counts, bytes):
            masks[frame] = counts
            self._waiting.append((masks, areas, frame, counts, size, entry, index))
            self._characters += len(counts)
            if self._characters > _BATCH_CHARACTERS:
                self.finish()
        elif isinstance(counts, list):
            self._read_plain_runs(counts, masks, areas, frame, size, entry, index)
        else:
            text = f"counts {shown(counts)}; give a text or a list of runs" if counts is not None else "counts missing"
            self._error(entry, index, frame, text)

    def _read_plain_runs(
        self,
        counts: list[Any],
        masks: Masks,
        areas: Areas,
        frame: int,
        size: tuple[int, int],
        entry: str,
        index: int,
    ) -> None:
        if set(map(type, counts)) - {int}:
            odd = next(value for value in counts if type(value) is not int)
            self._error(entry, index, frame, f"counts hold {shown(odd)}; runs are integers")
            return
        total = sum(counts)
        if counts and min(counts) < 0:
            self._error(entry, index, frame, f"counts hold a negative run, {shown(min(counts))}")
        elif total != size[0] * size[1]:
            self._wrong_sum(entry, index, frame, total, size)
        else:
            runs = np.array(counts, np.int64)
            areas[frame] = int(runs[1::2].sum())
            if not runs[1:].all():
                runs = run_lengths.merge_zero_runs(runs)
            masks[frame] = run_lengths.encode_runs(runs, size)

    def _read_polygons(
        self,
        polygons: list[Any],
        masks: Masks,
        areas: Areas,
        frame: int,
        size: tuple[int, int],
        entry: str,
        index: int,
    ) -> None:
        outline = 0.0
        outside = False
        for position, polygon in enumerate(polygons):
            if not isinstance(polygon, list):
                self._error(entry, index, frame, f"segmentation[{position}] {shown(polygon)} is not a polygon")
                return
            if len(polygon) < 6 or len(polygon) % 2:
                wanted = "give x and y of three points or more"
                self._error(entry, index, frame, f"polygon {position} has {len(polygon)} numbers; {wanted}")
                return
            odd = [value for value in polygon if not is_number(value) or abs(value) > _MOST_COORDINATE]
            if odd:
                self._error(entry, index, frame, f"polygon {position} holds {shown(odd[0])}; give pixels of the image")
                return
            points = np.array(polygon, np.float64).reshape(-1, 2)
            outline += float(np.abs(np.diff(points, axis=0, append=points[:1])).sum())
            outside |= bool((points < 0).any() or (points > (size[1], size[0])).any())
        if not math.isfinite(outline) or outline > _MOST_OUTLINE * (size[0] + size[1]):
            self._error(entry, index, frame, f"polygons with an outline of {outline:.0f} pixels; the video is smaller")
            return
        if outside:
            self._findings.warn("polygon", entry, "a polygon leaves the image; it is clipped", frame=frame)
        masks[frame], areas[frame] = run_lengths.encode_polygons(polygons, size)

    def _wrong_sum(self, entry: str, index: int, frame: int, total: int, size: tuple[int, int]) -> None:
        pixels = size[0] * size[1]
        self._error(entry, index, frame, f"counts sum to {shown(total)}, but {size[0]} x {size[1]} is {pixels} pixels")

    def _error(self, entry: str, index: int, frame: int, text: str) -> None:
        self._findings.error(entry, text, index=index, frame=frame if self._frames else None)


def _is_size(given: Any, size: tuple[int, int]) -> bool:
    """Whether a size that is not a list of integers still says the size of the video (a tuple, whole floats)."""
    return (
        isinstance(given, (list, tuple))
        and len(given) == 2
        and all(is_number(value) for value in given)
        and tuple(given) == size
    )
