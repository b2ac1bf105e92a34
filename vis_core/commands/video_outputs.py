"""The files that ``vis segment`` writes of one video: its overlay, its mask images, its panoptic images."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, OptionError
from vis_core.files.atomic import atomic_write
from vis_core.files.panoptic_writer import PanopticWriter
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Frame, Instances
from vis_core.video.overlay import draw_overlay
from vis_core.video.sources import VideoSource
from vis_core.video.writer import VideoWriter

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

_RESERVE = 16 * 2**20


class AnswerWriter(Protocol):
    """Writes the answers to one video in a form of its own.

    Attributes:
        path: where they stand once closed.
    """

    path: Path

    def write(self, instances: Instances, drawn: npt.NDArray[np.uint8], /) -> None:
        """The answer to one frame, and uint8 ``[H, W, 3]``, the frame with it drawn in."""

    def close(self) -> None:
        """Finish what was written."""


class VideoOutput:
    """The files of one video, and the frames whose answers are still to come."""

    def __init__(
        self,
        source: VideoSource,
        class_names: Sequence[str],
        results: ResultsWriter,
        drawing: Path | None,
        labels: Path | None,
        panoptic: PanopticOutput | None,
        answers: AnswerWriter | None = None,
    ) -> None:
        self._source = source
        self._class_names = class_names
        self._results = results
        self._labels = labels
        self._panoptic = panoptic
        self._answers = answers
        self._length = source.length if source.length is not None and source.length_is_exact else 0
        self._pending: dict[int, Frame] = {}
        self._drawing = None
        if drawing is not None:
            drawing.parent.mkdir(parents=True, exist_ok=True)
            self._drawing = VideoWriter(drawing, source.fps)
        if labels is not None:
            labels.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> VideoOutput:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._results.finish_video(self._source.video_id, self._length)
        try:
            if self._drawing is not None:
                self._drawing.close()
        finally:
            if self._answers is not None:
                self._answers.close()

    @property
    def length(self) -> int:
        """Frames of the video in the results, as far as they came."""
        return self._length

    @property
    def written(self) -> list[Path]:
        """The files and folders that there are."""
        drawn = self._drawing is not None and self._drawing.frames and self._drawing.path.exists()
        folders = [self._labels, None if self._panoptic is None else self._panoptic.writer.folder]
        folders.append(None if self._answers is None else self._answers.path)
        found = [folder for folder in folders if folder is not None and folder.exists()]
        return [*found, self._drawing.path] if self._drawing is not None and drawn else found

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
        if self._drawing is not None or self._answers is not None:
            self._pending[frame.index] = frame

    def write(self, instances: Instances) -> None:
        """The answer to one frame."""
        self._results.add(self._source.video_id, instances.index, instances)
        if self._labels is not None:
            _write_labels(self._labels / f"{instances.index:06d}.png", instances)
        if self._panoptic is not None:
            self._panoptic.write(instances)
        if self._drawing is None and self._answers is None:
            return
        drawn = draw_overlay(self._pending.pop(instances.index).image, instances, self._class_names)
        if self._drawing is not None:
            self._drawing.write(drawn, instances.stamp)
        if self._answers is not None:
            self._answers.write(instances, drawn)


class PanopticOutput:
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


def _write_labels(path: Path, instances: Instances) -> None:
    """Track ids as a uint16 PNG."""
    ids = np.concatenate(([0], instances.track_ids))
    if ids.max() > np.iinfo(np.uint16).max:
        raise InputError(f"{path}: track id {ids.max()} does not fit the 16 bits of a mask image")
    _, png = cv2.imencode(".png", ids.astype(np.uint16)[instances.label_image()])
    with atomic_write(path) as partial:
        partial.write_bytes(png.tobytes())
