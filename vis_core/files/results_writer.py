"""Writing YouTube-VIS ``results.json`` from a stream of instances, in flat memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO

import numpy as np

from vis_core import masks
from vis_core.errors import InputError
from vis_core.files.appended import AppendedFile
from vis_core.files.atomic import atomic_write
from vis_core.files.results_info import ResultsInfo, info_path, write_info
from vis_core.structures import Instances

_SEGMENTATION = b'"segmentation": '


@dataclass(slots=True)
class _Track:
    last_row: int
    has_pixels: bool


class ResultsWriter:
    """Collects the instances of videos and writes one entry a track when closed.

    An entry: ``video_id``, ``category_id``, ``category_name`` where ``info`` has it, ``score`` (running score of the
    track when it was last seen), ``track_id``, and ``segmentations``, one a frame: compressed run lengths at the
    original size, or null where it has no pixel.
    A track that never has one gets no entry.

    Rows go to ``rows_path`` as they come, one JSON line a mask; a frame is there whole or not at all. On closing the
    entries are put together from them, track by track, under a temporary name that is then renamed. Where that fails
    (a full disk), the rows stay.

    Args:
        path: of ``results.json``.
        category_ids: category id of each label; default: label + 1.
        info: for the companion beside it, ``results.info.json``; those of its videos that came are told, with their
            lengths. None: no companion is written, and one of former results is removed.
        kept: rows of an earlier run to go on from: how many bytes of them, and the length of each of their videos.

    Attributes:
        keep_rows: the rows stay beside ``results.json``, for a run that goes on from them.

    Raises:
        OSError: a file cannot be written.
        InputError: the rows to go on from are not sound.
    """

    def __init__(
        self,
        path: str | Path,
        category_ids: Sequence[int] | None = None,
        info: ResultsInfo | None = None,
        kept: tuple[int, Mapping[int, int]] = (0, MappingProxyType({})),
    ) -> None:
        self.path = Path(path)
        self.info = info
        self.rows_path = self.path.with_name(f"{self.path.name}.rows.jsonl")
        self.category_ids = None if category_ids is None else tuple(category_ids)
        self.keep_rows = False
        end, lengths = kept
        self._lengths = dict(lengths)
        self._rows = AppendedFile(self.rows_path, end, named=self.path)
        self._tracks: dict[int, dict[int, _Track]] = {}
        if end:
            self._read_rows()

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def rows_end(self) -> int:
        """Size of the rows that stand, bytes."""
        return self._rows.end

    @property
    def bytes_to_come(self) -> int:
        """Disk space that closing will need, about."""
        nulls = sum(len(tracks) * self._lengths.get(video, 0) for video, tracks in self._tracks.items())
        return self._rows.end + 6 * nulls

    def track_count(self, video_id: int) -> int:
        """Number of tracks of a video that have had a mask."""
        return sum(track.has_pixels for track in self._tracks.get(video_id, {}).values())

    def add(self, video_id: int, position: int, instances: Instances) -> None:
        """Take the instances of one frame.

        Args:
            video_id: of the video; videos may come in any order.
            position: of the frame in its video, from 0; of two with the same position the later counts.

        Raises:
            InputError: a negative position, a score that is no number, or a label without a category id.
            OSError: the rows cannot be written; those of earlier frames stay sound.
        """
        if position < 0:
            raise InputError(f"results of video {video_id}: position {position} is negative")
        tracks = self._tracks.setdefault(video_id, {})
        self._lengths[video_id] = max(self._lengths.get(video_id, 0), position + 1)
        place = f"results of video {video_id}, frame {position}"
        lines: list[bytes] = []
        changed: dict[int, _Track] = {}
        end = self._rows.end
        for row in np.flatnonzero(instances.visible):
            track_id, mask = int(instances.track_ids[row]), instances.masks[row]
            before = changed.get(track_id) or tracks.get(track_id)
            entry = {
                "previous": before.last_row if before else -1,
                "video_id": video_id,
                "position": position,
                "track_id": track_id,
                "category_id": self.category_of(int(instances.labels[row]), place),
                "score": _finite(float(instances.track_scores[row]), video_id, position, track_id),
                "segmentation": masks.to_coco(mask) if mask.area else None,
            }
            line = json.dumps(entry).encode("ascii") + b"\n"
            changed[track_id] = _Track(end, bool(mask.area or (before and before.has_pixels)))
            lines.append(line)
            end += len(line)
        self._rows.append(b"".join(lines))
        tracks.update(changed)

    def finish_video(self, video_id: int, length: int) -> None:
        """State the number of frames of a video; without it a video ends with the last frame that came.

        Raises:
            InputError: there have been frames beyond it.
        """
        if length < self._lengths.get(video_id, 0):
            last = self._lengths[video_id] - 1
            raise InputError(f"results of video {video_id}: length {length}, but there was a frame {last}")
        self._lengths[video_id] = length

    def close(self) -> None:
        """Write ``results.json`` and its companion; the rows are removed once they stand. Closing again does nothing.

        Raises:
            OSError: it cannot be written; the rows stay, and the error names them.
        """
        if self._rows.closed:
            return
        self._rows.close()
        try:
            with (
                self.rows_path.open("rb") as rows,
                atomic_write(self.path) as partial,
                partial.open("wb") as out,
            ):
                self._write_entries(rows, out)
            self._write_info()
        except OSError as error:
            reason = f"{error.strerror}; what was found is in {self.rows_path}, one JSON line a mask"
            raise OSError(error.errno, reason, str(self.path)) from error
        if not self.keep_rows:
            self.rows_path.unlink(missing_ok=True)

    def _read_rows(self) -> None:
        """Take the rows that are kept as if they had just come."""
        at = 0
        try:
            with self.rows_path.open("rb") as rows:
                while at < self._rows.end:
                    line = rows.readline()
                    row = json.loads(line)
                    tracks = self._tracks.setdefault(row["video_id"], {})
                    before = tracks.get(row["track_id"])
                    has_pixels = row["segmentation"] is not None or (before is not None and before.has_pixels)
                    tracks[row["track_id"]] = _Track(at, has_pixels)
                    at += len(line)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.rows_path}: not sound at byte {at}: {error}; begin anew") from None

    def _write_info(self) -> None:
        info_path(self.path).unlink(missing_ok=True)  # of former results: with these it would be wrong
        if self.info is not None:
            came = [video for video in self.info.videos if video.id in self._lengths]
            videos = [replace(video, length=self._lengths[video.id]) for video in came]
            write_info(self.path, self.info.of_videos(*videos))

    def _write_entries(self, rows: BufferedReader, out: BinaryIO) -> None:
        separator = b"[\n"
        for video_id, tracks in self._tracks.items():
            for track_id in sorted(tracks):
                if not tracks[track_id].has_pixels:
                    continue
                last, offsets = _offsets(rows, tracks[track_id].last_row, self._lengths[video_id])
                name = None if self.info is None else self.info.categories.get(last["category_id"])
                head = {key: last[key] for key in ("video_id", "category_id")}
                head |= {} if name is None else {"category_name": name}
                head |= {key: last[key] for key in ("score", "track_id")}
                out.write(separator + json.dumps(head).encode("ascii")[:-1] + b', "segmentations": [')
                _write_segmentations(rows, offsets, out)
                out.write(b"]}")
                separator = b",\n"
        out.write(b"[]\n" if separator == b"[\n" else b"\n]\n")

    def category_of(self, label: int, place: str = "results") -> int:
        """The category id of a label.

        Raises:
            InputError: it has none.
        """
        if self.category_ids is None:
            return label + 1
        if not 0 <= label < len(self.category_ids):
            raise InputError(f"{place}: label {label}, but there are {len(self.category_ids)} category ids")
        return self.category_ids[label]


def _finite(score: float, video_id: int, position: int, track_id: int) -> float:
    if not np.isfinite(score):
        raise InputError(f"results of video {video_id}, frame {position}, track {track_id}: score {score}")
    return score


def _offsets(rows: BufferedReader, last_row: int, length: int) -> tuple[dict[str, Any], array[int]]:
    """The last row of a track, and where the row of each frame begins (-1: none), following the rows back."""
    offsets = array("q", [-1]) * length
    last: dict[str, Any] = {}
    at = last_row
    while at >= 0:
        rows.seek(at)
        row = json.loads(rows.readline())
        last = last or row
        if offsets[row["position"]] < 0:
            offsets[row["position"]] = at
        at = row["previous"]
    return last, offsets


def _write_segmentations(rows: BufferedReader, offsets: array[int], out: BinaryIO) -> None:
    for position, at in enumerate(offsets):
        segmentation = b"null"
        if at >= 0:
            rows.seek(at)
            line = rows.readline()
            segmentation = line[line.index(_SEGMENTATION) + len(_SEGMENTATION) : -2]
        out.write(b", " + segmentation if position else segmentation)
