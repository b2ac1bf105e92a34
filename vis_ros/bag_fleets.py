"""Several recordings of one command: what each is asked, and the scores over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from vis_core.commands.fleet import BEFORE, DONE, Fleet, Input, finish, summarise, sums
from vis_core.commands.fleet_records import asked_of
from vis_core.commands.inputs import result_folders
from vis_core.commands.terminal import check_inputs
from vis_core.errors import OptionError

_PROGRAM = ("-m", "vis_ros.cli")
_SHOWN = ("AP", "HOTA", "MOTA", "IDF1", "IDSW")


def segment_bags(
    context: typer.Context,
    bags: Sequence[str],
    out: Path | None,
    patterns: Sequence[str],
    jobs: int | None,
    ray: str | None,
    resume: bool,
) -> None:
    """Segment recordings, each into a folder of its own; tell what came of them, and end the command.

    Args:
        context: of the command.
        bags: the recordings.
        out: folder of the folders.
        patterns: of all that is written for one.
        jobs, ray, resume: as of the command.
    """
    check_inputs(*map(Path, bags))
    fleet = _fleet(context, "bags", patterns, resume, "summary.json", ("segment-bag",))
    inputs = [Input(bag, folder) for bag, folder in zip(bags, result_folders(bags, out, again=True))]
    received = fleet.run(inputs, jobs, ray)
    summarise(fleet, inputs, sums(inputs))
    finish(inputs, received)


def evaluate_bags(
    context: typer.Context,
    bags: Sequence[str],
    out: Path,
    patterns: Sequence[str],
    jobs: int | None,
    ray: str | None,
    resume: bool,
) -> None:
    """Score a system on recordings, each on the video that is called as it is; then on all of them together.

    Args:
        context: of the command.
        bags: the recordings.
        out: folder of the folders.
        patterns: of all that is written for one.
        jobs, ray, resume: as of the command.

    Raises:
        InputError: a recording has no video in the ground truth.
    """
    from vis_core.evaluation import read_ground_truth
    from vis_ros.recordings.bag_evaluation import select_video

    parameters = context.params
    for name in ("video", "domain"):
        if parameters[name] is not None:
            raise OptionError(
                f"--{name} {parameters[name]}: is for one recording; of several each has the video that is called as "
                "the recording, and a ROS domain of its own"
            )
    check_inputs(*map(Path, bags), parameters["ground_truth"])
    truth = read_ground_truth(parameters["ground_truth"])
    inputs, videos = [], []
    for bag, folder in zip(bags, result_folders(bags, out, again=True)):
        path = Path(bag).absolute()
        name = path.name if path.is_dir() else path.stem
        videos.append(select_video(truth, name, parameters["ground_truth"])[1].id)
        inputs.append(Input(bag, folder, ("--video", str(videos[-1]))))
    fleet = _fleet(context, "bags", patterns, resume, "metrics.json", ("evaluate-bag",))
    received = fleet.run(inputs, jobs, ray)
    done = {video: one.folder for video, one in zip(videos, inputs) if one.state in (DONE, BEFORE)}
    scores, rows = _over_all(truth, done, parameters) if done else ({}, [])
    summarise(
        fleet,
        inputs,
        sums_of_frames(inputs) | (_shown(scores) if scores else {}),
        {"scores": scores, "per_category": rows},
    )
    finish(inputs, received)


def score_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one recording, of its ``metrics.json``."""
    return {**{name: metrics["pairing"][name] for name in ("frames", "paired")}, **_shown(metrics["scores"])}


def _shown(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The main ones; None for what is no number."""
    kept = {name: None if math.isnan(scores[name]) else scores[name] for name in _SHOWN}
    return kept | {"IDSW": int(scores["IDSW"])}


def sums_of_frames(inputs: Sequence[Input]) -> dict[str, Any]:
    """Frames, and those that had an image, of all recordings."""
    total = sums(inputs)
    return {name: total[name] for name in ("frames", "paired") if name in total}


def _over_all(
    truth: Any, done: Mapping[int, Path], parameters: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores of the answers to all recordings, as one set of videos; and those of each category."""
    from vis_core.data.class_matching import category_pairs
    from vis_core.evaluation import evaluate, read_results
    from vis_core.evaluation.evaluator import METRICS

    left_out = {name: wanted for name, wanted in category_pairs(parameters["categories"] or ()).items() if not wanted}
    part = replace(
        truth,
        videos={video: truth.videos[video] for video in sorted(done)},
        tracks={video: truth.tracks[video] for video in sorted(done)},
    )
    found = {
        video: read_results(folder / "results.json", _one(part, video), categories=left_out)
        for video, folder in done.items()
    }
    first = next(iter(found.values()))
    tracks = {video: results.tracks[video] for video, results in found.items()}
    joined = replace(first, tracks=tracks, warnings=(), category_warnings=())
    scores = evaluate(part, joined, METRICS, class_agnostic=parameters["class_agnostic"])
    rows = [{"id": number, "name": scores.categories[number], **row} for number, row in scores.per_category.items()]
    return dict(scores.summary), rows


def _one(truth: Any, video: int) -> Any:
    return replace(truth, videos={video: truth.videos[video]}, tracks={video: truth.tracks[video]})


def _fleet(
    context: typer.Context, inputs: str, patterns: Sequence[str], resume: bool, summary: str, command: Sequence[str]
) -> Fleet:
    parameters = context.params
    return Fleet(
        (*_PROGRAM, *command),
        asked_of(context, inputs, ("video", "domain")),
        summary,
        patterns,
        parameters["threads"],
        parameters["device"],
        parameters["force"],
        resume,
    )
