"""The command ``vis-ros``: recordings in, scores out, and the node without a ROS installation around it.

Commands import what they need when they run: ``make-bag`` and ``evaluate-bag`` without ``--live`` need no ROS at all.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from vis_core.commands.examples import examples
from vis_core.commands.interrupts import end_undisturbed, ended_in_order, handled, interrupts
from vis_core.commands.progress import progress_bar
from vis_core.commands.reading import Orientation, ValueRange, open_sources
from vis_core.commands.running import Command, new_app, run_command_line
from vis_core.commands.system_checks import find_system
from vis_core.commands.terminal import Force, output, say, screen
from vis_core.errors import InputError
from vis_core.files.outputs import check_file
from vis_ros import bag_commands, evaluate_bag_command
from vis_ros.command_examples import VIS_ROS
from vis_ros.requirements import require_ros

if TYPE_CHECKING:
    from vis_core.structures import Frame
    from vis_core.video.sources import VideoSource

app = new_app("Camera recordings in, scores out; and the segmenter node, where ROS is only a set of Python packages.")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``vis-ros``: an error of ours is told in one message, with exit code 2.

    Args:
        arguments: default: those of the process. What follows ``--ros-args`` is for ROS, unread.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    ros = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    with ended_in_order():
        run_command_line(lambda: app(arguments[:ros], prog_name="vis-ros", obj=arguments[ros:]))


@app.command("make-bag", epilog=examples(VIS_ROS["make-bag"]))
def make_bag(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Video file, folder of images, or YouTube-VIS JSON.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the recording to make.")],
    topic: Annotated[str, typer.Option(help="Of the images; jpeg and png add /compressed.")] = "/camera/image_raw",
    encoding: Annotated[
        Literal["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "jpeg", "png"], typer.Option(help="Of the pixels.")
    ] = "rgb8",
    storage: Annotated[Literal["sqlite3", "mcap"], typer.Option(help="Format of the recording.")] = "sqlite3",
    compression: Annotated[
        Literal["none", "zstd"], typer.Option(help="zstd: of each message (sqlite3) or chunk (mcap).")
    ] = "none",
    fps: Annotated[float | None, typer.Option(help="Frames per second of images without stamps.")] = None,
    frame_id: Annotated[str, typer.Option(help="Of the headers.")] = "camera",
    video: Annotated[str | None, typer.Option(help="Name or id of the video, where a JSON has several.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that holds the images of a JSON.")] = None,
    orientation: Orientation = "auto",
    value_range: ValueRange = None,
    force: Force = False,
) -> None:
    """Make a rosbag2 recording of frames, with the stamps that they have.

    Those that count from the start of a video do so from 1700000000 s (14 November 2023): to ROS, 0 is no time.
    A frame that cannot be read is named and left out. Ctrl-C ends the recording there (exit code 130).
    """
    from vis_core.data.file_time import dated
    from vis_ros.recordings.bag_writer import check_bag, write_bag

    check_bag(out, storage, force)
    chosen = _choose_video(open_sources(source, images, fps, orientation, value_range), video, source)
    with chosen, interrupts("frame") as received, progress_bar([chosen], chosen.length) as on_frame:

        def until_interrupted() -> Iterator[Frame]:
            for frame in dated(chosen):
                yield frame
                if received:
                    return

        written = write_bag(
            until_interrupted(),
            out,
            topic=topic,
            encoding=encoding,
            storage=storage,
            compression=compression,
            frame_id=frame_id,
            force=force,
            on_frame=on_frame,
            tell=say,
        )
    early = "Stopped early; what is done stands in " if received else ""
    output.print(f"{early}{escape(str(out))}: {written}, {len(chosen.skipped)} frames skipped")
    if received:
        raise typer.Exit(128 + received[0])


@app.command(epilog=examples(VIS_ROS["record"]))
def record(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="File to write.")],
    topic: Annotated[str, typer.Option(help="Topic of instances.")] = "/vis/instances",
    force: Force = False,
) -> None:
    """Record what a node publishes, with arrival times, one JSON line a message, until Ctrl-C."""
    check_file(out, force, say)
    require_ros()
    from vis_core.files.results_info import ResultsInfo, write_info
    from vis_ros.recordings.announced_classes import AnnouncedClasses
    from vis_ros.recordings.playback import InstanceRecorder, Received
    from vis_ros.recordings.session import Session
    from vis_ros.recordings.stream_files import new_stream, write_stream_message

    count, names = 0, dict[int, str]()
    with new_stream(out, force, say) as stream:

        def deliver(received: Received) -> None:
            nonlocal count
            write_stream_message(stream, received.instances, received.arrival, class_names=received.class_names)
            names.update(received.class_names)
            count += 1

        stopped: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            end_undisturbed()
            stopped.append(number)

        try:
            with (
                handled(stop),
                Session(namespace="/", arguments=context.obj or []) as session,
                InstanceRecorder(session, deliver, topic) as recorder,
            ):
                announced = AnnouncedClasses(session, recorder.topic)
                screen.print(f"Recording {escape(recorder.topic)}; Ctrl-C ends it.")
                while not stopped:
                    announced.look()
                    time.sleep(0.2)
                    recorder.check()
        finally:
            output.print(f"{escape(str(out))}: {count} messages")
    if count:
        known = announced.complete(names)
        write_info(out, ResultsInfo.of_classes(known or names, None, complete=known is not None))


@app.command(epilog=examples(VIS_ROS["run"]))
def run(
    context: typer.Context,
    system: Annotated[str, typer.Argument(help="System, by its name in 'vis systems'.")],
    params_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="ROS parameter file; default: the shipped one.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Of the node and its topics.")] = "vis",
    default_transport: Annotated[
        bool, typer.Option("--default-transport", help="Leave the shipped shared-memory profile out.")
    ] = False,
) -> None:
    """Run the segmenter node, as the launch file does; what follows --ros-args goes to ROS.

    For example: vis-ros run visolo --ros-args -r image:=/camera/image_raw -p weights:=visolo.safetensors
    """
    require_ros()
    find_system(system)
    from vis_ros.node import segmenter_node
    from vis_ros.node.transport import installed_file

    parameters = params_file or installed_file("config", f"{system}.yaml")
    given = context.obj or ["--ros-args"]
    # Of parameters the last rule counts, of names the first: so the user's stand between ours.
    ours = ["--ros-args", "--params-file", str(parameters), "-p", f"system:={system}"]
    transport = ["--default-transport"] if default_transport else []
    segmenter_node.main([*transport, *ours, *given, "--ros-args", "-r", f"__ns:=/{namespace.strip('/')}"])


def _choose_video(sources: list[VideoSource], wanted: str | None, source: str) -> VideoSource:
    found = [one for one in sources if wanted is None or wanted in (one.name, str(one.video_id))]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{one.name} (id {one.video_id})" for one in sources[:20]) + (
        ", ..." if len(sources) > 20 else ""
    )
    problem = "several videos, name one with --video" if wanted is None else f"no single video {wanted!r}"
    raise InputError(f"{source}: {problem}; it holds {known}")


# Commands that live elsewhere; their module imports nothing heavy before they run.
app.command("evaluate-bag", epilog=examples(VIS_ROS["evaluate-bag"]))(evaluate_bag_command.evaluate_bag)
app.command("segment-bag", cls=Command, epilog=examples(VIS_ROS["segment-bag"]))(bag_commands.segment_bag)
app.command(epilog=examples(VIS_ROS["play"]))(bag_commands.play)
app.command(epilog=examples(VIS_ROS["camera"]))(bag_commands.camera)

if __name__ == "__main__":
    main()
