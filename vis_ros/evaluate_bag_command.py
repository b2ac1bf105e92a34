"""``vis-ros evaluate-bag``: recordings and their ground truth in, scores out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vis_core.commands.evaluate import Categories
from vis_core.commands.fleet import Jobs, Ray, Resume, refuse_alone
from vis_core.commands.fleet_records import tell_figures
from vis_core.commands.inputs import expanded
from vis_core.commands.interrupts import end_undisturbed, handled
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
from vis_core.commands.reading import ValueRange, tell_notes
from vis_core.commands.system_checks import find_system
from vis_core.commands.terminal import Force, check_inputs, output, say, screen
from vis_core.data.class_matching import category_pairs
from vis_core.errors import InputError, OptionError, printable
from vis_core.files.outputs import output_folder
from vis_ros.requirements import require_ros

if TYPE_CHECKING:
    from vis_ros.recordings.bag_evaluation import Take
    from vis_ros.recordings.pairing import Pairing

_OUTPUTS = ("results.json", "results.info.json", "metrics.json", "stream.jsonl", "stream.info.json")
"""What `evaluate_bag` may write."""


def evaluate_bag(
    context: typer.Context,
    bags: Annotated[
        list[str],
        typer.Argument(
            metavar="BAG...", help="Recording: its folder, or one .mcap or .db3 file; or a pattern ('nights/*')."
        ),
    ],
    ground_truth: Annotated[
        Path, typer.Option(help="YouTube-VIS JSON; of several recordings each has the video that is called as it is.")
    ],
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
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for results.json, metrics.json and stream.jsonl; of several recordings each has one in it.",
        ),
    ] = Path("evaluation"),
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of the system; with --live any parameter of the node."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    value_range: ValueRange = None,
    jobs: Jobs = None,
    ray: Ray = None,
    resume: Resume = False,
    force: Force = False,
) -> None:
    """Score a system on recordings: AP and AR, HOTA, MOTA, IDF1 and id switches.

    Without --live every image goes through the system, one after the other. With --live the node runs as on a robot, in
    a process of its own, so that what it drops and how late it is counts; the scores are told by what was known when.
    Several recordings are scored one by one and then as one set; one that fails is told, and the others go on (exit
    code 1).
    """
    from vis_ros.bag_fleets import evaluate_bags, score_figures
    from vis_ros.recordings import bag_evaluation
    from vis_ros.recordings.bags import ImageBag
    from vis_ros.score_display import print_scores

    texts, found = option or [], expanded(bags)
    bag = Path(found[0])
    check_inputs(*map(Path, found), ground_truth)
    if live:
        require_ros()
    _check_choice(system, weights, device, precision, texts, live)
    if len(found) > 1:
        evaluate_bags(context, found, out, _OUTPUTS, jobs, ray, resume)
        return
    refuse_alone(jobs, ray, resume)

    def answer(pairing: Pairing, take: Take, folder: Path) -> dict[str, Any]:
        output.print(str(pairing))
        if not live:
            segmenter = load_segmenter(system, weights, device, precision, threads, texts, {})
            take.expect(segmenter.class_names)
            with progress_bar([images], images.length) as on_frame:
                return bag_evaluation.answer_directly(images, segmenter, pairing, take, on_frame)
        # AP wants the doubtful tracks too.
        parameters = {"min_score": 0.0} | _node_parameters(system, weights, device, precision, threads, texts)
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
    tell_figures(score_figures(metrics))
    print_scores(metrics, weights_are_random(system, weights))
    output.print(f"Written: {escape(str(out))}/results.json, metrics.json{', stream.jsonl' if live else ''}")


def _check_choice(system: str, weights: Path | None, device: str, precision: str, texts: list[str], live: bool) -> None:
    """See before torch is loaded whether the system, its options and its weights can be right."""
    known = find_system(system).options
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
