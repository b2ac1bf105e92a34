"""``vis segment``: videos in; results, overlay videos and mask images out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vis_core.commands.drawing_options import DRAWN, Classes, Draw, MinScore, drawing_of
from vis_core.commands.fleet import Jobs, Ray, refuse_alone
from vis_core.commands.inputs import expanded, is_live, result_folders, shown_input
from vis_core.commands.interrupts import interrupts
from vis_core.commands.loading import (
    Csv,
    Device,
    Mot,
    OptionTexts,
    Overlay,
    Precision,
    Quality,
    SaveMasks,
    SystemName,
    Threads,
    Weights,
    check_segmenter,
    quality_options,
)
from vis_core.commands.outcome import NOTHING, end, end_several, report, report_several
from vis_core.commands.progress import progress_bar
from vis_core.commands.reading import Orientation, Reconnect, ValueRange
from vis_core.commands.segment_fleet import segment_several
from vis_core.commands.segment_jobs import SegmentJob
from vis_core.commands.terminal import Force, Quiet, check_inputs, say, tell_failure
from vis_core.errors import InputError, OptionError, VisError
from vis_core.files.atomic import FULL

if TYPE_CHECKING:
    from vis_core.commands.segment import RunOutcome
    from vis_core.video.sources import VideoSource
    from vis_core.video.window import Window


def segment(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Video file, folder of images, image, YouTube-VIS or COCO JSON, camera (/dev/video0, camera:0), "
            "stream or file at an address (rtsp://..., https://...), or a pattern ('clips/*.mp4').",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder to write to; with several inputs each has a folder in it. Default: segmented/NAME, or "
            "segmented/batch, numbered.",
            show_default=False,
        ),
    ] = None,
    system: SystemName = "visolo-lite",
    weights: Weights = None,
    images: Annotated[Path | None, typer.Option(help="Folder that holds the images of a JSON.")] = None,
    overlay: Overlay = True,
    draw: Draw = DRAWN,
    min_score: MinScore = None,
    classes: Classes = "",
    show: Annotated[
        bool, typer.Option("--show", help="Show the tracks in a window, too; q, Escape or closing it ends the run.")
    ] = False,
    save_masks: SaveMasks = None,
    csv: Csv = False,
    mot: Mot = False,
    save_panoptic: Annotated[
        bool,
        typer.Option(
            "--save-panoptic",
            help="Write PNGs of all pixels, stuff too: red is the class, green * 256 + blue the track id.",
        ),
    ] = False,
    quality: Quality = False,
    score_threshold: Annotated[float | None, typer.Option(help="Least score of an instance.")] = None,
    max_instances: Annotated[int | None, typer.Option(help="Most instances in a frame.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    option: OptionTexts = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of images.")] = None,
    orientation: Orientation = "auto",
    value_range: ValueRange = None,
    reconnect: Reconnect = None,
    start: Annotated[int, typer.Option(min=0, help="First frame, of each video.")] = 0,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Most frames, of each video.")] = None,
    force: Force = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the videos that a run which ended early has finished; of several inputs leave out those "
            "whose results are whole.",
        ),
    ] = False,
    count: Jobs = None,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Segment and track the instances of videos: results.json, an overlay video and, if asked for, mask images.

    A frame that cannot be read is named and left out; of several inputs one that fails is told and the others go on
    (exit code 1). Ctrl-C finishes what is done (exit code 130); so does a full disk (exit code 1). The same command
    with --resume goes on from the videos that were finished.
    """
    given = quality_options(system, option or ()) if quality else {}
    given |= {"score_threshold": score_threshold, "max_instances": max_instances}
    check_segmenter(system, weights, device, precision, option or [], given)
    drawing = drawing_of(draw, min_score, classes)
    found = expanded(inputs)
    _tell_of_images(found)
    jobs = [
        SegmentJob(
            source=source,
            out=folder,
            system=system,
            weights=weights,
            device=device,
            precision=precision,
            threads=threads,
            texts=tuple(option or ()),
            given=given,
            images=images,
            fps=fps,
            orientation=orientation,
            value_range=value_range,
            reconnect=reconnect,
            start=start,
            max_frames=max_frames,
            overlay=overlay,
            drawing=drawing,
            save_masks=save_masks,
            save_panoptic=save_panoptic,
            csv=csv,
            mot=mot,
            force=force,
            resume=resume,
        )
        for source, folder in zip(found, result_folders(found, out, again=force or resume))
    ]
    if len(jobs) > 1:
        if show and (count is not None or ray is not None):
            raise OptionError("--show: several processes have no window; leave --jobs and --ray out")
        segment_several(context, jobs, count, ray, partial(segment_all, show=show))
        return
    refuse_alone(count, ray)
    segment_all(jobs, show=show)


def _tell_of_images(inputs: list[str]) -> None:
    """Of images that may be meant as one video, how that is said."""
    from vis_core.video.images import SUFFIXES

    folders = {Path(text).parent for text in inputs}
    if len(inputs) > 1 and len(folders) == 1 and all(Path(text).suffix.lower() in SUFFIXES for text in inputs):
        say(f"{len(inputs)} images, each by itself; as the frames of one video: vis segment {folders.pop()}/")


def segment_all(
    jobs: list[SegmentJob],
    on_end: Callable[[SegmentJob, RunOutcome], None] = lambda job, outcome: None,
    show: bool = False,
) -> None:
    """Do jobs that differ in input and place alone, one after the other; tell what came of them, and end the command.

    Args:
        jobs: to do.
        on_end: called with each that has ended.
        show: in a window, too.

    Raises:
        InputError, OptionError: an input or a place to write to cannot be right, or no window opens; nothing was begun.
    """
    several = len(jobs) > 1
    opened = _opened(jobs)
    for job, _ in opened:
        job.check_out()
    videos = [source for _, sources in opened for source in sources]
    window = _window() if show else None
    segmenter = jobs[0].load()
    totals = [job.frames(sources) for job, sources in opened]
    total = None if None in totals else sum(filter(None, totals))
    done: list[tuple[SegmentJob, RunOutcome]] = []
    failed = len(jobs) - len(opened)
    with interrupts("frame") as received, progress_bar(videos, total) as on_frame:
        for job, sources in opened:
            outcome = job.run(segmenter, sources, lambda: bool(received), on_frame, window)
            done.append((job, outcome))
            on_end(job, outcome)
            if outcome.stopped or isinstance(outcome.error, KeyboardInterrupt):
                break
            if several and (error := _failure(outcome)):
                failed += 1
                tell_failure(shown_input(job.source), error)
                if isinstance(error, OSError) and error.errno in FULL:
                    failed = len(jobs) - (len(done) - failed)
                    break
    if window is not None:
        window.close()
    if several:
        report_several([(job.out, outcome) for job, outcome in done])
        end_several([outcome for _, outcome in done], received, failed, len(jobs))
    else:
        report(done[0][1])
        end(done[0][1], received)


def _window() -> Window:
    from vis_core.video.window import open_window

    return open_window("vis segment (q: stop)")


def _failure(outcome: RunOutcome) -> BaseException | None:
    if outcome.error is None and not any(video.frames for video in outcome.videos):
        return InputError(NOTHING)
    return outcome.error


def _opened(jobs: list[SegmentJob]) -> list[tuple[SegmentJob, list[VideoSource]]]:
    """The jobs with their videos; of several, one whose input is damaged is told and left out.

    Raises:
        InputError: there is no such input, or none of them can be read.
    """
    if len(jobs) == 1:
        return [(jobs[0], jobs[0].open())]
    check_inputs(*(Path(job.source) for job in jobs if not is_live(job.source)))
    opened: list[tuple[SegmentJob, list[VideoSource]]] = []
    for job in jobs:
        try:
            opened.append((job, job.open()))
        except VisError as error:
            tell_failure(shown_input(job.source), error)
    if not opened:
        raise InputError(f"none of the {len(jobs)} inputs can be read")
    return opened
