"""Segmentations of JSON files, read into compressed run lengths and areas.

Compressed texts are checked many at a time: a reader takes all frames of a track, and fills in the areas later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vis_core.files import run_lengths
from vis_core.files.findings import is_number, shown
from vis_core.files.polygons import read_polygons

_BATCH_CHARACTERS = 1 << 17

Masks = list[bytes | None]
Areas = npt.NDArray[np.int64]


class Notes(Protocol):
    """Where faults go: `Findings`, or whoever counts and goes on."""

    def error(self, entry: str, text: str, *, index: int = -1, frame: int | None = None) -> None:
        """A mask that cannot be used: its annotation, and what is wrong."""

    def warn(self, kind: str, entry: str, text: str, *, frame: int | None = None) -> None:
        """A mask that is odd."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A track whose texts wait for their check, up to the position ``end`` among all that wait."""

    masks: Masks
    areas: Areas
    size: tuple[int, int]
    entry: str
    index: int
    end: int


@dataclass(frozen=True, slots=True)
class _PlainRuns:
    """A mask given as a list of runs, which waits for its check and to be compressed."""

    masks: Masks
    areas: Areas
    frame: int
    runs: list[Any]
    size: tuple[int, int]
    entry: str
    index: int


class SegmentationReader:
    """Reads the segmentations of one file.

    Args:
        findings: where errors go.
        polygons: whether a segmentation may be a list of polygons.
        frames: whether messages name the frame.
    """

    def __init__(self, findings: Notes, *, polygons: bool, frames: bool = True) -> None:
        self._findings = findings
        self._polygons = polygons
        self._frames = frames
        # Compressed texts that wait for their check, their frames, and the tracks that they belong to, in this order.
        self._texts: list[bytes] = []
        self._text_frames: list[int] = []
        self._tracks: list[_Waiting] = []
        self._runs: list[_PlainRuns] = []
        self._characters = 0

    def add_track(
        self, segmentations: Sequence[Any], size: tuple[int, int], entry: str, index: int
    ) -> tuple[Masks, Areas]:
        """Masks and areas of the frames of a track; complete after ``finish``.

        Args:
            segmentations: one a frame: null, an empty list (of empty lists), run lengths, or polygons.
            size: height and width of the video.
            entry: the track, for messages.
            index: its place in the file, for the order of messages.

        Returns:
            The compressed run lengths (None where there is no mask), and int64 ``[frames]`` areas (-1 there,
            and where an error was told).
        """
        masks: Masks = [None] * len(segmentations)
        areas = np.full(len(segmentations), -1, np.int64)
        if not self._take_alike(segmentations, masks, areas, size, entry, index):
            for frame, segmentation in enumerate(segmentations):
                self._take(segmentation, masks, areas, frame, size, entry, index)
        self._tracks.append(_Waiting(masks, areas, size, entry, index, len(self._texts)))
        if self._characters > _BATCH_CHARACTERS:
            self.finish()
        return masks, areas

    def _take_alike(
        self, segmentations: Sequence[Any], masks: Masks, areas: Areas, size: tuple[int, int], entry: str, index: int
    ) -> bool:
        """Take a track as nearly all are: masks written alike, as run lengths of the right size; or return False."""
        given = [segmentation for segmentation in segmentations if segmentation is not None]
        if set(map(type, given)) != {dict}:
            return False
        if [segmentation.get("size") for segmentation in given].count([size[0], size[1]]) != len(given):
            return False
        counts = [segmentation.get("counts") for segmentation in given]
        kinds = set(map(type, counts))
        frames = [frame for frame, segmentation in enumerate(segmentations) if segmentation is not None]
        if kinds == {str}:
            texts = [text.encode("latin-1", "replace") for text in counts]
            for frame, text in zip(frames, texts, strict=True):
                masks[frame] = text
            self._texts += texts
            self._text_frames += frames
        elif kinds == {list}:
            self._runs += [
                _PlainRuns(masks, areas, frame, runs, size, entry, index)
                for frame, runs in zip(frames, counts, strict=True)
            ]
        else:
            return False
        self._characters += sum(map(len, counts))
        return True

    def _take(
        self,
        segmentation: Any,
        masks: Masks,
        areas: Areas,
        frame: int,
        size: tuple[int, int],
        entry: str,
        index: int,
    ) -> None:
        if segmentation is None or (isinstance(segmentation, list) and all(part == [] for part in segmentation)):
            return
        if isinstance(segmentation, dict):
            if not self._check_size(segmentation, size, entry, index, frame):
                return
            counts = segmentation.get("counts")
            if isinstance(counts, str):
                # A character outside latin-1 is no legal one either; what replaces it is refused later.
                counts = counts.encode("latin-1", "replace")
            if isinstance(counts, bytes):
                masks[frame] = counts
                self._texts.append(counts)
                self._text_frames.append(frame)
                self._characters += len(counts)
            elif isinstance(counts, list):
                self._runs.append(_PlainRuns(masks, areas, frame, counts, size, entry, index))
                self._characters += len(counts)
            else:
                given = "counts missing" if counts is None else f"counts {shown(counts)}; give a text or a list of runs"
                self._error(entry, index, frame, given)
        elif isinstance(segmentation, list) and self._polygons:
            self._read_polygons(segmentation, masks, frame, size, entry, index)
        else:
            wanted = "run lengths or polygons" if self._polygons else "run lengths {size, counts}"
            hint = " (not its text)" if isinstance(segmentation, str) and segmentation[:1] in ("[", "{") else ""
            self._error(entry, index, frame, f"segmentation {shown(segmentation)}; give {wanted}{hint} or null")

    def finish(self) -> None:
        """Check and encode what still waits."""
        texts, tracks = self._texts, self._tracks
        frames = np.array(self._text_frames, np.int64)
        runs = self._runs
        self._texts, self._text_frames, self._tracks, self._runs, self._characters = [], [], [], [], 0
        if runs:
            self._compress(runs)
        if not texts:
            return
        ends = np.array([track.end for track in tracks])
        pixels = np.repeat([track.size[0] * track.size[1] for track in tracks], np.diff(ends, prepend=0))
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        total = lengths.cumsum()
        begin = 0
        while begin < len(texts):
            limit = _BATCH_CHARACTERS + (int(total[begin - 1]) if begin else 0)
            end = max(begin + 1, int(np.searchsorted(total, limit, side="right")))
            checked = run_lengths.check_texts(b"".join(texts[begin:end]), lengths[begin:end], pixels[begin:end])
            areas = np.where(checked.status == run_lengths.GOOD, checked.areas, -1)
            first, last = np.searchsorted(ends, (begin, end - 1), side="right").tolist()
            for track in range(first, last + 1):
                low, high = max(begin, int(ends[track - 1]) if track else 0), min(end, int(ends[track]))
                tracks[track].areas[frames[low:high]] = areas[low - begin : high - begin]
            for position in np.flatnonzero((checked.status != run_lengths.GOOD) | checked.zero_inside).tolist():
                at = begin + position
                waiting = tracks[int(np.searchsorted(ends, at, side="right"))]
                self._mend(waiting, int(frames[at]), texts[at], checked, position)
            begin = end

    def _mend(self, track: _Waiting, frame: int, text: bytes, checked: run_lengths.CheckedTexts, position: int) -> None:
        """Merge the zero runs of a mask away, or tell what is wrong with it."""
        status = int(checked.status[position])
        if status == run_lengths.GOOD:
            runs = run_lengths.merge_zero_runs(run_lengths.decode_text(text))
            (track.masks[frame],) = run_lengths.encode_runs(runs, np.array([runs.size]))
        elif status == run_lengths.WRONG_SUM:
            self._wrong_sum(track.entry, track.index, frame, int(checked.sums[position]), track.size)
        else:
            counts = text.decode("latin-1")
            reason = f"counts {shown(counts)} {run_lengths.REASONS[status]}{_meant(counts)}"
            self._error(track.entry, track.index, frame, reason)

    def _check_size(
        self, segmentation: dict[str, Any], size: tuple[int, int], entry: str, index: int, frame: int
    ) -> bool:
        given = segmentation.get("size")
        if _is_size(given, size):
            return True
        wanted = f"the video is [{size[0]}, {size[1]}] (height, width)"
        text = f"size {shown(given)}, but {wanted}" if "size" in segmentation else f"size is missing; {wanted}"
        self._error(entry, index, frame, text)
        return False

    def _compress(self, masks: list[_PlainRuns]) -> None:
        """Check lists of runs and compress them."""
        lists = [mask.runs for mask in masks]
        flat = _sound_runs(lists, np.array([mask.size[0] * mask.size[1] for mask in masks]))
        if flat is None:
            looked_at = [(mask, runs) for mask in masks if (runs := self._plain_runs(mask)) is not None]
            masks, lists = [mask for mask, _ in looked_at], [runs for _, runs in looked_at]
            flat = np.array(list(chain.from_iterable(lists)), np.int64)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        starts = lengths.cumsum() - lengths
        foreground = np.arange(flat.size) - np.repeat(starts, lengths) & 1
        areas = np.add.reduceat(flat * foreground, starts) if masks else starts
        for mask, text, area in zip(masks, run_lengths.encode_runs(flat, lengths), areas.tolist(), strict=True):
            mask.masks[mask.frame] = text
            mask.areas[mask.frame] = area

    def _plain_runs(self, mask: _PlainRuns) -> list[int] | None:
        """The runs of a mask, without those of length zero inside; or None, and what is wrong is told."""
        runs, size, place = mask.runs, mask.size, (mask.entry, mask.index, mask.frame)
        if set(map(type, runs)) - {int}:
            odd = next((v for v in runs if type(v) is not int and not (type(v) is float and v.is_integer())), None)
            if odd is not None or None in runs:
                self._error(*place, f"counts hold {shown(odd)}; runs are integers")
                return None
            text = "counts hold whole floats; taken as integers"
            self._warn(mask.entry, mask.frame, "counts written as floats", text)
            runs = [int(run) for run in runs]
        total = sum(runs)
        if runs and min(runs) < 0:
            self._error(*place, f"counts hold a negative run, {shown(min(runs))}")
        elif total != size[0] * size[1]:
            self._wrong_sum(*place, total, size)
        else:
            merged: list[int] = run_lengths.merge_zero_runs(np.array(runs, np.int64)).tolist()
            return merged
        return None

    def _read_polygons(
        self,
        polygons: list[Any],
        masks: Masks,
        frame: int,
        size: tuple[int, int],
        entry: str,
        index: int,
    ) -> None:
        read = read_polygons(polygons, size)
        if isinstance(read, str):
            self._error(entry, index, frame, read)
            return
        for kind, text in read.oddities:
            self._warn(entry, frame, kind, text)
        masks[frame] = encoded = run_lengths.encode_polygons(read.parts, size)
        self._texts.append(encoded)
        self._text_frames.append(frame)
        self._characters += len(encoded)

    def _wrong_sum(self, entry: str, index: int, frame: int, total: int, size: tuple[int, int]) -> None:
        pixels = size[0] * size[1]
        self._error(entry, index, frame, f"counts sum to {shown(total)}, but {size[0]} x {size[1]} is {pixels} pixels")

    def _error(self, entry: str, index: int, frame: int, text: str) -> None:
        self._findings.error(entry, text, index=index, frame=frame if self._frames else None)

    def _warn(self, entry: str, frame: int, kind: str, text: str) -> None:
        self._findings.warn(kind, entry, text, frame=frame if self._frames else None)


def _sound_runs(lists: Sequence[list[Any]], pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """The runs of many masks, one after the other, if nothing is odd in any of them.

    Args:
        lists: runs of each mask.
        pixels: int64 ``[N]``, pixels of the image of each.
    """
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    if not lengths.all() or set(map(type, chain.from_iterable(lists))) != {int}:
        return None
    try:
        runs = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
    except OverflowError:
        return None
    starts = lengths.cumsum() - lengths
    within = runs.min() >= 0 and runs.max() <= run_lengths.MAX_PIXELS
    if not within or (np.add.reduceat(runs, starts) != pixels).any():
        return None
    return None if np.count_nonzero(runs) + np.count_nonzero(runs[starts] == 0) < runs.size else runs


def _meant(counts: str) -> str:
    """What a text that is no compressed run lengths was probably meant to be."""
    if counts[:1] == "[" and counts[-1:] == "]":
        return "; it is the text of a list: give the list itself"
    if counts[:2] in ("b'", 'b"'):
        return "; it is Python's text of bytes: write counts.decode()"
    return "; runs as numbers are given as a list" if counts[:1].isdigit() and {" ", ","} & {*counts} else ""


def _is_size(given: Any, size: tuple[int, int]) -> bool:
    """Whether a size that is not a list of integers still says the size of the video (a tuple, whole floats)."""
    return (
        isinstance(given, (list, tuple))
        and len(given) == 2
        and all(is_number(value) for value in given)
        and tuple(given) == size
    )
