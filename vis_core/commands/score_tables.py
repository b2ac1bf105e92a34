"""Scores as tables on a terminal: fractions in percent, counts as they are, '-' where there is nothing to find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from vis_core.commands.tables import show
from vis_core.commands.terminal import output
from vis_core.data.class_matching import ClassMatching
from vis_core.evaluation.comparison import Comparison, Difference
from vis_core.evaluation.evaluator import Evaluation, flatten
from vis_core.evaluation.metrics.track_scores import TrackScores
from vis_core.evaluation.panoptic_scores import PanopticEvaluation
from vis_core.evaluation.streaming_scores import StreamEvaluation

_MAX_ROWS = 40
_COUNTS = ("IDSW", "Frag", "CLR_FN", "CLR_FP", "GT_IDs", "IDs", "frames")
_AP_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
_OCCLUSION_COLUMNS = ("AP_light", "AP_medium", "AP_heavy", "AR_light", "AR_medium", "AR_heavy")
_TRACK_ROWS = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "sMOTA", "IDSW", "Frag", "IDF1", "IDP", "IDR")
_CATEGORY_COLUMNS = ("AP", "AP50", "AP75", "AR10", "GT_IDs", "HOTA", "IDF1", "IDSW")
_VIDEO_COLUMNS = ("AP50", "HOTA", "IDSW", "CLR_FN", "CLR_FP")
_STREAM_COLUMNS = ("AP", "AP50", "AR10", "HOTA", "MOTA", "IDF1", "IDSW")
_CATEGORY_DIFFERENCES = ("AP", "AP50", "HOTA", "IDF1")
_UNKNOWN_IS_MINUS_ONE = ("AP", "AR", "STQ", "AQ", "SQ", "VPQ", "IoU")
_PANOPTIC_VIDEO_COLUMNS = ("STQ", "AQ", "SQ", "VPQ", "frames", "GT_IDs", "IDs")
_PANOPTIC_COLUMNS = ("STQ", "AQ", "SQ", "VPQ", "VPQ_things", "VPQ_stuff", "frames", "GT_IDs", "IDs")


def print_evaluation(evaluation: Evaluation) -> None:
    """Headline scores, averages of track scores, per category and per video."""
    for columns in (_AP_COLUMNS, _OCCLUSION_COLUMNS):
        _print_table({"": evaluation.summary}, columns)
    if evaluation.tracks is not None:
        _print_averages(evaluation.tracks)
    occurring = {
        f"{name} ({number})": evaluation.per_category[number]
        for number, name in evaluation.categories.items()
        if evaluation.per_category[number]["GT_IDs"] or evaluation.per_category[number]["IDs"]
    }
    if len(evaluation.categories) > 1:
        _print_table(occurring, _CATEGORY_COLUMNS, "category", "Per category")
    _print_partnerless(evaluation.classes)
    videos = {f"{name} ({number})": evaluation.per_video[number] for number, name in evaluation.videos.items()}
    if len(videos) > 1:
        _print_table(videos, _VIDEO_COLUMNS, "video", "Per video")


def _print_partnerless(classes: ClassMatching | None, of: str = "") -> None:
    if classes is not None:
        print_partnerless(classes.without_category, classes.without_class, of)


def print_partnerless(without_category: Sequence[str], without_class: Sequence[str], of: str = "") -> None:
    """The classes of results that are no category, and the categories that are no class, if there are any.

    Args:
        without_category: names of the classes.
        without_class: names of the categories.
        of: which results, for the title.
    """
    if not without_category and not without_class:
        return
    table = Table(title=f"Classes without a partner{of}", title_justify="left", show_header=False)
    sides = {"of the results: dropped": without_category, "of the ground truth: never found": without_class}
    for side, names in sides.items():
        if names:
            table.add_row(side, escape(", ".join(names)))
    show(table)


def print_stream(evaluation: StreamEvaluation) -> None:
    """Scores under each policy, and figures of time."""
    scores = {policy: part.summary for policy, part in evaluation.policies.items()}
    _print_table(scores, _STREAM_COLUMNS, "frame takes", "Stream")
    _print_partnerless(evaluation.classes)
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
    show(table)


def print_panoptic(evaluation: PanopticEvaluation) -> None:
    """Scores of panoptic images: in all, VPQ by windows, per category and per video."""
    _print_table({"": evaluation.summary}, _PANOPTIC_COLUMNS)
    kinds = {"all": "", "things": "_things", "stuff": "_stuff"}
    of_windows = [f"VPQ_{n}" for n in evaluation.windows]
    rows = {kind: {name: evaluation.summary[name + end] for name in of_windows} for kind, end in kinds.items()}
    spacing = "" if evaluation.spacing == 1 else f", spacing {evaluation.spacing}"
    _print_table(rows, of_windows, "classes", f"VPQ by frames of a window{spacing}")
    names, things = evaluation.classes.names, evaluation.classes.things
    occurring = {
        f"{names[number]} ({number}), {'thing' if number in things else 'stuff'}": row
        for number, row in evaluation.per_category.items()
        if max(row.values()) >= 0
    }
    _print_table(occurring, ("IoU", "VPQ", *of_windows), "category", "Per category")
    if len(evaluation.per_video) > 1:
        _print_table(evaluation.per_video, _PANOPTIC_VIDEO_COLUMNS, "video", "Per video")


def print_comparison(comparison: Comparison, first: str, second: str) -> None:
    """Scores of two files side by side, and the differences of each category."""
    output.print(f"A: {escape(first)}\nB: {escape(second)}")
    for name, classes in zip("AB", comparison.classes):
        _print_partnerless(classes, f" ({name})")
    table = Table("", title="A and B", title_justify="left")
    for name in ("A", "B", "B - A", *(["95 % of draws"] if comparison.draws else [])):
        table.add_column(name, justify="right")
    for name, item in comparison.overall.items():
        interval = "-"
        if item.low is not None and item.high is not None:
            interval = f"{100 * item.low:+.1f} to {100 * item.high:+.1f}"
        style = ("green" if item.difference > 0 else "red") if item.is_clear else None
        cells = (_cell(name, item.first), _cell(name, item.second), _change(item), interval)
        table.add_row(name, *cells[: len(table.columns) - 1], style=style)
    show(table)
    if comparison.draws:
        text = f"Intervals: bootstrap over videos, {comparison.draws} draws; coloured where they leave out 0."
    else:
        text = "No intervals: they are bootstraps over videos, of which it takes two, and draws (--draws)."
    output.print(text)
    known = [name for name in _CATEGORY_DIFFERENCES if any(name in row for row in comparison.per_category.values())]
    if not known or len(comparison.per_category) < 2:
        return
    table = Table("category", title="Per category, A, B and B - A", title_justify="left")
    for name in known:
        table.add_column(name, justify="right")
    for number, row in comparison.per_category.items():
        changes = tuple(f"{_cell(n, row[n].first)}  {_cell(n, row[n].second)}  {_change(row[n])}" for n in known)
        table.add_row(escape(f"{comparison.categories[number]} ({number})"), *changes)
    show(table)


def _print_averages(tracks: TrackScores) -> None:
    """Track scores over all classes, in the three ways of averaging."""
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
    show(table)


def _print_table(
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    head: str = "",
    title: str | None = None,
) -> None:
    known = [name for name in columns if any(name in row for row in rows.values())]
    if not known:
        return
    table = Table(title=title, title_justify="left")
    if head:
        table.add_column(head)
    for name in known:
        table.add_column(name, justify="right")
    for label, row in list(rows.items())[:_MAX_ROWS]:
        cells = [_cell(name, row.get(name)) for name in known]
        table.add_row(*([escape(label)] if head else []), *cells)
    show(table)
    if len(rows) > _MAX_ROWS:
        output.print(f"... and {len(rows) - _MAX_ROWS} more; --out writes all of them")


def _cell(name: str, value: float | None) -> str:
    if value is None or (value == -1 and name.startswith(_UNKNOWN_IS_MINUS_ONE)):
        return "-"
    return f"{value:.0f}" if name in _COUNTS else f"{100 * value:.1f}"


def _change(item: Difference) -> str:
    return "-" if item.first == -1 or item.second == -1 else f"{100 * item.difference:+.1f}"


def _figure(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
