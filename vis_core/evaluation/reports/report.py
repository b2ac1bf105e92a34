"""The page ``report.html``: all scores, curves and the worst incidents, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from vis_core.errors import VisError
from vis_core.evaluation.evaluator import Evaluation
from vis_core.evaluation.inputs.tracks import GroundTruth, Results
from vis_core.evaluation.metrics.average_precision import IOU_THRESHOLDS, RECALL_THRESHOLDS
from vis_core.evaluation.metrics.hota import ALPHAS
from vis_core.evaluation.reports.charts import bar_chart, line_chart
from vis_core.evaluation.reports.incidents import Incident, worst_incidents
from vis_core.evaluation.reports.metrics_file import ap_at_iou, precision_at_recall
from vis_core.evaluation.reports.pictures import strip
from vis_core.files.atomic import atomic_write

_HEADLINES = (
    ("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "APs", "APm", "APl", "AP_light", "AP_medium", "AP_heavy"),
    ("HOTA", "DetA", "AssA", "LocA", "MOTA", "sMOTA", "IDF1", "IDSW", "Frag"),
)
_COUNTS = ("IDSW", "Frag", "CLR_FN", "CLR_FP", "GT_IDs", "IDs")
_CATEGORY_COLUMNS = ("AP", "AP50", "AP75", "AR10", "HOTA", "IDF1", "IDSW", "GT_IDs", "IDs")
_VIDEO_COLUMNS = ("AP50", "HOTA", "MOTA", "IDF1", "IDSW", "CLR_FN", "CLR_FP", "GT_IDs", "IDs")
_TITLES = {"CLR_FN": "FN", "CLR_FP": "FP", "GT_IDs": "tracks", "IDs": "results"}


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    ground_truth: str,
    results: str,
    incidents: str = "",
) -> None:
    """Write the page.

    Args:
        evaluation: the scores.
        path: of the page.
        ground_truth: path, for the reader.
        results: path, for the reader.
        incidents: the part of ``incidents_part``.

    Raises:
        OSError: the file cannot be written.
    """
    summary = evaluation.summary
    warnings = "".join(f"<li>{escape(text)}</li>" for text in evaluation.warnings)
    template = resources.files("vis_core.evaluation.reports").joinpath("report.html").read_text(encoding="utf-8")
    text = Template(template).substitute(
        title=escape(Path(results).name),
        files=f"{escape(results)} against {escape(ground_truth)}",
        counts=f"{len(evaluation.videos)} videos, {summary['GT_IDs']:.0f} tracks, {summary['IDs']:.0f} results"
        + (", categories ignored" if evaluation.class_agnostic else ""),
        warnings=f'<ul class="warnings">{warnings}</ul>' if warnings else "",
        headline="".join(_tiles(summary, names) for names in _HEADLINES),
        charts=_charts(evaluation),
        categories=_categories(evaluation),
        videos=_table("videos", "video", evaluation.videos, evaluation.per_video, _VIDEO_COLUMNS),
        incidents=incidents,
    )
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def incidents_part(
    ground_truth: GroundTruth, results: Results, images: Path, *, class_agnostic: bool = False
) -> tuple[str, list[str]]:
    """The worst identity switches and misses as picture strips.

    Args:
        ground_truth: what was to be found.
        results: what was found.
        images: folder of the videos' frames.
        class_agnostic: ignore the category labels.

    Returns:
        The part of the page, and what could not be shown.
    """
    parts, failed = [], []
    for incident in worst_incidents(ground_truth, results, class_agnostic=class_agnostic):
        try:
            pictures = strip(incident, results, images, ground_truth.categories)
        except VisError as error:
            failed.append(str(error))
            continue
        name = ground_truth.categories.get(incident.track.category, str(incident.track.category))
        parts.append(_strip(incident, name, pictures))
    if not parts:
        return "", failed
    return f"<section><h2>Worst identity switches and misses</h2>{''.join(parts)}</section>", failed


def _strip(incident: Incident, category: str, pictures: Sequence[tuple[int, str]]) -> str:
    if incident.kind == "switch":
        before, after = (_identity(result.track_id, result.entry) for result in incident.results)
        what = f"identity switch at frame {incident.frame}: {before} becomes {after}"
    else:
        what = f"missed in {incident.count} frames from frame {incident.frame}"
    head = f"{category} {incident.track.id} of {incident.video.name}: {what}"
    frames = "".join(
        f'<figure><img src="{data}" alt="frame {frame}: ground truth above, prediction below">'
        f"<figcaption>frame {frame}</figcaption></figure>"
        for frame, data in pictures
    )
    note = "above: the track in white; below: what was predicted there, of any class, each under the name of its class"
    return f'<div class="incident"><h3>{escape(head)}</h3><p>{note}</p><div class="strip">{frames}</div></div>'


def _identity(track_id: int | None, entry: int) -> str:
    return f"track {track_id}" if track_id is not None else f"results [{entry}]"


def _charts(evaluation: Evaluation) -> str:
    charts = []
    if evaluation.curves is not None:
        curves = evaluation.curves
        series = {
            "all IoU": precision_at_recall(curves, range(len(IOU_THRESHOLDS))),
            "IoU 0.50": precision_at_recall(curves, [0]),
            "IoU 0.75": precision_at_recall(curves, [5]),
        }
        charts.append(line_chart("Precision over recall", "recall", RECALL_THRESHOLDS.tolist(), series))
        at_iou = {"AP": ap_at_iou(curves)}
        charts.append(line_chart("AP over IoU threshold", "IoU threshold", IOU_THRESHOLDS.tolist(), at_iou, dots=True))
    if evaluation.tracks is not None and "HOTA" in evaluation.tracks.class_average:
        scores = evaluation.tracks.class_average["HOTA"]
        names = ("HOTA", "DetA", "AssA", "LocA")
        lines = {name: scores[name].tolist() for name in names}
        charts.append(line_chart("HOTA over localisation threshold", "alpha", ALPHAS.tolist(), lines))
    return "".join(charts)


def _categories(evaluation: Evaluation) -> str:
    if len(evaluation.categories) < 2:
        return ""
    occurring = {
        number: name for number, name in evaluation.categories.items() if evaluation.per_category[number]["GT_IDs"]
    }
    shown = [name for name in ("AP", "HOTA") if name in evaluation.summary]
    bars = ""
    if shown and occurring:
        rows = {name: [evaluation.per_category[n][score] for score in shown] for n, name in occurring.items()}
        bars = bar_chart("By category", rows, shown)
    table = _table("categories", "category", evaluation.categories, evaluation.per_category, _CATEGORY_COLUMNS)
    return f"<section><h2>Categories</h2>{bars}{table}</section>"


def _tiles(summary: Mapping[str, float], names: Sequence[str]) -> str:
    tiles = "".join(
        f"<div><dt>{name.replace('_', ' ')}</dt><dd>{_cell(name, summary[name])}</dd></div>"
        for name in names
        if name in summary
    )
    return f"<dl>{tiles}</dl>" if tiles else ""


def _table(
    identity: str, head: str, names: Mapping[int, str], rows: Mapping[int, Mapping[str, float]], columns: Sequence[str]
) -> str:
    """A table whose columns sort when their heads are pressed."""
    known = [name for name in columns if any(name in row for row in rows.values())]
    titles = [head, *(_TITLES.get(name, name) for name in known)]
    heads = "".join(f'<th scope="col"><button type="button">{escape(title)}</button></th>' for title in titles)
    body = []
    for number, name in names.items():
        row = rows[number]
        cells = "".join(f'<td data-value="{float(row.get(n, -1))!r}">{_cell(n, row.get(n, -1))}</td>' for n in known)
        body.append(f'<tr><th scope="row" data-value="{escape(name)}">{escape(name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table id="{identity}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(name: str, value: float) -> str:
    if value == -1 and name.startswith(("AP", "AR")):
        return "–"
    return f"{value:.0f}" if name in _COUNTS else f"{100 * value:.1f}"
