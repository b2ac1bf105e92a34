"""The files that ``vis segment`` writes of one video: its overlay, its mask images, its panoptic images."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from vis_core.commands.mask_images import MaskImages
from vis_core.errors import OptionError
from vis_core.files.panoptic_writer import PanopticWriter
from vis_core.files.results_writer import ResultsWriter
from vis_core.files.track_tables import TrackTable
from vis_core.structures import Frame, Instances
from vis_core.tracking.shown import ShownTracks
from vis_core.video.drawing import Drawing, TrackDrawer
from vis_core.video.images import write_image
from vis_core.video.sources import ImageSequence, VideoSource
from vis_core.video.window import Window
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


class PictureWriter:
    """Writes the one frame of a picture, as `VideoWriter` does those of a video.

    Args:
        path: where it stands once written, ``.png``.

    Attributes:
        path: where it stands once written.
        frames: written so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0

    def write(self, image: npt.NDArray[np.uint8], stamp: int | None = None) -> None:
        """The frame.

        Raises:
            OSError: it cannot be written.
        """
        write_image(self.path, image)
        self.frames += 1

    def close(self) -> None:
        """Nothing: it stands."""


class VideoOutput:
    """The files of one video, and the frames whose answers are still to come.

    Args:
        source: of the frames.
        class_names: name of each label.
        results: where all answers go.
        overlay: the video with the tracks drawn in, without its suffix; None: none.
        mask_images: images of the masks; None: none.
        panoptic: panoptic images; None: none.
        answers: another form, which gets the tracks that are shown; None: none.
        drawing: what is drawn; its `min_score` is known. None: all tracks, by default.
        tables: of the tracks.
        window: that shows the frames with the tracks drawn in.

    Raises:
        MissingDependencyError: what writes videos is not there.
        OptionError: `drawing` names a class that there is not.
    """

    def __init__(
        self,
        source: VideoSource,
        class_names: Sequence[str],
        results: ResultsWriter,
        overlay: Path | None,
        mask_images: MaskImages | None,
        panoptic: PanopticOutput | None,
        answers: AnswerWriter | None = None,
        drawing: Drawing | None = None,
        tables: Sequence[TrackTable] = (),
        window: Window | None = None,
    ) -> None:
        self._source = source
        drawing = drawing or Drawing(min_score=0.0)
        self._drawer = TrackDrawer(class_names, drawing)
        self._shown = ShownTracks(drawing.min_score or 0.0)
        self._results = results
        self._mask_images = mask_images
        self._tables = tables
        self._window = window
        self._panoptic = panoptic
        self._answers = answers
        self._length = source.length if source.length is not None and source.length_is_exact else 0
        self._pending: dict[int, Frame] = {}
        self._overlay: VideoWriter | PictureWriter | None = None
        if overlay is not None:
            overlay.parent.mkdir(parents=True, exist_ok=True)
            picture = isinstance(source, ImageSequence) and source.length == 1
            name = f"{overlay.name}.{'png' if picture else 'mp4'}"
            path = overlay.with_name(name)
            self._overlay = PictureWriter(path) if picture else VideoWriter(path, source.fps)

    def __enter__(self) -> VideoOutput:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._results.finish_video(self._source.video_id, self._length)
        try:
            if self._overlay is not None:
                self._overlay.close()
        finally:
            for table in self._tables:
                table.close()
            if self._answers is not None:
                self._answers.close()

    @property
    def length(self) -> int:
        """Frames of the video in the results, as far as they came."""
        return self._length

    @property
    def _draws(self) -> bool:
        return not (self._overlay is None and self._answers is None and self._window is None)

    @property
    def written(self) -> list[Path]:
        """The files and folders that there are."""
        drawn = self._overlay is not None and self._overlay.frames and self._overlay.path.exists()
        folders = [
            None if self._mask_images is None else self._mask_images.folder,
            None if self._panoptic is None else self._panoptic.writer.folder,
            None if self._answers is None else self._answers.path,
            *(table.path for table in self._tables),
        ]
        found = [folder for folder in folders if folder is not None and folder.exists()]
        return [*found, self._overlay.path] if self._overlay is not None and drawn else found

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
        if self._draws:
            self._pending[frame.index] = frame

    def write(self, instances: Instances) -> None:
        """The answer to one frame."""
        self._results.add(self._source.video_id, instances.index, instances)
        if self._mask_images is not None:
            self._mask_images.add(instances)
        for table in self._tables:
            table.add(instances)
        if self._panoptic is not None:
            self._panoptic.write(instances)
        if not self._draws:
            return
        shown = self._shown(instances)
        drawn = self._drawer.draw(self._pending.pop(instances.index).image, shown)
        if self._overlay is not None:
            self._overlay.write(drawn, instances.stamp)
        if self._answers is not None:
            self._answers.write(shown, drawn)
        if self._window is not None:
            self._window.show(drawn)


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
