"""Scores of a recorded stream: what was known when, how late, how often.

Four policies fill the frames of the ground truth from the messages of a stream:

* ``strict``: the message of the frame, else nothing: the one that says so, or has its stamp;
* ``hold``: the latest message stamped at or before the frame;
* ``live``: the message that arrived last by the time of the frame: what a planner knew at that moment;
* ``answered``: strict, and only the frames that were answered are scored.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.data.class_matching import ClassMatching
from vis_core.errors import OptionError
from vis_core.evaluation.evaluator import METRICS, Evaluation, evaluate
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.evaluation.inputs.stream import Message, Stream, read_stream, streamed_video
from vis_core.evaluation.inputs.tracks import GroundTruth, Result, Results, Track, Video, require_common_class
from vis_core.files.findings import InputWarning

POLICIES = ("strict", "hold", "live", "answered")
_SECOND = 1e9
_DETECTED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class StreamEvaluation:
    """The scores of a recorded stream. Times in seconds; None where there is nothing to measure.

    Attributes:
        policies: an ``Evaluation`` by policy.
        duration: from the first frame to the end of the last.
        frames: of the ground truth.
        messages: of the stream.
        answered_frames: frames with a message of theirs.
        dropped_frames: the others.
        rate: answered frames a second.
        latency: ``p50``, ``p95``, ``p99`` and ``max`` of arrival minus stamp, over all messages.
        id_switches_per_minute: of the policy ``answered``.
        first_detection: by id of each track that is no crowd: from its first visible frame to the first arrival of a
            message that has it (its category, unless these are ignored, and IoU of 0.5); None: never.
        warnings: what is odd in the files.
        classes: as of ``Evaluation``.
    """

    policies: Mapping[str, Evaluation]
    duration: float
    frames: int
    messages: int
    answered_frames: int
    dropped_frames: int
    rate: float | None
    latency: Mapping[str, float] | None
    id_switches_per_minute: float | None
    first_detection: Mapping[int, float | None]
    warnings: tuple[str, ...]
    classes: ClassMatching | None = None

    @property
    def first_detection_summary(self) -> dict[str, float | None]:
        """``mean`` and ``median`` time to first detection of the tracks that were detected, and how many ``never``."""
        times = [time for time in self.first_detection.values() if time is not None]
        mean, median = (float(np.mean(times)), float(np.median(times))) if times else (None, None)
        return {"mean": mean, "median": median, "never": len(self.first_detection) - len(times)}


def evaluate_stream(
    ground_truth: str | os.PathLike[str] | Mapping[str, Any] | GroundTruth,
    stream: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | Stream,
    metrics: Collection[str] = METRICS,
    *,
    class_agnostic: bool = False,
    categories: Mapping[str, str] | None = None,
) -> StreamEvaluation:
    """Score a recorded stream against the ground truth of its video.

    Args:
        ground_truth: of one video, with ``stamps``.
        stream: path of a file with one JSON message a line, these objects, or one that was read.
        metrics: as of ``evaluate``; ``clear`` is always among them.
        class_agnostic: ignore the category labels, those of messages that the ground truth does not have too.
        categories: as of ``evaluate``.

    Raises:
        InputError: a file is not usable, or no class of the stream has the name of a category, as of ``evaluate``.
        OptionError: a metric that does not exist, or ``categories`` names what is not there.
    """
    if not isinstance(ground_truth, GroundTruth):
        ground_truth = read_ground_truth(ground_truth)
    video, stamps = streamed_video(ground_truth)
    if not isinstance(stream, Stream):
        stream = read_stream(stream, ground_truth, categories)
    elif categories:
        raise OptionError("categories: this stream was read already; give them to read_stream")
    if not class_agnostic:
        require_common_class(stream.classes)
    told = ground_truth.warnings + stream.warnings + (() if class_agnostic else stream.category_warnings)
    for text in told:
        warnings.warn(text, InputWarning, stacklevel=2)

    messages = stream.messages
    by_frame = {message.frame: message for message in messages}  # of several the last in the file
    strict = [by_frame.get(frame) for frame in range(video.length)]
    answered = np.array([message is not None for message in strict])
    truth = replace(ground_truth, warnings=())
    names = list(dict.fromkeys((*metrics, "clear")))
    policies = {}
    for policy, taken in (
        ("strict", strict),
        ("hold", _latest(messages, stamps, by_arrival=False)),
        ("live", _latest(messages, stamps, by_arrival=True)),
    ):
        policies[policy] = evaluate(truth, _results(messages, taken, video), names, class_agnostic=class_agnostic)
    part = _only_frames(truth, video, answered)
    taken = [message for message in strict if message is not None]
    policies["answered"] = evaluate(part, _results(messages, taken, video), names, class_agnostic=class_agnostic)

    interval = float(np.median(np.diff(stamps))) if stamps.size > 1 else 0.0
    duration = (float(stamps[-1] - stamps[0]) + interval) / _SECOND
    switches = policies["answered"].summary["IDSW"]
    return StreamEvaluation(
        policies=MappingProxyType(policies),
        duration=duration,
        frames=video.length,
        messages=len(messages),
        answered_frames=int(answered.sum()),
        dropped_frames=int((~answered).sum()),
        rate=float(answered.sum()) / duration if duration else None,
        latency=_latency(messages),
        id_switches_per_minute=switches / (duration / 60) if duration else None,
        first_detection=MappingProxyType(
            _first_detections(ground_truth.tracks[video.id], messages, video, stamps, class_agnostic)
        ),
        warnings=told,
        classes=None if class_agnostic else stream.classes,
    )


def _latest(messages: Sequence[Message], stamps: npt.NDArray[np.int64], *, by_arrival: bool) -> list[Message | None]:
    """For each frame the latest message by stamp, or by arrival and then stamp; of equal ones the later in the file."""

    def key(message: Message) -> tuple[int, int]:
        return (message.arrival, message.stamp) if by_arrival else (message.stamp, 0)

    ordered = sorted(messages, key=key)
    times = np.array([key(message)[0] for message in ordered], np.int64)
    return [ordered[i - 1] if i else None for i in np.searchsorted(times, stamps, side="right").tolist()]


def _results(messages: Sequence[Message], taken: Sequence[Message | None], video: Video) -> Results:
    """One result a track id: its category and score from all messages, its masks from those taken for the frames."""
    scores: defaultdict[int, list[float]] = defaultdict(list)
    by_category: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for message in messages:
        for track in message.tracks:
            scores[track.track_id].append(track.score)
            by_category[track.track_id][track.category] += track.score
    masks: dict[int, list[bytes | None]] = {}
    areas: dict[int, npt.NDArray[np.int64]] = {}
    for frame, held in enumerate(taken):
        for track in held.tracks if held is not None else ():
            if track.mask is not None:
                if track.track_id not in masks:
                    masks[track.track_id] = [None] * len(taken)
                    areas[track.track_id] = np.full(len(taken), -1, np.int64)
                masks[track.track_id][frame] = track.mask
                areas[track.track_id][frame] = track.area
    results = []
    for entry, number in enumerate(sorted(masks)):
        category = min(by_category[number], key=lambda c: (-by_category[number][c], c))
        score = float(np.mean(scores[number]))
        results.append(Result(entry, category, score, tuple(masks[number]), areas[number], number))
    return Results({video.id: tuple(results)})


def _only_frames(ground_truth: GroundTruth, video: Video, kept: npt.NDArray[np.bool_]) -> GroundTruth:
    """The ground truth of some frames; tracks that are not visible in them leave."""
    tracks = []
    for track in ground_truth.tracks[video.id]:
        areas = track.areas[kept]
        if (areas >= 0).any():
            masks = tuple(mask for mask, keep in zip(track.masks, kept.tolist()) if keep)
            filled = areas[areas > 0]
            average = float(filled.mean()) if filled.size else 0.0
            tracks.append(replace(track, masks=masks, areas=areas, average_area=average))
    names = tuple(name for name, keep in zip(video.file_names, kept.tolist()) if keep)
    stamps = None if video.stamps is None else video.stamps[kept]
    part = replace(video, length=int(kept.sum()), file_names=names, stamps=stamps)
    return replace(ground_truth, videos={video.id: part}, tracks={video.id: tuple(tracks)})


def _latency(messages: Sequence[Message]) -> dict[str, float] | None:
    if not messages:
        return None
    latencies = np.array([message.arrival - message.stamp for message in messages], np.float64) / _SECOND
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(latencies.max())}


def _first_detections(
    tracks: Sequence[Track],
    messages: Sequence[Message],
    video: Video,
    stamps: npt.NDArray[np.int64],
    class_agnostic: bool,
) -> dict[int, float | None]:
    """Seconds from the first visible frame of each track to the first arrival that has it."""
    wanted = [track for track in tracks if not track.crowd]
    earliest: dict[int, int] = {}
    for message in messages:
        frame = message.frame
        held = [track for track in message.tracks if track.mask is not None]
        visible = [track for track in wanted if frame is not None and track.masks[frame] is not None]
        if not held or not visible or frame is None:
            continue
        ious = coco_mask.iou(
            [{"size": video.size, "counts": track.mask} for track in held],
            [{"size": video.size, "counts": track.masks[frame]} for track in visible],
            [0] * len(visible),
        )
        for row, column in zip(*np.nonzero(ious >= _DETECTED)):
            track = visible[column]
            if class_agnostic or held[row].category == track.category:
                earliest[track.id] = min(earliest.get(track.id, message.arrival), message.arrival)
    out: dict[int, float | None] = {}
    for track in wanted:
        seen = np.flatnonzero(track.areas >= 0)
        found = earliest.get(track.id)
        out[track.id] = None if found is None else (found - int(stamps[seen[0]])) / _SECOND
    return out
