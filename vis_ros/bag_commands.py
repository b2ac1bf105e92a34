"""Commands of ``vis-ros`` that have no ground truth: a recording segmented, played, and a camera published."""

from __future__ import annotations

import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from vis_core.commands.drawing_options import DRAWN, Classes, Draw, MinScore, drawing_of
from vis_core.commands.fleet import Jobs, Ray, Resume, refuse_alone
from vis_core.commands.inputs import expanded
from vis_core.commands.interrupts import end_undisturbed, handled, interrupts
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
    load_segmenter,
    origin_of,
    quality_options,
)
from vis_core.commands.outcome import OUTPUTS, end, report
from vis_core.commands.progress import progress_bar
from vis_core.commands.reading import ValueRange, open_sources, tell_notes
from vis_core.commands.terminal import Force, Quiet, check_inputs, output, say
from vis_core.errors import InputError
from vis_core.files.outputs import output_folder
from vis_ros.bag_fleets import segment_bags
from vis_ros.requirements import require_ros

if TYPE_CHECKING:
    from vis_core.commands.video_outputs import AnswerWriter

_Bag = Annotated[Path, typer.Argument(metavar="BAG", help="Recording: its folder, or one .mcap or .db3 file.")]
_Topic = Annotated[str | None, typer.Option(help="Topic of images; default: the only one.")]


def segment_bag(
    context: typer.Context,
    bags: Annotated[
        list[str],
        typer.Argument(
            metavar="BAG...", help="Recording: its folder, or one .mcap or .db3 file; or a pattern ('nights/*')."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")],
    topic: _Topic = None,
    system: SystemName = "visolo-lite",
    weights: Weights = None,
    record: Annotated[
        bool,
        typer.Option(
            "--bag", help="Write a recording too (vis_bag, MCAP): the images, and the topics that the node publishes."
        ),
    ] = False,
    quality: Quality = False,
    overlay: Overlay = True,
    draw: Draw = DRAWN,
    min_score: MinScore = None,
    classes: Classes = "",
    save_masks: SaveMasks = None,
    csv: Csv = False,
    mot: Mot = False,
    option: OptionTexts = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    value_range: ValueRange = None,
    start: Annotated[int, typer.Option(min=0, help="First image.")] = 0,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Most images.")] = None,
    jobs: Jobs = None,
    ray: Ray = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Segment and track the instances of recordings: results.json, an overlay video and, with --bag, a new recording.

    Needs no ROS and no ground truth. An image that cannot be used is named and left out. Ctrl-C finishes what is done
    (exit code 130); so does a full disk (exit code 1). Of several recordings one that fails is told, and the others go
    on (exit code 1).
    """
    texts, found = option or [], expanded(bags)
    bag = Path(found[0])
    check_inputs(*map(Path, found))
    given = quality_options(system, texts) if quality else {}
    check_segmenter(system, weights, device, precision, texts, given)
    drawing = drawing_of(draw, min_score, classes)

    from vis_ros.recordings import segment_bag as recorded
    from vis_ros.recordings.bags import ImageBag

    patterns = (*OUTPUTS, *recorded.OUTPUTS)
    if len(found) > 1:
        segment_bags(context, found, out, patterns, jobs, ray, resume)
        return
    refuse_alone(jobs, ray, resume)
    if (out / recorded.FOLDER).resolve() in (bag.resolve(), bag.resolve().parent):
        raise InputError(f"{bag}: is what --out {out} would replace; choose another")
    with ImageBag(bag, topic, value_range) as images:
        tell_notes([images])
        if record:
            recorded.check_topics(images)
        stop = None if max_frames is None else start + max_frames
        total = max(min(images.length or 0, stop or images.length or 0) - start, 0)
        with output_folder(out, "segment-bag", patterns, force=force, tell=say) as folder:
            segmenter = load_segmenter(system, weights, device, precision, threads, texts, given)

            from vis_core.commands.segment import segment_videos

            def answers(here: Path) -> AnswerWriter:
                return recorded.AnswersBag(images, here, segmenter, system, start)

            with interrupts("image") as received, progress_bar([images], total) as on_frame:
                outcome = segment_videos(
                    segmenter,
                    [images],
                    folder,
                    overlay=overlay,
                    save_masks=save_masks,
                    csv=csv,
                    mot=mot,
                    start=start,
                    stop=stop,
                    stop_asked=lambda: bool(received),
                    on_frame=on_frame,
                    origin=origin_of(system, weights, given, texts),
                    answers=answers if record else None,
                    drawing=drawing,
                )
    outcome.unfinished = False  # one video: there is none to go on from
    report(outcome)
    end(outcome, received)


def play(
    context: typer.Context,
    bag: _Bag,
    topic: _Topic = None,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="2 plays twice as fast as recorded.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, until Ctrl-C.")] = False,
    stamp: Annotated[
        Literal["recorded", "now"], typer.Option(help="Of the headers: as recorded, or the time of publication.")
    ] = "recorded",
) -> None:
    """Publish the images of a recording, and its camera_info if there is one, on their topics, as ros2 bag play does.

    It waits up to 2 s for a first subscriber. Ctrl-C ends it (exit code 130). What follows --ros-args goes to ROS, such
    as -r /camera/image_raw:=/image.
    """
    check_inputs(bag)
    from vis_ros.recordings.bags import RecordedImages

    with RecordedImages(bag, topic) as images:
        require_ros()
        from vis_ros.recordings.player import RELIABLE, ImagePlayer, heard
        from vis_ros.recordings.session import Session

        _, first = next(images.messages(), (0, b""))
        stopped = _Interrupt()
        with (
            handled(stopped.set),
            Session(namespace="/", arguments=context.obj or [], image_bytes=len(first)) as session,
        ):
            watch = _Subscribers()
            player = ImagePlayer(
                session,
                images,
                on_sent=lambda stamp, at: watch.look(player.publisher),
                stamped_now=stamp == "now",
                camera_info=True,
                quality=RELIABLE,
            )
            with heard(player.publisher, stopped):
                count = player.play(rate, stopped)
                while loop and not stopped.wait(1 / (images.rate * rate)):
                    session.check()
                    count += player.play(rate, stopped)
            topic_name = player.publisher.topic_name
    _tell_end(f"{bag}: {count} images on {topic_name}", stopped)


def camera(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="CAMERA", help="Camera (0, /dev/video0), stream (rtsp://...), or video file."),
    ],
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="Images a second; of a camera at most. Default: as they come."),
    ] = None,
    frame_id: Annotated[str, typer.Option(help="Of the headers.")] = "camera",
    encoding: Annotated[Literal["rgb8", "bgr8"], typer.Option(help="Of the pixels.")] = "rgb8",
) -> None:
    """Publish a camera, a stream or a video file on the topic image, until it ends or Ctrl-C (exit code 130).

    What follows --ros-args goes to ROS, such as -r image:=/camera/image_raw.
    """
    (video, *more) = open_sources(source, None, None, "auto", None)
    if more:
        raise InputError(f"{source}: holds {1 + len(more)} videos; name a file, a folder of images or a camera")
    with video:
        require_ros()
        from vis_ros.camera import CameraPublisher
        from vis_ros.recordings.player import heard
        from vis_ros.recordings.session import Session

        height, width = video.size
        stopped = _Interrupt()
        with (
            handled(stopped.set),
            Session(namespace="/", arguments=context.obj or [], image_bytes=3 * height * width) as session,
        ):
            watch = _Subscribers()
            publisher = CameraPublisher(session, frame_id, encoding)
            with heard(publisher.publisher, stopped):
                count = publisher.run(video, rate, stopped, lambda: watch.look(publisher.publisher))
            session.check()
            topic_name = publisher.publisher.topic_name
    _tell_end(f"{source}: {count} images on {topic_name}", stopped)


class _Subscribers:
    """Tells how many subscribers there are, at first and when that changes."""

    def __init__(self) -> None:
        self._count = -1

    def look(self, publisher: Any) -> None:
        """At a publisher."""
        count = publisher.get_subscription_count()
        if count != self._count:
            self._count = count
            say(f"{publisher.topic_name}: {count} subscriber{'' if count == 1 else 's'}")


class _Interrupt:
    """An event that a signal sets: its handler may not wait for the lock that a `threading.Event` has.

    Attributes:
        received: the numbers of the signals that came.
    """

    def __init__(self) -> None:
        self.received: list[int] = []

    def set(self, number: int, frame: FrameType | None) -> None:
        """A handler."""
        end_undisturbed()
        self.received.append(number)

    def is_set(self) -> bool:
        """Whether one came."""
        return bool(self.received)

    def wait(self, timeout: float, /) -> bool:
        """Whether one comes within some seconds."""
        deadline = time.monotonic() + timeout
        while not self.received and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        return self.is_set()


def _tell_end(text: str, stopped: _Interrupt) -> None:
    output.print(escape(text))
    if stopped.is_set():
        raise typer.Exit(128 + stopped.received[0])
