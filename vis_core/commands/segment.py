"""Running a segmenter over videos into a folder: results, overlay videos, mask images."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vis_core.commands.mask_images import MaskImages, MaskKind
from vis_core.commands.progress import SKIPPED_SHOWN
from vis_core.commands.result_files import open_results
from vis_core.commands.unfinished import ROWS, FinishedVideo, Journal
from vis_core.commands.video_outputs import AnswerWriter, PanopticOutput, VideoOutput
from vis_core.errors import OptionError
from vis_core.files.outputs import OutputFolder
from vis_core.files.results_info import UNKNOWN, Origin
from vis_core.files.results_writer import ResultsWriter
from vis_core.files.track_tables import TrackTable, write_mot_classes
from vis_core.structures import Frame
from vis_core.video.drawing import Drawing, TrackDrawer
from vis_core.video.sources import ImageSequence, VideoSource
from vis_core.video.window import Window

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

_SKIPPED = "skipped.txt"


@dataclass(slots=True)
class VideoOutcome:
    """What came of one video.

    Attributes:
        name: of the video.
        frames: answered by the segmenter.
        skipped: left out, since they could not be read.
        tracks: that have had a mask.
        seconds: from opening to closing, reading, drawing and writing included; 0 if an earlier run did it.
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
        skipped: frames that could not be read, and why, a line each.
        unfinished: another run can go on from what was finished.
    """

    videos: list[VideoOutcome] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    stopped: bool = False
    error: BaseException | None = None
    skipped: list[str] = field(default_factory=list)
    unfinished: bool = False


def segment_videos(
    segmenter: Segmenter,
    sources: Sequence[VideoSource],
    folder: OutputFolder,
    *,
    overlay: bool = True,
    save_masks: MaskKind | None = None,
    save_panoptic: bool = False,
    csv: bool = False,
    mot: bool = False,
    start: int = 0,
    stop: int | None = None,
    stop_asked: Callable[[], bool] = lambda: False,
    on_frame: Callable[[], None] = lambda: None,
    origin: Origin = UNKNOWN,
    asked: Mapping[str, Any] = MappingProxyType({}),
    resume: bool = False,
    answers: Callable[[Path], AnswerWriter] | None = None,
    drawing: Drawing | None = None,
    window: Window | None = None,
) -> RunOutcome:
    """Segment videos; whatever ends the run, what is done is finished and stands.

    Written are ``results.json`` with its companion ``results.info.json``, for each video an overlay video
    (``overlay.mp4``, or ``overlay/NAME.mp4`` where there are several; of one image a ``.png``), ``masks/NAME/*.png`` as
    of `MaskImages`, ``panoptic/NAME/INDEX.png`` as of `PanopticWriter`, and ``tracks.csv`` and ``mot.txt``
    (``tracks/NAME.csv``, ``mot/NAME.txt``) as of `TrackTable`, with ``mot_classes.txt``. Where more than 20 frames
    could not be read, ``skipped.txt`` lists them.

    All of it takes its place at the end. Where an error ends the run and the folder holds what an earlier one left,
    that stays, and what is done stays in the hidden folder of the run.

    Args:
        segmenter: its state is reset after each video.
        folder: where to write.
        overlay: write overlay videos.
        save_masks: write mask images of that kind.
        save_panoptic: write panoptic images; the system must have a semantic map.
        csv, mot: write tables of the tracks.
        start: index of the first frame of each video that is segmented.
        stop: index of the frame before which each video ends; None: at its end.
        stop_asked: asked after each frame; true ends the run, after the answers that are still owed.
        on_frame: called after each answered frame.
        origin: what the companion tells of the system.
        asked: what else a run that goes on from this one must have been asked for.
        resume: go on from the videos that an earlier run finished.
        answers: makes, in a folder, what else writes the answers to a video; for one video alone.
        drawing: what of the tracks is drawn, and which; None: by default.
        window: shows the frames with the tracks drawn in; that it is closed ends the run as `stop_asked` does.

    Returns:
        The outcome, with the error that ended the run if one did: ENOSPC comes while there still is room to finish.
    """
    outcome, here = RunOutcome(), folder.path

    def ends() -> bool:
        return stop_asked() or (window is not None and window.closed)

    results: ResultsWriter | None = None
    journal: Journal | None = None
    try:
        if save_panoptic:
            _check_tells_stuff(segmenter)
        run = {**asked, "system": origin.system, "weights": origin.weights, "options": origin.options, "start": start}
        run |= {
            "stop": stop,
            "overlay": overlay,
            "masks": save_masks,
            "panoptic": save_panoptic,
            "csv": csv,
            "mot": mot,
        }
        drawing = drawing or Drawing()
        if drawing.min_score is None:
            drawing = replace(drawing, min_score=segmenter.shown_score)
        TrackDrawer(segmenter.class_names, drawing)  # a class that there is not is told before any work
        run["drawing"] = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(drawing).items()}
        journal = Journal(here, run | {"videos": [[source.video_id, source.name] for source in sources]}, resume)
        _remove_cut_short(folder.path, journal)
        with open_results(here / "results.json", segmenter.class_names, sources, origin, journal.kept) as results:
            results.keep_rows = True
            if mot:
                write_mot_classes(here / "mot_classes.txt", segmenter.class_names, results.category_of)
                outcome.written.append(here / "mot_classes.txt")
            for source, name in zip(sources, _file_names(sources), strict=True):
                if (finished := journal.finished.get(source.video_id)) is not None:
                    counts = (finished.frames, len(finished.skipped), finished.tracks)
                    outcome.videos.append(VideoOutcome(source.name, *counts))
                    outcome.skipped += finished.skipped
                    outcome.written += [here / output for output in finished.outputs]
                    continue
                video = VideoOutcome(source.name)
                outcome.videos.append(video)
                files = [str(file) for file in source.files] if isinstance(source, ImageSequence) else []
                single = len(sources) == 1
                asked_for = {"tracks.csv": csv, "mot.txt": mot}
                tables = [
                    TrackTable(
                        here / file if single else here / Path(file).stem / f"{name}{Path(file).suffix}",
                        source.name,
                        segmenter.class_names,
                        results.category_of,
                        files,
                    )
                    for file in asked_for
                    if asked_for[file]
                ]
                drawn = here / "overlay" if single else here / "overlay" / name
                source.stop_asked = ends
                output = VideoOutput(
                    source,
                    segmenter.class_names,
                    results,
                    drawn if overlay else None,
                    MaskImages(here / "masks" / name, save_masks, files) if save_masks else None,
                    PanopticOutput(here / "panoptic", name, segmenter) if save_panoptic else None,
                    None if answers is None else answers(here),
                    drawing,
                    tables,
                    window,
                )
                began = time.perf_counter()
                try:
                    with closing(source), output:
                        frames = _until_stopped(_from_to(source, start, stop), output, outcome, ends)
                        for instances in segmenter.run(frames, prefetch=not source.live):
                            output.write(instances)
                            video.frames += 1
                            on_frame()
                finally:
                    video.seconds = time.perf_counter() - began
                    video.skipped = len(source.skipped)
                    video.tracks = results.track_count(source.video_id)
                    outcome.skipped += [f"{item.name}: {item.reason}" for item in source.skipped]
                    outcome.written += output.written
                if outcome.stopped:
                    break
                journal.finish(_finished(source, video, output, results, here))
            else:
                results.keep_rows = False
    except (Exception, KeyboardInterrupt) as error:  # the caller tells it, together with what stands
        outcome.error = error
    if results is not None and journal is not None:
        _end(outcome, folder, results, journal)
    else:
        folder.keep_as_it_was()
    return outcome


def _end(outcome: RunOutcome, folder: OutputFolder, results: ResultsWriter, journal: Journal) -> None:
    """Let what is done take its place, and say what stands where."""
    if not any(video.frames for video in outcome.videos):
        outcome.written = []
        folder.discard()
        return
    stands = results.path.exists()
    outcome.written.insert(0, results.path if stands else results.rows_path)
    if len(outcome.skipped) > SKIPPED_SHOWN:
        names = folder.path / _SKIPPED
        try:
            names.write_text("".join(f"{line}\n" for line in outcome.skipped), "utf-8")
            outcome.written.append(names)
        except OSError as error:
            outcome.error = outcome.error or error
    early = outcome.stopped or outcome.error is not None
    outcome.unfinished = early and bool(journal.finished)
    failed = outcome.error is not None and not isinstance(outcome.error, KeyboardInterrupt)
    try:
        if failed and folder.outputs:
            folder.leave()
            return
        folder.publish(keep=outcome.unfinished, without=(ROWS,) if stands else ())
    except OSError as error:
        outcome.error = outcome.error or error
        folder.leave()
        return
    if outcome.unfinished:
        folder.leave()
    if isinstance(outcome.error, OSError):
        texts = (outcome.error.strerror or str(outcome.error), str(outcome.error.filename or ""))
        reason, name = (text.replace(str(folder.path), str(folder.folder)) for text in texts)
        outcome.error = OSError(outcome.error.errno, reason, *([name] if name else []))
    outcome.written = [folder.final(path) for path in outcome.written]


def _finished(
    source: VideoSource, video: VideoOutcome, output: VideoOutput, results: ResultsWriter, folder: Path
) -> FinishedVideo:
    outputs = {
        str(path.relative_to(folder)): sum(1 for _ in path.iterdir()) if path.is_dir() else 0 for path in output.written
    }
    skipped = tuple(f"{item.name}: {item.reason}" for item in source.skipped)
    return FinishedVideo(source.video_id, video.frames, skipped, video.tracks, output.length, results.rows_end, outputs)


def _remove_cut_short(folder: Path, journal: Journal) -> None:
    """Remove what is there of videos that were not finished, and results that are to be put together anew."""
    kept = {folder / name for finished in journal.finished.values() for name in finished.outputs}
    kept |= {folder / ROWS, journal.path}
    above = {parent for path in kept for parent in path.parents}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path not in above and kept.isdisjoint((path, *path.parents)):
            path.rmdir() if path.is_dir() else path.unlink()


def _check_tells_stuff(segmenter: Segmenter) -> None:
    """Raises `OptionError` for a system without a map of all classes."""
    if not segmenter.semantic_class_names or segmenter.delay:  # the map is that of the newest frame
        raise OptionError("--save-panoptic: this system tells instances alone, and no map of all classes")


def _until_stopped(
    frames: Iterable[Frame], output: VideoOutput, outcome: RunOutcome, stop_asked: Callable[[], bool]
) -> Iterator[Frame]:
    """The frames, each told to the output, until the run is asked to stop."""
    for frame in frames:
        output.expect(frame)
        yield frame
        if stop_asked():
            break
    outcome.stopped = stop_asked()


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
