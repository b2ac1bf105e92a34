"""The commands ``vis evaluate`` and ``vis submit``.

They import what they need when they run.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vis_core.commands.terminal import Force, check_inputs, output, say
from vis_core.data.class_matching import category_pairs
from vis_core.errors import OptionError, nearest
from vis_core.files.outputs import OutputFolder, check_file, output_folder

if TYPE_CHECKING:
    from vis_core.evaluation.evaluator import Evaluation
    from vis_core.evaluation.inputs.tracks import GroundTruth, Results

_REPORT = "report.html"
_OUTPUTS = ("metrics.json", "comparison.json", _REPORT)

Categories = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FROM=TO",
        help="Class FROM of the results is category TO, where their names differ; FROM= drops it. May be repeated.",
    ),
]


def evaluate(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS", help="Result file: JSON list of tracks, or folder of MOTS text or of panoptic PNGs."
        ),
    ],
    ground_truth: Annotated[
        Path,
        typer.Option(
            help="Ground truth: JSON of YouTube-VIS, OVIS or COCO images, or folder of MOTS text or of panoptic PNGs."
        ),
    ],
    metrics: Annotated[
        str | None, typer.Option(help="Scores, with commas, of ap, hota, clear, identity; without: all of them.")
    ] = None,
    class_agnostic: Annotated[
        bool,
        typer.Option("--class-agnostic", help="Ignore the categories; those that the ground truth lacks count too."),
    ] = False,
    categories: Categories = None,
    compat: Annotated[
        bool, typer.Option("--compat", help="Reproduce what the official tools get wrong in silence.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; the scores are the same.")] = 1,
    stream: Annotated[
        bool, typer.Option("--stream", help="RESULTS is a recorded stream, one JSON message a line.")
    ] = False,
    panoptic: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSES",
            help="Score folders of panoptic PNGs (KITTI-STEP's form) by STQ and VPQ; their classes: kitti-step, "
            "vipseg, or a JSON list of {id, name, isthing}.",
        ),
    ] = None,
    windows: Annotated[str, typer.Option(help="Of panoptic PNGs: frames of the windows of VPQ, with commas.")] = (
        "1,2,3,4"
    ),
    spacing: Annotated[
        int, typer.Option(min=1, help="Of panoptic PNGs: VPQ takes every frame, every second, ... of the ground truth.")
    ] = 1,
    compare: Annotated[
        bool, typer.Option("--compare", help="Put two result files side by side, with a bootstrap over videos.")
    ] = False,
    draws: Annotated[int, typer.Option(min=0, help="Draws of the bootstrap.")] = 500,
    first_frame: Annotated[
        int, typer.Option(min=0, max=1, help="Of MOTS text: 0 of KITTI-MOTS, 1 of MOTSChallenge.")
    ] = 0,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the frames: the report shows the worst switches and misses.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for metrics.json and report.html.")] = None,
    force: Force = False,
) -> None:
    """Score a result file against ground truth: AP and AR, HOTA, CLEAR (MOTA), Identity (IDF1).

    Scores are shown in percent; '-' where there is nothing to find. Files that would give a wrong number are refused.
    With --compare: vis evaluate --compare A.json B.json --ground-truth GT.json. With --panoptic: vis evaluate FOLDER
    --ground-truth FOLDER --panoptic kitti-step, both with a folder of PNGs a video; no report.html is written.
    """
    if len(results) != (2 if compare else 1):
        wanted = "--compare takes two result files" if compare else "give one result file; two with --compare"
        raise OptionError(f"vis evaluate: {wanted}, not {len(results)}")
    check_inputs(*results, ground_truth, images)
    with _outputs(out, force) as folder:
        if panoptic is not None:
            given = compare or stream or compat or class_agnostic or categories
            if given or metrics is not None or images is not None:
                others = "--compare, --stream, --compat, --class-agnostic, --categories, --metrics or --images"
                raise OptionError(f"vis evaluate --panoptic: does not go with {others}")
            _evaluate_panoptic(results[0], ground_truth, panoptic, _integers("windows", windows), spacing, jobs, folder)
            return
        wanted = "ap,hota,clear,identity" if metrics is None else metrics
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        renamed = category_pairs(categories or ())
        options: dict[str, Any] = {"metrics": names, "class_agnostic": class_agnostic, "compat": compat}
        if stream:
            if compare or compat:
                raise OptionError("vis evaluate --stream: goes neither with --compare nor with --compat")
            _evaluate_stream(results[0], ground_truth, names, class_agnostic, renamed, folder)
            return

        from vis_core.commands.score_tables import print_comparison, print_evaluation
        from vis_core.evaluation.reports.metrics_file import comparison_metrics
        from vis_core.evaluation.reports.metrics_file import metrics as metrics_of

        pairs = _pairs_of_each(results, renamed)
        files = [
            _read(path, ground_truth, images, first_frame, compat, class_agnostic, pairs[path]) for path in results
        ]
        found = [_evaluate(*pair, jobs, options) for pair in files]
        if compare:
            from vis_core.evaluation.comparison import compare as compare_evaluations

            comparison = compare_evaluations(*found, draws=draws)
            print_comparison(comparison, str(results[0]), str(results[1]))
            paths = (str(results[0]), str(results[1]))
            _write(comparison_metrics(comparison, str(ground_truth), paths, options), folder, "comparison.json")
            return
        print_evaluation(found[0])
        _write(metrics_of(found[0], str(ground_truth), str(results[0]), options), folder, "metrics.json")
        if folder is not None:
            truth, read = files[0]
            counted = read.counted(truth.categories, class_agnostic=class_agnostic, compat=compat)
            _write_report(found[0], truth, counted, folder, (ground_truth, results[0]), images, class_agnostic)


def submit(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Result file: JSON list of tracks.")],
    split: Annotated[str, typer.Option(help="Benchmark: ytvis2019, ytvis2021 or ovis.")],
    videos: Annotated[
        Path | None, typer.Option(help="JSON of the split's videos; without it ids, sizes and lengths go unchecked.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Zip to write; default: RESULTS with the ending .zip.")
    ] = None,
    categories: Categories = None,
    force: Force = False,
) -> None:
    """Check a result file against the rules of a benchmark server and write the zip that it wants.

    Classes get the ids of the split by name, where RESULTS has its companion (results.info.json) beside it.
    """
    from vis_core.evaluation.inputs.submission import SPLITS, pack

    target = results.with_suffix(".zip") if out is None else out
    if split not in SPLITS:
        raise OptionError(f"--split: {split!r} is unknown; {nearest(split, SPLITS)}")
    check_inputs(results, videos)
    check_file(target, force, say)
    packed = pack(results, split, target, videos, category_pairs(categories or ()))
    for text in packed.warnings:
        output.print(f"[yellow]warning:[/] {escape(text)}")
    tracks = sum(len(items) for items in packed.tracks.values())
    used = sum(1 for items in packed.tracks.values() if items)
    size = target.stat().st_size / 1e6
    output.print(f"Written: {escape(str(target))}: {tracks} tracks in {used} videos, {size:.1f} MB")


def _read(
    results: Path,
    ground_truth: Path,
    images: Path | None,
    first_frame: int,
    compat: bool,
    class_agnostic: bool,
    renamed: dict[str, str],
) -> tuple[GroundTruth, Results]:
    if ground_truth.is_dir() or ground_truth.suffix == ".txt":
        from vis_core.evaluation.inputs.mots import read_mots

        if renamed:
            raise OptionError("--categories: MOTS text names no classes; its numbers are those of the benchmark")
        return read_mots(ground_truth, results, first_frame=first_frame, class_agnostic=class_agnostic)
    from vis_core.evaluation.inputs.ground_truth import read_ground_truth
    from vis_core.evaluation.inputs.results import read_results

    truth = read_ground_truth(ground_truth, compat=compat, images=images)
    return truth, read_results(results, truth, compat=compat, categories=renamed)


def _pairs_of_each(paths: list[Path], renamed: dict[str, str]) -> dict[Path, dict[str, str]]:
    """Of two files that are compared, the pairs that speak of classes of each; what none has stays with both."""
    from vis_core.data.class_matching import knows_class
    from vis_core.files.results_info import read_info

    infos = {path: read_info(path) for path in paths} if renamed else {}
    known = {
        path: {name for name in renamed if knows_class(info.categories, name)} for path, info in infos.items() if info
    }
    somewhere = set().union(*known.values())
    return {
        path: {name: to for name, to in renamed.items() if name not in somewhere or name in known.get(path, (name,))}
        for path in paths
    }


def _evaluate(truth: GroundTruth, results: Results, jobs: int, options: dict[str, Any]) -> Evaluation:
    from vis_core.evaluation import evaluator

    return evaluator.evaluate(truth, results, jobs=jobs, **options)


def _write_report(
    evaluation: Evaluation,
    truth: GroundTruth,
    results: Results,
    folder: OutputFolder,
    names: tuple[Path, Path],
    images: Path | None,
    class_agnostic: bool,
) -> None:
    from vis_core.evaluation.reports.report import incidents_part, write_report

    incidents, failed = "", list[str]()
    if images is not None:
        incidents, failed = incidents_part(truth, results, images, class_agnostic=class_agnostic)
    write_report(
        evaluation, folder.path / _REPORT, ground_truth=str(names[0]), results=str(names[1]), incidents=incidents
    )
    for text in failed:
        output.print(f"[yellow]not shown in the report:[/] {escape(text)}")
    output.print(f"Written: {escape(str(folder.folder / _REPORT))}")


def _evaluate_stream(
    stream: Path,
    ground_truth: Path,
    names: list[str],
    class_agnostic: bool,
    renamed: dict[str, str],
    folder: OutputFolder | None,
) -> None:
    from vis_core.commands.score_tables import print_stream
    from vis_core.evaluation.reports.metrics_file import stream_metrics
    from vis_core.evaluation.streaming_scores import evaluate_stream

    evaluation = evaluate_stream(ground_truth, stream, names, class_agnostic=class_agnostic, categories=renamed)
    print_stream(evaluation)
    options = {"metrics": names, "class_agnostic": class_agnostic}
    _write(stream_metrics(evaluation, str(ground_truth), str(stream), options), folder, "metrics.json")


def _evaluate_panoptic(
    results: Path,
    ground_truth: Path,
    classes: str,
    windows: list[int],
    spacing: int,
    jobs: int,
    folder: OutputFolder | None,
) -> None:
    from vis_core.commands.score_tables import print_panoptic
    from vis_core.evaluation.panoptic_scores import evaluate_panoptic
    from vis_core.evaluation.reports.metrics_file import panoptic_metrics

    evaluation = evaluate_panoptic(ground_truth, results, classes, windows=windows, spacing=spacing, jobs=jobs)
    print_panoptic(evaluation)
    options = {"classes": classes, "windows": windows, "spacing": spacing}
    _write(panoptic_metrics(evaluation, str(ground_truth), str(results), options), folder, "metrics.json")


def _integers(name: str, text: str) -> list[int]:
    """Whole numbers with commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"{name}: {text!r} is not whole numbers with commas, as in 1,2,3,4") from None


def _write(content: dict[str, Any], folder: OutputFolder | None, name: str) -> None:
    """Write a JSON file into the folder, if one is wanted, and say so."""
    if folder is not None:
        from vis_core.evaluation.reports.metrics_file import write_json

        write_json(content, folder.path / name)
        output.print(f"Written: {escape(str(folder.folder / name))}")


def _outputs(out: Path | None, force: bool) -> AbstractContextManager[OutputFolder | None]:
    """The folder to write to, if one is wanted."""
    return nullcontext() if out is None else output_folder(out, "evaluate", _OUTPUTS, force=force, tell=say)
