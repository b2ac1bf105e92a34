"""The file ``metrics.json``: all scores at full precision, under the names of the tools.

Its schema is described in ``docs/metrics_schema.md``; a change of meaning or a removed key raises ``VERSION``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vis_core
from vis_core.data.class_matching import ClassMatching
from vis_core.evaluation.comparison import Comparison, Difference
from vis_core.evaluation.evaluator import Evaluation, flatten
from vis_core.evaluation.metrics.average_precision import IOU_THRESHOLDS, RECALL_THRESHOLDS, Curves
from vis_core.evaluation.metrics.hota import ALPHAS
from vis_core.evaluation.panoptic_scores import PanopticEvaluation
from vis_core.evaluation.streaming_scores import StreamEvaluation
from vis_core.files.atomic import atomic_write

VERSION = 1


def metrics(
    evaluation: Evaluation, ground_truth: str, results: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``metrics.json`` holds.

    Args:
        evaluation: the scores.
        ground_truth: path, for the reader.
        results: path, for the reader.
        options: of the evaluation, for the reader.
    """
    tracks = evaluation.tracks
    averages = {}
    if tracks is not None:
        averages = {
            "class_averaged": flatten(tracks.class_average),
            "occurring_class_averaged": flatten(tracks.occurring_class_average),
            "detection_averaged": flatten(tracks.detection_average),
        }
    return {
        "schema": "vis_core.evaluation",
        "version": VERSION,
        "tool": f"vis_core {vis_core.__version__}",
        "ground_truth": ground_truth,
        "results": results,
        "options": dict(options or {}),
        "classes": classes_entry(evaluation.classes, evaluation.class_agnostic),
        "summary": dict(evaluation.summary),
        **averages,
        "per_category": _rows(evaluation.categories, evaluation.per_category),
        "per_video": _rows(evaluation.videos, evaluation.per_video),
        "curves": _curves(evaluation),
        "warnings": list(evaluation.warnings),
    }


def stream_metrics(
    evaluation: StreamEvaluation, ground_truth: str, stream: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``metrics.json`` holds of a recorded stream; arguments as of ``metrics``."""
    first = {str(track): time for track, time in evaluation.first_detection.items()}
    return {
        "schema": "vis_core.evaluation.stream",
        "version": VERSION,
        "tool": f"vis_core {vis_core.__version__}",
        "ground_truth": ground_truth,
        "stream": stream,
        "options": dict(options or {}),
        "classes": classes_entry(evaluation.classes, evaluation.policies["strict"].class_agnostic),
        "policies": {
            policy: {
                "summary": dict(scores.summary),
                "per_category": _rows(scores.categories, scores.per_category),
            }
            for policy, scores in evaluation.policies.items()
        },
        "duration_s": evaluation.duration,
        "frames": evaluation.frames,
        "messages": evaluation.messages,
        "answered_frames": evaluation.answered_frames,
        "dropped_frames": evaluation.dropped_frames,
        "rate_hz": evaluation.rate,
        "latency_s": None if evaluation.latency is None else dict(evaluation.latency),
        "id_switches_per_minute": evaluation.id_switches_per_minute,
        "time_to_first_detection_s": {"per_track": first, **evaluation.first_detection_summary},
        "warnings": list(evaluation.warnings),
    }


def comparison_metrics(
    comparison: Comparison, ground_truth: str, results: tuple[str, str], options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``comparison.json`` holds of two result files; arguments as of ``metrics``."""

    def row(item: Difference) -> dict[str, float | None]:
        return {"first": item.first, "second": item.second, "difference": item.difference}

    return {
        "schema": "vis_core.evaluation.comparison",
        "version": VERSION,
        "tool": f"vis_core {vis_core.__version__}",
        "ground_truth": ground_truth,
        "results": list(results),
        "options": dict(options or {}),
        "classes": [classes_entry(classes, comparison.class_agnostic) for classes in comparison.classes],
        "draws": comparison.draws,
        "overall": {
            name: {**row(item), "low": item.low, "high": item.high} for name, item in comparison.overall.items()
        },
        "per_category": [
            {"id": number, "name": comparison.categories[number], **{name: row(item) for name, item in scores.items()}}
            for number, scores in comparison.per_category.items()
        ],
    }


def panoptic_metrics(
    evaluation: PanopticEvaluation, ground_truth: str, results: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``metrics.json`` holds of panoptic images; arguments as of ``metrics``."""
    classes = evaluation.classes
    return {
        "schema": "vis_core.evaluation.panoptic",
        "version": VERSION,
        "tool": f"vis_core {vis_core.__version__}",
        "ground_truth": ground_truth,
        "results": results,
        "options": dict(options or {}),
        "summary": dict(evaluation.summary),
        "per_category": [
            {"id": number, "name": name, "isthing": int(number in classes.things), **evaluation.per_category[number]}
            for number, name in classes.names.items()
        ],
        "per_video": [{"name": name, **scores} for name, scores in evaluation.per_video.items()],
        "class_areas": evaluation.class_areas.tolist(),
        "warnings": list(evaluation.warnings),
    }


def classes_entry(classes: ClassMatching | None, ignored: bool = False) -> dict[str, Any]:
    """How the results' classes met the categories, and those of either side without a partner.

    Args:
        classes: how they were matched; None: by ids.
        ignored: categories did not count.
    """
    if classes is None or ignored:
        return {"by": "none" if ignored else "ids", "renamed": {}, "without_category": [], "without_class": []}
    return {
        "by": "names",
        "renamed": dict(classes.renamed),
        "without_category": list(classes.without_category),
        "without_class": list(classes.without_class),
    }


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _rows(names: Mapping[int, str], scores: Mapping[int, Mapping[str, float]]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name, **scores[number]} for number, name in names.items()]


def _curves(evaluation: Evaluation) -> dict[str, Any]:
    """Scores over thresholds: AP over IoU, precision over recall, HOTA over its alphas."""
    out: dict[str, Any] = {}
    if evaluation.curves is not None:
        curves = evaluation.curves
        out["iou_thresholds"] = IOU_THRESHOLDS.tolist()
        out["AP_at_iou"] = ap_at_iou(curves)
        out["recall_thresholds"] = RECALL_THRESHOLDS.tolist()
        out["precision_at_recall"] = {
            "all_iou": precision_at_recall(curves, range(len(IOU_THRESHOLDS))),
            "iou_0.50": precision_at_recall(curves, [0]),
            "iou_0.75": precision_at_recall(curves, [5]),
        }
    if evaluation.tracks is not None and "HOTA" in evaluation.tracks.class_average:
        scores = evaluation.tracks.class_average["HOTA"]
        out["alphas"] = ALPHAS.tolist()
        for name in ("HOTA", "DetA", "AssA", "LocA"):
            out[f"{name}_at_alpha"] = scores[name].tolist()
    return out


def all_sizes(curves: Curves) -> np.ndarray:
    """Precision of all sizes (and occlusions) with 100 results: float64 ``[10 IoU, 101 recall, K]``; -1 unknown."""
    precision = curves.precision[..., 0, 2]
    return precision[..., 0] if precision.ndim == 4 else precision


def ap_at_iou(curves: Curves) -> list[float]:
    """AP at each IoU threshold; -1 where there is nothing to find."""
    return [_mean(at) for at in all_sizes(curves)]


def precision_at_recall(curves: Curves, thresholds: Sequence[int]) -> list[float]:
    """Precision at each recall, mean over categories and the IoU thresholds of these positions."""
    chosen = all_sizes(curves)[list(thresholds)]
    return [_mean(chosen[:, r]) for r in range(chosen.shape[1])]


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
