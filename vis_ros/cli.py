"""The command ``vis-ros``: recordings in, scores out, and the node without a ROS installation around it.

Commands import what they need when they run: ``make-bag`` and ``evaluate-bag`` without ``--live`` need no ROS at all.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vis_core.commands.evaluate import Categories
from vis_core.commands.interrupts import end_undisturbed, ended_in_order, handled, interrupts
from vis_core.commands.known_systems import find_known
from vis_core.commands.loading import (
    Device,
    Precision,
    SystemName,
    Threads,
    Weights,
    check_segmenter,
    class_names_of,
    load_segmenter,
    option_value,
    options_given,
    origin_of,
    warn_if_random,
    weights_are_random,
)
from vis_core.commands.progress import progress_bar
from vis_core.commands.reading import Orientation, ValueRange, open_sources, tell_notes
from vis_core.commands.running import new_app, run_command_line
from vis_core.commands.terminal import Force, check_inputs, output, say, screen
from vis_core.data.class_matching import category_pairs
from vis_core.errors import InputError, OptionError, printable
from vis_core.files.outputs import check_file, output_folder
from vis_ros import bag_commands
from vis_ros.requirements import require_ros

if TYPE_CHECKING:
    from vis_core.structures import Frame
    from vis_core.video.sources import VideoSource
    from vis_ros.recordings.bag_evaluation import Take
    from vis_ros.recordings.pairing import Pairing

_OUTPUTS = ("results.json", "results.info.json", "metrics.json", "stream.jsonl", "stream.info.json")
"""What `evaluate_bag` may write."""

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


@app.command("make-bag")
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


@app.command("evaluate-bag")
def evaluate_bag(
    bag: Annotated[Path, typer.Argument(help="Recording: its folder, or one .mcap or .db3 file.")],
    ground_truth: Annotated[Path, typer.Option(help="YouTube-VIS JSON.")],
    system: SystemName = "visolo-lite",
    weights: Weights = None,
    topic: Annotated[str | None, typer.Option(help="Topic of images; default: the only one.")] = None,
    depth_topic: Annotated[
        str | None, typer.Option(help="Of depth images, where the ground truth has positions; default: the only one.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Play it through real topics into the real node, at the recorded rate.")
    ] = False,
    video: Annotated[str | None, typer.Option(help="Name or id of the video, where there are several.")] = None,
    pair: Annotated[
        Literal["auto", "stamps", "order"],
        typer.Option(
            help="Images to frames: by the JSON's stamps, one after the other, or by stamps if there are any."
        ),
    ] = "auto",
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="With --live: 2 plays twice as fast.")] = 1.0,
    domain: Annotated[
        int | None, typer.Option(min=0, max=232, help="With --live: ROS domain; default: a free one.")
    ] = None,
    class_agnostic: Annotated[bool, typer.Option("--class-agnostic", help="Ignore the categories.")] = False,
    categories: Categories = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json, metrics.json and stream.jsonl.")] = Path(
        "evaluation"
    ),
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of the system; with --live any parameter of the node."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    value_range: ValueRange = None,
    force: Force = False,
) -> None:
    """Score a system on a recording: AP and AR, HOTA, MOTA, IDF1 and id switches.

    Without --live every image goes through the system, one after the other. With --live the node runs as on a robot, in
    a process of its own, so that what it drops and how late it is counts; the scores are told by what was known when.
    """
    from vis_ros.recordings import bag_evaluation
    from vis_ros.recordings.bags import ImageBag
    from vis_ros.score_display import print_scores

    texts = option or []
    check_inputs(bag, ground_truth)
    if live:
        require_ros()
    _check_choice(system, weights, device, precision, texts, live)

    def answer(pairing: Pairing, take: Take, folder: Path) -> dict[str, Any]:
        output.print(str(pairing))
        if not live:
            segmenter = load_segmenter(system, weights, device, precision, threads, texts, {})
            take.expect(segmenter.class_names)
            with progress_bar([images], images.length) as on_frame:
                return bag_evaluation.answer_directly(images, segmenter, pairing, take, on_frame)
        parameters = _node_parameters(system, weights, device, precision, threads, texts)
        parameters |= {} if value_range is None else {"range": value_range}
        take.expect(class_names_of(system, weights, texts))
        with _stages(images.length or 0) as (on_stage, on_sent):
            return bag_evaluation.answer_live(
                images,
                system,
                parameters,
                pairing,
                take,
                folder / "stream.jsonl",
                rate=rate,
                domain_id=domain,
                on_stage=on_stage,
                on_sent=on_sent,
            )

    with (
        _interruptible("no score was written"),
        output_folder(out, "evaluate-bag", _OUTPUTS, force=force, tell=say) as made,
        ImageBag(bag, topic, value_range) as images,
    ):
        tell_notes([images])
        metrics = bag_evaluation.evaluate_bag(
            images,
            ground_truth,
            made.path,
            answer,
            video=video,
            by=pair,
            class_agnostic=class_agnostic,
            categories=category_pairs(categories or ()),
            origin=origin_of(system, weights, None, texts),
            told_as=out,
            depth_topic=depth_topic,
        )
    print_scores(metrics, weights_are_random(system, weights))
    output.print(f"Written: {escape(str(out))}/results.json, metrics.json{', stream.jsonl' if live else ''}")


@app.command()
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
    from vis_ros.recordings.playback import InstanceRecorder, Received
    from vis_ros.recordings.session import Session
    from vis_ros.recordings.stream_files import new_stream, write_stream_message

    count, names = 0, dict[int, str]()
    with new_stream(out, force, say) as stream:

        def deliver(received: Received) -> None:
            nonlocal count
            write_stream_message(stream, received.instances, received.arrival)
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
                screen.print(f"Recording {escape(recorder.topic)}; Ctrl-C ends it.")
                while not stopped:
                    time.sleep(0.2)
                    recorder.check()
        finally:
            output.print(f"{escape(str(out))}: {count} messages")
    if count:
        write_info(out, ResultsInfo.of_classes(names, None, complete=False))


@app.command()
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
    find_known(system)
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


def _check_choice(system: str, weights: Path | None, device: str, precision: str, texts: list[str], live: bool) -> None:
    """See before torch is loaded whether the system, its options and its weights can be right."""
    known = find_known(system).options
    own = dict(options_given(texts))
    if live:
        from vis_core.files.yaml_files import read_yaml
        from vis_ros.node.transport import installed_file

        with suppress(InputError):  # a system of the user's own has no such file: the node's own table tells
            content = read_yaml(installed_file("config", f"{system}.yaml"), "parameters")
            for name in own.keys() - known.keys() - content["/**"]["ros__parameters"].keys():
                raise _no_parameter(name, own[name], system)
        texts = [f"{name}={value}" for name, value in own.items() if name in known]
    check_segmenter(system, weights, device, precision, texts, {})


def _no_parameter(name: str, value: str, system: str) -> OptionError:
    text = f"--option {printable(name)}={printable(value)}: the node has no such parameter to set"
    return OptionError(f"{text}; 'vis systems {system}' lists them")


def _node_parameters(
    system: str, weights: Path | None, device: str, precision: str, threads: int | None, texts: list[str]
) -> dict[str, Any]:
    """Parameters of the node, as ROS takes them, from what stands on the command line."""
    from vis_ros.node import parameters

    known = parameters.all_parameters(system)
    values: dict[str, Any] = {"device": device, "precision": precision, "threads": threads or 0}
    warn_if_random(system, weights)
    if weights is not None:
        values["weights"] = str(weights.resolve())
    for name, value in options_given(texts):
        if name not in known or name in ("system", "autostart", "image_transport"):
            raise _no_parameter(name, value, system)
        values[name] = option_value(value, known[name])
    return {name: parameters.to_ros(known[name], known[name].check(name, value)) for name, value in values.items()}


@contextmanager
def _interruptible(outcome: str) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end what is inside in order, with exit code 128 + the signal's number."""
    received = [signal.SIGINT]

    def interrupt(number: int, frame: FrameType | None) -> None:
        received[0] = signal.Signals(number)
        end_undisturbed()
        raise KeyboardInterrupt

    try:
        with handled(interrupt):
            yield
    except KeyboardInterrupt:
        screen.print(f"[yellow]Stopped[/]: {outcome}.")
        raise typer.Exit(128 + received[0]) from None


@contextmanager
def _stages(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A progress bar over the images sent, named after what goes on."""
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=screen) as progress:
        task = progress.add_task("", total=total)
        yield (lambda stage: progress.update(task, description=stage)), (lambda: progress.advance(task))


# Commands that live elsewhere; their module imports nothing heavy before they run.
app.command("segment-bag")(bag_commands.segment_bag)
app.command()(bag_commands.play)
app.command()(bag_commands.camera)

if __name__ == "__main__":
    main()
