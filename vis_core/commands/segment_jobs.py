"""One input of ``vis segment`` as a job: all that it needs as plain values, so that any process can do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis_core.commands.loading import load_segmenter, origin_of
from vis_core.commands.outcome import OUTPUTS
from vis_core.commands.reading import open_sources
from vis_core.commands.terminal import say
from vis_core.commands.unfinished import JOURNAL
from vis_core.errors import InputError
from vis_core.files.outputs import output_folder

if TYPE_CHECKING:
    from vis_core.commands.mask_images import MaskKind
    from vis_core.commands.segment import RunOutcome
    from vis_core.system.segmenter import Segmenter
    from vis_core.video.drawing import Drawing
    from vis_core.video.sources import VideoSource
    from vis_core.video.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentJob:
    """An input, where its results go, and how it is segmented.

    Attributes:
        source: as of `open_videos`.
        out: folder to write to.
        system, weights, device, precision, threads: as of `load_segmenter`.
        texts: options of the system, each ``name=value``.
        given: options of the system, parsed; None is left out.
        images, fps, orientation, value_range, reconnect: as of `open_sources`.
        start, max_frames: first frame of each video, and most frames; None: all.
        overlay, save_masks, save_panoptic, csv, mot, drawing: as of `segment_videos`; drawing None: by default.
        force: replace what an earlier run has left.
        resume: go on from what a run that ended early has left.
    """

    source: str
    out: Path
    system: str = "visolo-lite"
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    texts: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    images: Path | None = None
    fps: float | None = None
    orientation: str = "auto"
    value_range: str | None = None
    reconnect: float | None = None
    start: int = 0
    max_frames: int | None = None
    overlay: bool = True
    save_masks: MaskKind | None = None
    save_panoptic: bool = False
    csv: bool = False
    mot: bool = False
    drawing: Drawing | None = None
    force: bool = False
    resume: bool = False

    def open(self) -> list[VideoSource]:
        """The videos of the input.

        Raises:
            InputError: nothing there that can be read.
        """
        return open_sources(self.source, self.images, self.fps, self.orientation, self.value_range, self.reconnect)

    def check_out(self) -> None:
        """See before any work that the results can be written.

        Raises:
            InputError: they are there already, or the folder cannot be written to, or is the input.
            OptionError: another run writes there.
        """
        with self._folder() as folder:
            folder.keep_as_it_was()
            given = Path(self.source).resolve()
            for path in folder.outputs:
                if given in (path.resolve(), path.resolve().parent if path.suffix == ".png" else None):
                    raise InputError(f"{self.source}: is what --force would replace; choose another --out")

    def load(self) -> Segmenter:
        """Its segmenter; of jobs that differ in input and place alone one will do, one after the other."""
        return load_segmenter(
            self.system,
            self.weights,
            self.device,
            self.precision,
            self.threads,
            list(self.texts),
            self.given,
        )

    def frames(self, sources: Sequence[VideoSource]) -> int | None:
        """How many frames there are to do; None where a video does not tell."""
        total = 0
        for source in sources:
            ends = [end for end in (source.length, self.stop) if end is not None]
            if not ends:
                return None
            total += max(min(ends) - self.start, 0)
        return total

    @property
    def stop(self) -> int | None:
        """Index of the frame before which each video ends."""
        return None if self.max_frames is None else self.start + self.max_frames

    def run(
        self,
        segmenter: Segmenter,
        sources: Sequence[VideoSource],
        stop_asked: Callable[[], bool] = lambda: False,
        on_frame: Callable[[], None] = lambda: None,
        window: Window | None = None,
    ) -> RunOutcome:
        """Segment the videos into the folder; an error is in the outcome.

        Raises:
            InputError, OptionError: the folder cannot be had.
        """
        from vis_core.commands.segment import segment_videos

        with self._folder() as folder:
            return segment_videos(
                segmenter,
                sources,
                folder,
                overlay=self.overlay,
                save_masks=self.save_masks,
                save_panoptic=self.save_panoptic,
                csv=self.csv,
                mot=self.mot,
                start=self.start,
                stop=self.stop,
                stop_asked=stop_asked,
                on_frame=on_frame,
                origin=origin_of(self.system, self.weights, self.given, self.texts),
                asked={"orientation": self.orientation, "range": self.value_range, "fps": self.fps},
                resume=self.resume,
                drawing=self.drawing,
                window=window,
            )

    def _folder(self) -> Any:
        return output_folder(
            self.out, "segment", OUTPUTS, force=self.force, resume=self.resume, unfinished=JOURNAL, tell=say
        )
