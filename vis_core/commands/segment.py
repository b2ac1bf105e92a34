"""Running a segmenter over videos into a folder: results, overlay videos, mask images."""

from __future__ import annotations

import errno
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from vis_core.errors import InputError, OptionError
from vis_core.files.atomic import atomic_write
from vis_core.files.panoptic_writer import PanopticWriter
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Frame, Instances
from vis_core.system.segmenter import Segmenter
from vis_core.video.overlay import draw_overlay
from vis_core.video.sources import VideoSource
from vis_core.video.writer import VideoWriter

_RESERVE = 16 * 2**20


@dataclass(slots=True)
class VideoOutcome:
    """What came of one video.

    Attributes:
        name: of the video.
        frames: answered by the segmenter.
        skipped: left out, since they could not be read.
        tracks: that have had a mask.
        seconds: from opening to closing, reading, drawing and writing included.
    """

    name: str
    frames: int = 0
    skipped: int = 0
    tracks: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class RunOutcome:
    """What came of a run.

    Attributes:
        videos: in order; the last one may be cut short.
        written: the files and folders that stand.
        stopped: the run was asked to stop before its end.
        error: what ended the run early.
    """

    videos: list[VideoOutcome] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    stopped: bool = False
    error: BaseException | None = None


def segment_videos(
    segmenter: Segmenter,
    sources: Sequence[VideoSource],
    folder: Path,
    *,
    overlay: bool = True,
    save_masks: bool = False,
    save_panoptic: bool = False,
    start: int = 0,
    stop: int | None = None,
    stop_asked: Callable[[], bool] = lambda: False,
    on_frame: Callable[[], None] = lambda: None,
) -> RunOutcome:
    """Segment videos; whatever ends the run, what is done is finished and stands.

    Written are ``results.json``, for each video an overlay video (``overlay.mp4``, or ``overlay/NAME.mp4`` where there
    are several), and ``masks/NAME/INDEX.png``: uint16, 0 = background, else the track id; where masks overlap the
    better score has the pixel. And ``panoptic/NAME/INDEX.png``: as of `PanopticWriter`.

    Args:
        segmenter: its state is reset after each video.
        folder: where to write; made if it is not there.
        overlay: write overlay videos.
        save_masks: write mask images.
        save_panoptic: write panoptic images; the system must have a semantic map.
        start: index of the first frame of each video that is segmented.
        stop: index of the frame before which each video ends; None: at its end.
        stop_asked: asked after each frame; true ends the run, after the answers that are still owed.
        on_frame: called after each answered frame.

    Returns:
        The outcome, with the error that ended the run if one did: ENOSPC comes while there still is room to finish.
    """
    outcome = RunOutcome()
    results: ResultsWriter | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = _file_names(sources)
        if save_masks:
            _refuse_old_images([folder / "masks" / name for name in names])
        if save_panoptic:
            _check_tells_stuff(segmenter)
            _refuse_old_images([folder / "panoptic" / name for name in names])
        with ResultsWriter(folder / "results.json") as results:
            for source, name in zip(sources, names, strict=True):
                video = VideoOutcome(source.name)
                outcome.videos.append(video)
                drawing = (
                    (folder / "overlay" / f"{name}.mp4" if len(sources) > 1 else folder / "overlay.mp4")
                    if overlay
                    else None
                )
                labels = folder / "masks" / name if save_masks else None
                panoptic = None
                if save_panoptic:
                    panoptic = _PanopticOutput(folder / "panoptic", name, segmenter)
                output = _VideoOutput(
                    source, segmenter.class_names, results, drawing, labels, panoptic, outcome.written
                )
                began = time.perf_counter()
                try:
                    with closing(source), output:
                        frames = _until_stopped(_from_to(source, start, stop), output, outcome, stop_asked)
                        for instances in segmenter.run(frames, prefetch=not source.live):
                            output.write(instances)
                            video.frames += 1
                            on_frame()
                finally:
                    video.seconds = time.perf_counter() - began
                    video.skipped = len(source.skipped)
                    video.tracks = results.track_count(source.video_id)
                if outcome.stopped:
                    break
    except (Exception, KeyboardInterrupt) as error:  # the caller tells it, together with what stands
        outcome.error = error
    if results is not None:
        failed = results.rows_path.exists()
        outcome.written.insert(0, results.rows_path if failed else results.path)
    return outcome


class _VideoOutput:
    """The files of one video, and the frames whose answers are still to come."""

    def __init__(
        self,
        source: VideoSource,
        class_names: Sequence[str],
        results: ResultsWriter,
        drawing: Path | None,
        labels: Path | None,
        panoptic: _PanopticOutput | None,
        written: list[Path],
    ) -> None:
        self._source = source
        self._class_names = class_names
        self._results = results
        self._labels = labels
        self._panoptic = panoptic
        self._written = written
        self._length = source.length if source.length is not None and source.length_is_exact else 0
        self._pending: dict[int, Frame] = {}
        self._drawing = None
        if drawing is not None:
            drawing.parent.mkdir(parents=True, exist_ok=True)
            self._drawing = VideoWriter(drawing, source.fps)
        if labels is not None:
            labels.mkdir(parents=True, exist_ok=True)
            written.append(labels)
        if panoptic is not None:
            written.append(panoptic.writer.folder)

    def __enter__(self) -> _VideoOutput:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._results.finish_video(self._source.video_id, self._length)
        if self._drawing is not None:
            self._drawing.close()
            if self._drawing.frames:
                self._written.append(self._drawing.path)

    def expect(self, frame: Frame) -> None:
        """A frame that the segmenter is about to get.

        Raises:
            OSError: ENOSPC, while there still is room to finish what is done.
        """
        folder = self._results.path.parent
        needed = _RESERVE + self._results.bytes_to_come
        if shutil.disk_usage(folder).free < needed:
            reason = f"less than {needed / 2**20:.0f} MB are left, which finishing the files may take"
            raise OSError(errno.ENOSPC, reason, str(folder))
        self._length = max(self._length, frame.index + 1)
        if self._drawing is not None:
            self._pending[frame.index] = frame

    def write(self, instances: Instances) -> None:
        """The answer to one frame."""
        self._results.add(self._source.video_id, instances.index, instances)
        if self._labels is not None:
            _write_labels(self._labels / f"{instances.index:06d}.png", instances)
        if self._panoptic is not None:
            self._panoptic.write(instances)
        if self._drawing is not None:
            frame = self._pending.pop(instances.index)
            self._drawing.write(draw_overlay(frame.image, instances, self._class_names), instances.stamp)


class _PanopticOutput:
    """The panoptic images of one video."""

    def __init__(self, folder: Path, name: str, segmenter: Segmenter) -> None:
        known, class_names = list(segmenter.semantic_class_names), segmenter.class_names
        unknown = [name for name in class_names if name not in known]
        if unknown:
            raise OptionError(f"--save-panoptic: class {unknown[0]!r} is none of the semantic map: {', '.join(known)}")
        self._segmenter = segmenter
        self.writer = PanopticWriter(folder, name, [known.index(name) for name in class_names])

    def write(self, instances: Instances) -> None:
        """The image of the frame that was answered last."""
        semantic = self._segmenter.semantic_map()
        assert semantic is not None
        self.writer.add(instances.index, semantic - np.uint8(1), instances)  # 0 becomes 255, void


def _check_tells_stuff(segmenter: Segmenter) -> None:
    """Raises `OptionError` for a system without a map of all classes."""
    if not segmenter.semantic_class_names or segmenter.delay:  # the map is that of the newest frame
        raise OptionError("--save-panoptic: this system tells instances alone, and no map of all classes")


def _until_stopped(
    frames: Iterable[Frame], output: _VideoOutput, outcome: RunOutcome, stop_asked: Callable[[], bool]
) -> Iterator[Frame]:
    """The frames, each told to the output, until the run is asked to stop."""
    for frame in frames:
        output.expect(frame)
        yield frame
        if stop_asked():
            outcome.stopped = True
            return


def _from_to(source: VideoSource, start: int, stop: int | None) -> Iterator[Frame]:
    for frame in source:
        if stop is not None and frame.index >= stop:
            return
        if frame.index >= start:
            yield frame


def _file_names(sources: Sequence[VideoSource]) -> list[str]:
    """The names of the videos as file names, each its own."""
    names: list[str] = []
    for source in sources:
        name = re.sub(r"[^\w.-]+", "_", source.name).strip("._")[:100] or "video"
        names.append(name if name not in names else f"{name}_{source.video_id}")
    return names


def _refuse_old_images(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                f"{folder}: holds files, which would be mixed with new ones; remove it or choose another --out"
            )


def _write_labels(path: Path, instances: Instances) -> None:
    """Track ids as a uint16 PNG."""
    ids = np.concatenate(([0], instances.track_ids))
    if ids.max() > np.iinfo(np.uint16).max:
        raise InputError(f"{path}: track id {ids.max()} does not fit the 16 bits of a mask image")
    _, png = cv2.imencode(".png", ids.astype(np.uint16)[instances.label_image()])
    with atomic_write(path) as partial:
        partial.write_bytes(png.tobytes())
