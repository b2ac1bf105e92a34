"""A recording and its ground truth to a score: every frame through the segmenter, or live through the node.

Needs no ROS installation, but for what is live.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.evaluation import GroundTruth, Video, evaluate, evaluate_stream, read_ground_truth
from vis_core.evaluation.evaluator import METRICS
from vis_core.evaluation.reports.metrics_file import stream_metrics
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Instances
from vis_ros.recordings.bags import ImageBag

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter
    from vis_ros.recordings.playback import ReplayReport

METRICS_VERSION = 1
SCORES = ("AP", "AP50", "AP75", "AR1", "AR10", "HOTA", "MOTA", "IDF1", "IDSW")
_STREAM = "stream.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Which frame of a ground truth each image of a recording is.

    Attributes:
        by: ``stamps`` or ``order``.
        positions: int64 ``[images]``, position in the video; -1 for an image that is no frame of it.
        stamps: int64 ``[images]``, nanoseconds.
        frames: length of the video.
    """

    by: str
    positions: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]
    frames: int

    @property
    def paired(self) -> int:
        """Number of frames that are an image."""
        return int((self.positions >= 0).sum())

    def __str__(self) -> str:
        return (
            f"{self.paired} of {self.frames} frames paired with {len(self.positions)} images by {self.by}, "
            f"{self.frames - self.paired} frames without an image, {len(self.positions) - self.paired} images unscored"
        )

    def position_of(self, stamp: int) -> int | None:
        """The frame of the image with a stamp; None if it is none."""
        found = np.flatnonzero((self.stamps == stamp) & (self.positions >= 0))
        return int(self.positions[found[0]]) if len(found) else None


def pair(stamps: npt.NDArray[np.int64], video: Video, by: str = "auto") -> Pairing:
    """Pair images with the frames of a video.

    By stamps, a frame is the image with the nearest stamp, at most half a frame interval away; no image is
    two frames. By order, image k is frame k.

    Args:
        stamps: int64 ``[images]``, nanoseconds.
        video: of the ground truth.
        by: ``stamps``, ``order``, or ``auto``: by stamps where the video has them.

    Raises:
        InputError: by stamps, but the video has none, or none fits.
    """
    stamps = np.asarray(stamps, np.int64)
    if by == "order" or (by == "auto" and video.stamps is None):
        order = np.arange(len(stamps), dtype=np.int64)
        return Pairing("order", np.where(order < video.length, order, -1), stamps, video.length)
    if video.stamps is None:
        raise InputError(f"ground truth video {video.id} has no 'stamps' to pair by; pair by order")
    positions = _nearest(stamps, video.stamps)
    if not (positions >= 0).any():
        raise InputError(
            f"ground truth video {video.id}: its stamps {_span(video.stamps)} and those of the images {_span(stamps)} "
            "have nothing in common; is it another recording? --pair order pairs one after the other"
        )
    return Pairing("stamps", positions, stamps, video.length)


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


def evaluate_bag(
    bag: ImageBag,
    ground_truth: str | Path,
    out: Path,
    answer: Callable[[Pairing, Take, Path], Mapping[str, Any]],
    *,
    video: str | None = None,
    by: str = "auto",
) -> dict[str, Any]:
    """Score what a system answers to a recording; writes ``results.json`` and ``metrics.json``.

    The files appear when all of it is done: an evaluation that was cut short leaves none.

    Args:
        bag: the recording.
        ground_truth: YouTube-VIS JSON.
        out: folder to write to; made if it is not there.
        answer: makes the answers: gets the pairing, what takes an answer, and a folder whose files end up in ``out``;
            returns entries for ``metrics.json``. See `answer_directly` and `answer_live`.
        video: name or id of the video; None: the only one.
        by: how images are paired with frames, see `pair`.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: recording or ground truth cannot be used.
    """
    part, entry = select_video(read_ground_truth(ground_truth), video, ground_truth)
    if entry.size != bag.size:
        (height, width), (image_height, image_width) = entry.size, bag.size
        raise InputError(
            f"{bag.path}: images of {image_width}x{image_height}, but video {entry.id} of {ground_truth} is "
            f"{width}x{height}"
        )
    pairing = pair(bag.stamps(), entry, by)
    names: dict[int, str] = {}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial.", dir=out) as partial:
        folder = Path(partial)
        with ResultsWriter(folder / "results.json") as results:

            def take(position: int, instances: Instances, class_names: Mapping[int, str]) -> None:
                results.add(entry.id, position, instances)
                names.update(class_names)

            told = answer(pairing, take, folder)
            results.finish_video(entry.id, entry.length)
        classes, assigned = _assigned_categories(names, part.categories)
        _rewrite_results(folder / "results.json", assigned)
        scores = evaluate(part, folder / "results.json", METRICS)
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
            "classes_by": classes,
            **told,
            "skipped": [{"name": name, "reason": reason} for name, reason in bag.skipped],
            "scores": dict(scores.summary),
            "per_category": [
                {"id": number, "name": part.categories[number], **row} for number, row in scores.per_category.items()
            ],
        }
        if (folder / _STREAM).exists():
            _rewrite_stream(folder / _STREAM, assigned)
            metrics["stream"] = _stream_scores(part, entry, pairing, folder / _STREAM, out / _STREAM)
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

    An arrival is told on the clock of the stamps: the image's stamp and the time from its publication to the answer.

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
            write_stream_message(stream, instances, instances.stamp + latency)
            position = pairing.position_of(instances.stamp)
            if position is not None:
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


def write_stream_message(stream: TextIO, instances: Instances, arrival: int) -> None:
    """Append one message to a recorded stream: a JSON line of stamp, arrival (nanoseconds) and visible tracks."""
    keys = ("track_id", "category_id", "score", "segmentation")
    tracks = [{key: track[key] for key in keys} for track in instances.to_coco()]
    stream.write(json.dumps({"stamp": instances.stamp, "arrival": arrival, "tracks": tracks}) + "\n")
    stream.flush()


@contextmanager
def new_stream(path: Path, force: bool = False) -> Iterator[TextIO]:
    """A new file for a recorded stream.

    Raises:
        InputError: it is there already, and may not be replaced.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = path.open("w" if force else "x", encoding="utf-8")
    except FileExistsError as error:
        raise InputError(f"{path}: is there already; --force replaces it") from error
    with stream:
        yield stream


def _nearest(stamps: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Position of the frame of each image, -1 for none; each frame and each image at most once."""
    positions = np.full(len(stamps), -1, np.int64)
    if not len(stamps) or not len(frames):
        return positions
    several = frames if len(frames) > 1 else np.unique(stamps)
    tolerance = float(np.median(np.diff(several))) / 2 if len(several) > 1 else 0.0
    order = np.argsort(stamps, kind="stable")
    sorted_stamps = stamps[order]
    after = np.searchsorted(sorted_stamps, frames).clip(0, len(stamps) - 1)
    before = (after - 1).clip(0)
    closer = np.abs(sorted_stamps[before] - frames) < np.abs(sorted_stamps[after] - frames)
    nearest = np.where(closer, before, after)
    distances = np.abs(sorted_stamps[nearest] - frames)
    for position in np.argsort(distances, kind="stable").tolist():
        image = order[nearest[position]]
        if distances[position] <= tolerance and positions[image] < 0:
            positions[image] = position
    return positions


def _assigned_categories(class_names: Mapping[int, str], categories: Mapping[int, str]) -> tuple[str, dict[int, int]]:
    """What was gone by, ``names`` or ``ids``, and the category of a ground truth for each label + 1.

    A label is the category of the same name. If no label has a category's name, label + 1 is the category, as in the
    published data sets. A class that is no category has none.
    """
    ids = {_plain(name): identity for identity, name in categories.items()}
    assigned = {label + 1: ids[_plain(name)] for label, name in class_names.items() if _plain(name) in ids}
    return ("names", assigned) if assigned else ("ids", {identity: identity for identity in categories})


def _reassigned(entries: Iterable[dict[str, Any]], assigned: Mapping[int, int]) -> list[dict[str, Any]]:
    """Entries under the categories of the ground truth; those of a class that is no category are left out."""
    return [
        {**entry, "category_id": assigned[entry["category_id"]]}
        for entry in entries
        if entry["category_id"] in assigned
    ]


def _rewrite_results(path: Path, assigned: Mapping[int, int]) -> None:
    path.write_text(json.dumps(_reassigned(json.loads(path.read_text("utf-8")), assigned)) + "\n", "utf-8")


def _rewrite_stream(path: Path, assigned: Mapping[int, int]) -> None:
    rewritten = path.with_suffix(".rewritten")
    with path.open(encoding="utf-8") as lines, rewritten.open("w", encoding="utf-8") as out:
        for line in lines:
            message = json.loads(line)
            out.write(json.dumps({**message, "tracks": _reassigned(message["tracks"], assigned)}) + "\n")
    rewritten.replace(path)


def _stream_scores(part: GroundTruth, video: Video, pairing: Pairing, stream: Path, name: Path) -> dict[str, Any]:
    """Scores of what was known when; frames are stamped as their images were."""
    stamped = replace(video, stamps=_frame_stamps(video, pairing))
    evaluation = evaluate_stream(replace(part, videos={video.id: stamped}, warnings=()), stream)
    return stream_metrics(evaluation, f"video {video.name}", str(name))


def _frame_stamps(video: Video, pairing: Pairing) -> npt.NDArray[np.int64]:
    """Nanoseconds of each frame: those of its image; between and beyond images, evenly spaced."""
    paired = pairing.positions >= 0
    positions, stamps = pairing.positions[paired], pairing.stamps[paired]
    order = np.argsort(positions)
    positions, stamps = positions[order], stamps[order]
    step = int(np.median(np.diff(stamps) / np.diff(positions))) if len(positions) > 1 else 1
    frames = np.arange(video.length)
    out = np.interp(frames, positions, stamps - stamps[0]).astype(np.int64) + stamps[0]
    out[positions] = stamps  # exactly, which floating point does not promise
    out[frames < positions[0]] = stamps[0] + (frames[frames < positions[0]] - positions[0]) * step
    out[frames > positions[-1]] = stamps[-1] + (frames[frames > positions[-1]] - positions[-1]) * step
    return out


def _span(stamps: npt.NDArray[np.int64]) -> str:
    return f"{stamps.min() / 1e9:.3f} to {stamps.max() / 1e9:.3f} s" if len(stamps) else "(none)"


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
