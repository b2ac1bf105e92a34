"""The commands ``vis evaluate`` and ``vis submit``.

They import what they need when they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vis_core.evaluation.evaluator import Evaluation
    from vis_core.evaluation.track_scores import TrackScores
    from vis_core.evaluation.tracks import GroundTruth, Results

_MOST_ROWS = 40
_COUNTS = ("IDSW", "Frag", "CLR_FN", "CLR_FP", "GT_IDs", "IDs")
_AP_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
_OCCLUSION_COLUMNS = ("AP_light", "AP_medium", "AP_heavy", "AR_light", "AR_medium", "AR_heavy")
_TRACK_ROWS = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "sMOTA", "IDSW", "Frag", "IDF1", "IDP", "IDR")
_CATEGORY_COLUMNS = ("AP", "AP50", "AP75", "AR10", "GT_IDs", "HOTA", "IDF1", "IDSW")
_STREAM_COLUMNS = ("AP", "AP50", "AR10", "HOTA", "MOTA", "IDF1", "IDSW")
_VIDEO_COLUMNS = ("AP50", "HOTA", "IDSW", "CLR_FN", "CLR_FP")

_output = Console(highlight=False, soft_wrap=True)


def evaluate(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Result file: JSON list of tracks, or folder of MOTS text.")
    ],
    ground_truth: Annotated[
        Path, typer.Option(help="Ground truth: JSON of YouTube-VIS, OVIS or COCO images, or folder of MOTS text.")
    ],
    metrics: Annotated[str, typer.Option(help="Scores, with commas: ap, hota, clear, identity.")] = (
        "ap,hota,clear,identity"
    ),
    class_agnostic: Annotated[bool, typer.Option("--class-agnostic", help="Ignore the categories.")] = False,
    compat: Annotated[
        bool, typer.Option("--compat", help="Reproduce what the official tools get wrong in silence.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; the scores are the same.")] = 1,
    stream: Annotated[
        bool, typer.Option("--stream", help="RESULTS is a recorded stream, one JSON message a line.")
    ] = False,
    first_frame: Annotated[
        int, typer.Option(min=0, max=1, help="Of MOTS text: 0 of KITTI-MOTS, 1 of MOTSChallenge.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.json.")] = None,
) -> None:
    """Score a result file against ground truth: AP and AR, HOTA, CLEAR (MOTA), Identity (IDF1).

    Scores are shown in percent; '-' where there is nothing to find. Files that would give a wrong number are refused.
    """
    from vis_core.evaluation import evaluator
    from vis_core.evaluation.metrics_file import metrics as metrics_of
    from vis_core.evaluation.metrics_file import write_json

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    if stream:
        _evaluate_stream(results, ground_truth, names, class_agnostic, out)
        return
    truth: Path | GroundTruth = ground_truth
    found: Path | Results = results
    if ground_truth.is_dir() or ground_truth.suffix == ".txt":
        from vis_core.evaluation.mots import read_mots

        truth, found = read_mots(ground_truth, results, first_frame=first_frame)
    evaluation = evaluator.evaluate(truth, found, names, class_agnostic=class_agnostic, compat=compat, jobs=jobs)
    _show(evaluation)
    if out is not None:
        options = {"metrics": names, "class_agnostic": class_agnostic, "compat": compat}
        path = out / "metrics.json"
        write_json(metrics_of(evaluation, str(ground_truth), str(results), options), path)
        _output.print(f"Written: {escape(str(path))}")


def submit(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Result file: JSON list of tracks.")],
    split: Annotated[str, typer.Option(help="Benchmark: ytvis2019, ytvis2021 or ovis.")],
    videos: Annotated[
        Path | None, typer.Option(help="JSON of the split's videos; without it ids, sizes and lengths go unchecked.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Zip to write; default: RESULTS with the ending .zip.")] = None,
) -> None:
    """Check a result file against the rules of a benchmark server and write the zip that it wants."""
    from vis_core.evaluation.submission import pack

    target = results.with_suffix(".zip") if out is None else out
    packed = pack(results, split, target, videos)
    for text in packed.warnings:
        _output.print(f"[yellow]warning:[/] {escape(text)}")
    tracks = sum(len(items) for items in packed.tracks.values())
    used = sum(1 for items in packed.tracks.values() if items)
    size = target.stat().st_size / 1e6
    _output.print(f"Written: {escape(str(target))}: {tracks} tracks in {used} videos, {size:.1f} MB")


def _evaluate_stream(
    stream: Path, ground_truth: Path, names: list[str], class_agnostic: bool, out: Path | None
) -> None:
    from vis_core.evaluation.metrics_file import stream_metrics, write_json
    from vis_core.evaluation.streaming_scores import evaluate_stream

    evaluation = evaluate_stream(ground_truth, stream, names, class_agnostic=class_agnostic)
    scores = {policy: part.summary for policy, part in evaluation.policies.items()}
    _print_table(scores, _STREAM_COLUMNS, "frame takes", "Stream")
    first, latency = evaluation.first_detection_summary, evaluation.latency or {}
    figures = {
        "frames": f"{evaluation.frames} in {evaluation.duration:.2f} s",
        "answered": f"{evaluation.answered_frames}, {_figure(evaluation.rate, '.2f', ' a second')}",
        "dropped": str(evaluation.dropped_frames),
        "latency p50 / p95 / p99 / max": " / ".join(
            _figure(latency.get(key), ".3f", " s") for key in ("p50", "p95", "p99", "max")
        ),
        "identity switches a minute": _figure(evaluation.id_switches_per_minute, ".2f", ""),
        "time to first detection": f"{_figure(first['mean'], '.3f', ' s')} mean, "
        f"{_figure(first['median'], '.3f', ' s')} median, {first['never']} never detected",
    }
    table = Table(show_header=False)
    for name, text in figures.items():
        table.add_row(name, text)
    _output.print(table, soft_wrap=False)
    if out is not None:
        options = {"metrics": names, "class_agnostic": class_agnostic}
        path = out / "metrics.json"
        write_json(stream_metrics(evaluation, str(ground_truth), str(stream), options), path)
        _output.print(f"Written: {escape(str(path))}")


def _figure(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _show(evaluation: Evaluation) -> None:
    """The tables of an evaluation."""
    for columns in (_AP_COLUMNS, _OCCLUSION_COLUMNS):
        _print_table({"": evaluation.summary}, columns, "", None)
    if evaluation.tracks is not None:
        _print_averages(evaluation.tracks)
    occurring = {
        f"{name} ({number})": evaluation.per_category[number]
        for number, name in evaluation.categories.items()
        if evaluation.per_category[number]["GT_IDs"] or evaluation.per_category[number]["IDs"]
    }
    if len(evaluation.categories) > 1:
        _print_table(occurring, _CATEGORY_COLUMNS, "category", "Per category")
    videos = {f"{name} ({number})": evaluation.per_video[number] for number, name in evaluation.videos.items()}
    if len(videos) > 1:
        _print_table(videos, _VIDEO_COLUMNS, "video", "Per video")


def _print_averages(tracks: TrackScores) -> None:
    """Track scores over all classes, in the three ways of averaging."""
    from vis_core.evaluation.evaluator import flatten

    averages = {
        "classes": flatten(tracks.class_average),
        "occurring classes": flatten(tracks.occurring_class_average),
        "detections": flatten(tracks.detection_average),
    }
    table = Table("mean over", title="Tracks", title_justify="left")
    for name in averages:
        table.add_column(name, justify="right")
    for name in _TRACK_ROWS:
        if name in averages["detections"]:
            table.add_row(name, *(_cell(name, row[name]) for row in averages.values()))
    _output.print(table, soft_wrap=False)


def _print_table(
    rows: Mapping[str, Mapping[str, float]], columns: tuple[str, ...], head: str, title: str | None
) -> None:
    known = [name for name in columns if any(name in row for row in rows.values())]
    if not known:
        return
    table = Table(title=title, title_justify="left")
    if head:
        table.add_column(head, overflow="fold")
    for name in known:
        table.add_column(name, justify="right", no_wrap=True)
    for label, row in list(rows.items())[:_MOST_ROWS]:
        cells = [_cell(name, row.get(name)) for name in known]
        table.add_row(*([escape(label)] if head else []), *cells)
    _output.print(table, soft_wrap=False)
    if len(rows) > _MOST_ROWS:
        _output.print(f"... and {len(rows) - _MOST_ROWS} more; --out writes all of them")


def _cell(name: str, value: Any) -> str:
    if value is None or (value == -1 and name.startswith(("AP", "AR"))):
        return "-"
    return f"{value:.0f}" if name in _COUNTS else f"{100 * value:.1f}"
