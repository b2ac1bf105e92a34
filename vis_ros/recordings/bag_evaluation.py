"""A recording and its ground truth to a score: every frame through the segmenter, or live through the node.

Needs no ROS installation, but for what is live.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vis_core.data.class_matching import ClassMatching, knows_class, match_classes
from vis_core.errors import InputError
from vis_core.evaluation import GroundTruth, Video, evaluate, evaluate_stream, read_ground_truth, read_results
from vis_core.evaluation.evaluator import METRICS
from vis_core.evaluation.inputs.stream import Stream, read_stream
from vis_core.evaluation.inputs.tracks import require_common_class
from vis_core.evaluation.reports.metrics_file import classes_entry, stream_metrics
from vis_core.files.findings import InputWarning
from vis_core.files.results_info import UNKNOWN, Origin, ResultsInfo, SegmentedVideo, write_info
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Instances
from vis_ros.recordings.bags import ImageBag
from vis_ros.recordings.depth_recording import SpatialEvaluation, spatial_evaluation
from vis_ros.recordings.pairing import Pairing, frame_stamps, pair, timed
from vis_ros.recordings.stream_files import new_stream, write_stream_message

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter
    from vis_ros.recordings.playback import ReplayReport

METRICS_VERSION = 1
SCORES = ("AP", "AP50", "AP75", "AR1", "AR10", "HOTA", "MOTA", "IDF1", "IDSW")
_STREAM = "stream.jsonl"


def select_video(ground_truth: GroundTruth, wanted: str | None, source: str | Path) -> tuple[GroundTruth, Video]:
    """The part of a ground truth that is about one video.

    Args:
        ground_truth: of any number of videos.
        wanted: name or id of the video; None: the only one.
        source: the file, for messages.

    Raises:
        InputError: no such video, or several and none is named.
    """
    videos = list(ground_truth.videos.values())
    known = ", ".join(f"{video.name} (id {video.id})" for video in videos[:20]) + (", ..." if len(videos) > 20 else "")
    if wanted is not None:
        videos = [video for video in videos if wanted in (video.name, str(video.id), Path(video.name).name)]
    if len(videos) != 1:
        problem = "several videos, name one with --video" if wanted is None else f"no single video {wanted!r}"
        raise InputError(f"{source}: {problem}; it holds {known or 'none'}")
    video = videos[0]
    tracks = {video.id: ground_truth.tracks[video.id]}
    return replace(ground_truth, videos={video.id: video}, tracks=tracks), video


class Take(Protocol):
    """Takes an answer to a frame of the video: its position, the instances, and class names by label."""

    def __call__(self, position: int, instances: Instances, class_names: Mapping[int, str], /) -> None: ...

    def expect(self, class_names: Sequence[str]) -> None:
        """Before any answer: all classes of the system, by label.

        Raises:
            InputError: none of them is a category, where categories count.
            OptionError: the user speaks of classes or categories that are not there.
        """


class _Answers:
    """Takes the answers, and the names of the classes, which it matches with the categories of the ground truth."""

    def __init__(
        self,
        results: ResultsWriter,
        video: Video,
        categories: Mapping[int, str],
        renamed: Mapping[str, str],
        class_agnostic: bool,
        spatial: SpatialEvaluation | None,
    ) -> None:
        self._results, self._spatial = results, spatial
        self._video = video
        self._categories = categories
        self._renamed = renamed
        self._class_agnostic = class_agnostic
        self._complete = False
        self.names: dict[int, str] = {}

    def __call__(self, position: int, instances: Instances, class_names: Mapping[int, str], /) -> None:
        self._results.add(self._video.id, position, instances)
        if self._spatial is not None:
            self._spatial.add(position, instances)
        self.names.update(class_names)

    def expect(self, class_names: Sequence[str]) -> None:
        """See `Take`."""
        self.names, self._complete = dict(enumerate(class_names)), True
        self.matching()

    def matching(self) -> ClassMatching | None:
        """How the classes meet the categories; None if nothing told their names.

        Raises:
            InputError, OptionError: as of `Take.expect`.
        """
        if not self.names or not self._categories:
            return None
        renamed = dict(self._renamed)
        for name in [] if self._complete else self._renamed:
            if not knows_class(self.names, name):
                warnings.warn(
                    f"--categories {name}={renamed.pop(name)}: no answer was {name}", InputWarning, stacklevel=3
                )
        matching = match_classes(self.names, self._categories, renamed, complete=self._complete)
        if not self._class_agnostic:
            require_common_class(matching)
        return matching


def evaluate_bag(
    bag: ImageBag,
    ground_truth: str | Path,
    out: Path,
    answer: Callable[[Pairing, Take, Path], Mapping[str, Any]],
    *,
    video: str | None = None,
    by: str = "auto",
    class_agnostic: bool = False,
    categories: Mapping[str, str] | None = None,
    origin: Origin = UNKNOWN,
    told_as: Path | None = None,
    depth_topic: str | None = None,
) -> dict[str, Any]:
    """Score what a system answers to a recording; writes ``results.json``, its companion and ``metrics.json``.

    Classes are matched with categories by name, and ``results.json`` has the ids of the ground truth. The files appear
    when all of it is done: an evaluation that was cut short leaves none.

    Args:
        bag: the recording.
        ground_truth: YouTube-VIS JSON.
        out: folder to write to; made if it is not there.
        answer: makes the answers: gets the pairing, what takes an answer, and a folder whose files end up in ``out``;
            returns entries for ``metrics.json``. See `answer_directly` and `answer_live`.
        video: name or id of the video; None: the only one.
        by: how images are paired with frames, see `pair`.
        class_agnostic: ignore the categories.
        categories: name of a class to name of the category that it stands for, where they differ; empty: of none.
        origin: what the companion tells of the system.
        told_as: where the files will stand, as ``metrics.json`` tells it; None: ``out``.
        depth_topic: of depth images, where the ground truth has positions; None: the only one.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: recording or ground truth cannot be used, or no class has the name of a category, where these count.
        OptionError: ``categories`` names what is not there.
    """
    part, entry = select_video(read_ground_truth(ground_truth), video, ground_truth)
    if entry.size != bag.size:
        (height, width), (image_height, image_width) = entry.size, bag.size
        raise InputError(
            f"{bag.path}: images of {image_width}x{image_height}, but video {entry.id} of {ground_truth} is "
            f"{width}x{height}"
        )
    pairing = pair(bag.stamps(), entry, by)
    pairing = timed(pairing, lambda: np.array([time for time, _ in bag.messages()], np.int64), bag.path)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial.", dir=out) as partial:
        folder = Path(partial)
        spatial = spatial_evaluation(bag.path, bag.topic, depth_topic, ground_truth, part, entry)
        with ExitStack() as stack:
            if spatial is not None:
                stack.callback(spatial.close)
            results = stack.enter_context(ResultsWriter(folder / "results.json"))
            take = _Answers(results, entry, part.categories, categories or {}, class_agnostic, spatial)
            told = answer(pairing, take, folder)
            results.finish_video(entry.id, entry.length)
        matching = take.matching()
        info = ResultsInfo.of_classes(take.names, matching, origin).of_videos(_segmented(entry))
        _rewrite_results(folder / "results.json", matching)
        write_info(folder / "results.json", info)
        # The rest of what the user said stands in the ids by now.
        said = matching.renamed if matching is not None else {}
        left_out = {name: wanted for name, wanted in said.items() if not wanted}
        read = read_results(folder / "results.json", part, categories=left_out)
        read = replace(read, category_warnings=())  # the metrics tell it
        scores = evaluate(part, read, METRICS, class_agnostic=class_agnostic)
        metrics = {
            "version": METRICS_VERSION,
            "bag": str(bag.path),
            "topic": bag.topic.name,
            "ground_truth": str(ground_truth),
            "video": {"id": entry.id, "name": entry.name},
            "pairing": {
                "by": pairing.by,
                "frames": pairing.frames,
                "images": len(pairing.positions),
                "paired": pairing.paired,
            },
            "classes_by": "none" if class_agnostic else "ids" if matching is None else "names",
            "classes": classes_entry(matching, class_agnostic),
            **told,
            "skipped": [{"name": name, "reason": reason} for name, reason in bag.skipped],
            "scores": dict(scores.summary),
            "per_category": [
                {"id": number, "name": scores.categories[number], **row} for number, row in scores.per_category.items()
            ],
            **({} if spatial is None else {"spatial": spatial.summary()}),
        }
        if (folder / _STREAM).exists():
            _rewrite_stream(folder / _STREAM, matching)
            write_info(folder / _STREAM, info)
            heard = _read_stream(part, entry, pairing, folder / _STREAM, left_out)
            evaluation = evaluate_stream(*heard, class_agnostic=class_agnostic)
            metrics["stream"] = stream_metrics(evaluation, f"video {entry.name}", str((told_as or out) / _STREAM))
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
        for file in sorted(folder.iterdir()):
            file.replace(out / file.name)
    return metrics


def answer_directly(
    bag: ImageBag, segmenter: Segmenter, pairing: Pairing, take: Take, on_frame: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Give every image to a segmenter, one after the other.

    Args:
        bag: the recording.
        segmenter: its state is reset afterwards.
        pairing: of the images.
        take: takes the answers.
        on_frame: called after each answered image.

    Returns:
        Entries for ``metrics.json``.
    """
    names = dict(enumerate(segmenter.class_names))
    take.expect(segmenter.class_names)
    answered = 0
    for instances in segmenter.run(bag):
        position = int(pairing.positions[instances.index])
        if position >= 0:
            take(position, instances, names)
        answered += 1
        on_frame()
    return {"mode": "direct", "answered": answered}


def answer_live(
    bag: ImageBag,
    system: str,
    parameters: Mapping[str, Any],
    pairing: Pairing,
    take: Take,
    stream_path: Path,
    **replay_arguments: Any,
) -> dict[str, Any]:
    """Play a recording through real topics into the real node, and record the stream of its answers.

    An answer is that of an image, not of a stamp: stamps may be equal, zero or go back. An arrival is told on the clock
    of the pairing's stamps: the image's stamp there and the time from its publication to the answer.

    Args:
        bag: the recording.
        system: segmentation system.
        parameters: of the node.
        pairing: of the images.
        take: takes the answers.
        stream_path: of the stream to write.
        replay_arguments: of `vis_ros.recordings.playback.replay`.

    Returns:
        Entries for ``metrics.json``.
    """
    from vis_ros.recordings.playback import Received, replay

    with new_stream(stream_path) as stream:

        def deliver(received: Received, latency: int) -> None:
            instances = received.instances
            position, stamp = int(pairing.positions[instances.index]), int(pairing.stamps[instances.index])
            write_stream_message(
                stream, replace(instances, stamp=stamp), stamp + latency, position, received.class_names
            )
            if position >= 0:
                take(position, instances, received.class_names)

        report = replay(bag, system, parameters, deliver, **replay_arguments)
    return {"mode": "live", **replay_figures(report)}


def replay_figures(report: ReplayReport) -> dict[str, Any]:
    """The figures of a replay, for a JSON file: counts, latencies in milliseconds, seconds."""
    return {
        "sent": report.sent,
        "received": report.received,
        "dropped": report.dropped,
        "latency_ms": {"p50": report.latency(50), "p95": report.latency(95), "max": report.latency(100)},
        "seconds": report.seconds,
    }


def _segmented(video: Video) -> SegmentedVideo:
    stamps = () if video.stamps is None else tuple(video.stamps.tolist())
    return SegmentedVideo(video.id, video.name, video.size, video.length, None, video.file_names, stamps)


def _reassigned(entries: Iterable[dict[str, Any]], matching: ClassMatching) -> list[dict[str, Any]]:
    """Entries whose category ids were label + 1 under those of a matching."""
    return [{**entry, "category_id": matching.ids[entry["category_id"] - 1]} for entry in entries]


def _rewrite_results(path: Path, matching: ClassMatching | None) -> None:
    if matching is not None:
        path.write_text(json.dumps(_reassigned(json.loads(path.read_text("utf-8")), matching)) + "\n", "utf-8")


def _rewrite_stream(path: Path, matching: ClassMatching | None) -> None:
    if matching is None:
        return
    rewritten = path.with_suffix(".rewritten")
    with path.open(encoding="utf-8") as lines, rewritten.open("w", encoding="utf-8") as out:
        for line in lines:
            message = json.loads(line)
            out.write(json.dumps({**message, "tracks": _reassigned(message["tracks"], matching)}) + "\n")
    rewritten.replace(path)


def _read_stream(
    part: GroundTruth, video: Video, pairing: Pairing, path: Path, left_out: Mapping[str, str]
) -> tuple[GroundTruth, Stream]:
    """The ground truth and what was known when; frames are stamped as their images were."""
    stamped = replace(video, stamps=frame_stamps(video, pairing))
    truth = replace(part, videos={video.id: stamped}, warnings=())
    return truth, replace(read_stream(path, truth, left_out), category_warnings=())
