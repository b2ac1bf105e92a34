"""Recorded streams: what a node published, with stamps and arrival times, one JSON line a message."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.class_matching import ClassMatching
from vis_core.data.file_time import recorded_from
from vis_core.errors import InputError
from vis_core.evaluation.inputs.classes import ResultClasses
from vis_core.evaluation.inputs.tracks import GroundTruth, Video
from vis_core.files.findings import Findings, is_integer, is_number, shown
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.redundancy import Redundancy
from vis_core.files.results_info import read_info
from vis_core.files.segmentations import Areas, Masks, SegmentationReader


@dataclass(frozen=True, slots=True)
class StreamedTrack:
    """One track in one message.

    Attributes:
        track_id: its identity.
        category: id of its category in this message.
        score: in this message.
        mask: COCO's compressed run lengths, or None.
        area: foreground pixels, -1 without a mask.
    """

    track_id: int
    category: int
    score: float
    mask: bytes | None
    area: int


@dataclass(frozen=True, slots=True)
class Message:
    """What was published for one frame.

    Attributes:
        stamp: of the frame, nanoseconds.
        arrival: when it was received, nanoseconds, on the clock of the stamps.
        frame: position in its video, as the message says or else by its stamp; None: it is no frame of it.
        tracks: all that it holds.
    """

    stamp: int
    arrival: int
    frame: int | None
    tracks: tuple[StreamedTrack, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """A recorded stream: its messages in file order, what is odd in it, and, for whom does not ignore them, in its
    categories; and how its classes were matched, as of ``Results``."""

    messages: tuple[Message, ...]
    warnings: tuple[str, ...] = ()
    category_warnings: tuple[str, ...] = ()
    classes: ClassMatching | None = None


def streamed_video(ground_truth: GroundTruth) -> tuple[Video, npt.NDArray[np.int64]]:
    """The video that a stream is scored on, and the stamps of its frames, nanoseconds.

    Raises:
        InputError: not exactly one video, or one without stamps.
    """
    if len(ground_truth.videos) != 1:
        raise InputError(f"ground truth videos: {len(ground_truth.videos)} of them; a stream is scored on exactly one")
    (video,) = ground_truth.videos.values()
    if video.stamps is None or not video.length:
        raise InputError("ground truth videos[0]: stamps missing; give the time of each frame in nanoseconds")
    return video, video.stamps


def read_stream(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    ground_truth: GroundTruth,
    categories: Mapping[str, str] | None = None,
) -> Stream:
    """Read and check a recorded stream.

    A message tells its ``frame``, the position in the video (-1: none), or is found by its stamp; where stamps repeat,
    by its ``sequence``, if that counts as many messages as the video has frames. Of a recording that was made of a file
    stamps and arrivals are told in the file's time, see `file_time`.

    Args:
        source: path of a file with one JSON object a line, or these objects.
        ground_truth: of the one video that was streamed.
        categories: as of ``read_results``; the companion of ``stream.jsonl`` is ``stream.info.json``.

    Raises:
        InputError: the stream is not usable; the text names all errors, up to 20.
    """
    video, stamps = streamed_video(ground_truth)
    path, info = None, None
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        lines = enumerate(read_text(source, "stream", may_be_empty=True).split("\n"), 1)
        content = [(n, parse_json(line, path, f"stream line {n}")) for n, line in lines if line.strip()]
        info = read_info(source)
    else:
        content = list(enumerate(source, 1))
    classes = ResultClasses(path, info, _category_ids(content), ground_truth.categories, categories)
    reader = _Reader(path, video, stamps, classes)
    if _is_counted(content, video.length):
        reader.warn_of_counting()
        content = _counted(content, stamps)
    for number, message in content:
        reader.add_message(message, number)
    return reader.finish(ground_truth)


def _is_counted(content: Sequence[tuple[int, Any]], length: int) -> bool:
    """Whether sequence numbers tell the frames: stamps do not, and they count as many messages as there are frames."""
    messages = [message for _, message in content]
    if not all(isinstance(message, Mapping) and "frame" not in message for message in messages):
        return False
    columns = [[message.get(key) for message in messages] for key in ("sequence", "stamp", "arrival")]
    if not messages or not all(is_integer(value) for column in columns for value in column):
        return False
    numbers, stamps, _ = columns
    growing = all(before < after for before, after in pairwise(numbers))
    return growing and numbers[0] >= 0 and numbers[-1] == length - 1 and len(set(stamps)) < len(stamps)


def _counted(
    content: Sequence[tuple[int, Mapping[str, Any]]], stamps: npt.NDArray[np.int64]
) -> list[tuple[int, Mapping[str, Any]]]:
    """The messages under frame and stamp of their sequence numbers, each as late as it was.

    Of a camera that stamps nothing the first message counts as not late.
    """
    first = content[0][1]
    began = first["arrival"] - int(stamps[first["sequence"]])
    counted: list[tuple[int, Mapping[str, Any]]] = []
    for number, message in content:
        own, stamp = int(stamps[message["sequence"]]), message["stamp"]
        arrival = message["arrival"] - (stamp - own if stamp else began)
        counted.append((number, {**message, "frame": message["sequence"], "stamp": own, "arrival": arrival}))
    return counted


def _category_ids(content: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    """What stands for the category ids of a stream that is not checked yet."""
    for _, message in content:
        tracks = message.get("tracks") if isinstance(message, Mapping) else None
        yield from (t.get("category_id") for t in tracks if isinstance(t, Mapping)) if isinstance(tracks, list) else ()


class _Reader:
    def __init__(self, path: str | None, video: Video, stamps: npt.NDArray[np.int64], classes: ResultClasses) -> None:
        self._findings = findings = Findings(path, "stream")
        self._category_findings = Findings(path, "stream")
        self._video = video
        self._classes = classes
        self._recorded_from = recorded_from(stamps)
        self._frames = {stamp: frame for frame, stamp in enumerate(stamps.tolist())}
        self._lines: dict[int, int] = {}
        self._segmentations = SegmentationReader(findings, polygons=False, frames=False)
        self._redundancy = Redundancy(findings, predicted=True)
        self._read: list[tuple[int, int, int | None, list[tuple[int, int, float, Masks, Areas]]]] = []

    def warn_of_counting(self) -> None:
        """Tell that frames are found by sequence numbers."""
        text = "stamps repeat; there are as many sequence numbers as frames, so message k is taken as that of frame k"
        self._findings.warn("sequence", "", f"{text}; of stamps 0, times count from the first arrival")

    def add_message(self, message: Any, number: int) -> None:
        """Take the message of a line."""
        place = f"line {number}"
        if not isinstance(message, Mapping):
            text = f"{shown(message)} instead of an object with stamp, arrival, tracks"
            self._findings.error(place, text, index=number)
            return
        times = []
        for key in ("stamp", "arrival"):
            value = message.get(key)
            if is_integer(value) and 0 <= value < 2**63:
                times.append(value)
            else:
                found = f"{key} {shown(value)} is not a time in nanoseconds" if key in message else f"{key} is missing"
                self._findings.error(place, found, index=number)
        if len(times) == 2 and min(times) >= self._recorded_from:
            times = [time - self._recorded_from for time in times]
        tracks = message.get("tracks")
        if not isinstance(tracks, list):
            found = f"tracks {shown(tracks)} instead of a list" if "tracks" in message else "tracks is missing"
            self._findings.error(place, found, index=number)
            return
        if len(times) == 2 and times[1] < times[0]:
            self._findings.warn("clock", place, "arrival is before stamp: were two clocks mixed?")
        read = []
        seen: dict[int, int] = {}
        for position, track in enumerate(tracks):
            one = self._track(track, f"{place} tracks[{position}]", number)
            if one is not None:
                if seen.setdefault(one[0], position) != position:
                    text = f"track_id {one[0]} stands in tracks[{seen[one[0]]}] too"
                    self._findings.error(f"{place} tracks[{position}]", text, index=number)
                read.append(one)
        if len(times) == 2:
            self._read.append((times[0], times[1], self._frame(message, times[0], place, number), read))

    def _frame(self, message: Mapping[str, Any], stamp: int, place: str, number: int) -> int | None:
        """The frame that a message is of; without one of its own, its stamp has to tell it from other messages."""
        if "frame" in message:
            frame, length = message["frame"], self._video.length
            if not is_integer(frame) or not -1 <= frame < length:
                text = f"frame {shown(frame)} is no position in a video of {length} frames, nor -1"
                self._findings.error(place, text, index=number)
                return None
            return frame if frame >= 0 else None
        first = self._lines.setdefault(stamp, number)
        if first != number and stamp == 0:
            text = f"stamp 0 as in line {first}: the camera stamps nothing, so frames cannot be told; "
            text += "stamp the images, or give each message its frame (its position in the video; -1: none)"
            self._findings.error(place, text, index=number)
        elif first != number:
            text = f"stamp {stamp} as in line {first}: of messages with one stamp the last counts as its frame"
            self._findings.warn("repeated", place, text)
        return self._frames.get(stamp)

    def finish(self, ground_truth: GroundTruth) -> Stream:
        """The stream.

        Raises:
            InputError: an error was found.
        """
        self._segmentations.finish()
        if not self._findings.has_errors and (refusal := self._redundancy.finish()):
            self._findings.error("", refusal)
        self._findings.raise_errors()
        messages = []
        for stamp, arrival, frame, tracks in self._read:
            for track in tracks:
                if track[1] not in ground_truth.categories and (why := self._classes.dropped(track[1])):
                    text = f"{why}; a track of it is dropped"
                    self._category_findings.warn(f"category {track[1]}", f"track_id {track[0]}", text)
            parts = tuple(
                StreamedTrack(track_id, category, score, masks[0], int(areas[0]))
                for track_id, category, score, masks, areas in tracks
            )
            messages.append(Message(stamp, arrival, frame, parts))
        if messages and all(message.frame is None for message in messages):
            text = "no message has the stamp of a frame of the ground truth; is it another recording?"
            self._findings.warn("stamps", "", text)
        if text := self._classes.without_class():
            self._category_findings.warn("classes", "", text)
        told, of_categories = self._findings.warnings(), self._category_findings.warnings()
        return Stream(tuple(messages), told, of_categories, self._classes.matching)

    def _track(self, track: Any, place: str, number: int) -> tuple[int, int, float, Masks, Areas] | None:
        if not isinstance(track, Mapping):
            self._findings.error(place, f"{shown(track)} instead of an object", index=number)
            return None
        good = True
        for key in ("track_id", "category_id"):
            if not is_integer(track.get(key)) or abs(track[key]) >= 2**63:
                found = f"{key} {shown(track[key])} is not an integer" if key in track else f"{key} is missing"
                self._findings.error(place, found, index=number)
                good = False
        if not is_number(track.get("score")):
            found = f"score {shown(track['score'])} is not a finite number" if "score" in track else "score is missing"
            self._findings.error(place, found, index=number)
            good = False
        if "segmentation" not in track:
            self._findings.error(place, "segmentation is missing; give run lengths or null", index=number)
            return None
        segmentations = [track["segmentation"]]
        masks, areas = self._segmentations.add_track(segmentations, self._video.size, place, number)
        self._redundancy.add(track, segmentations, masks, areas, self._video.size, place)
        if good and (problem := self._classes.problem(track["category_id"])):
            self._findings.error(place, problem, index=number)
            good = False
        if not good:
            return None
        return track["track_id"], self._classes.category(track["category_id"]), float(track["score"]), masks, areas
