"""Scores of mask tracks: average precision of YouTube-VIS and OVIS, HOTA, CLEAR and IDF1, equal to the official tools.

    from vis_core.evaluation import evaluate

    evaluation = evaluate("instances.json", "results.json")     # ground truth, results: paths or parsed JSON
    evaluation.summary["AP"], evaluation.summary["AR10"]         # also AP50, AP75, APs, APm, APl, AR1, AR100, ...
    evaluation.per_category[3]["AP50"]                           # by category id; names in evaluation.categories
    evaluation.per_video[7]["AP50"]                              # by video id; names in evaluation.videos
    evaluation.curves.precision                                  # the official arrays

    evaluation = evaluate("instances.json", "results.json", ("ap", "hota", "clear", "identity"), jobs=4)
    evaluation.summary["HOTA"], evaluation.summary["IDSW"], evaluation.summary["IDF1"]

    evaluate("instances.json", "results.json", categories={"lorry": "truck"})    # classes that are called differently

    from vis_core.evaluation import evaluate_stream              # what a node published, with arrival times

    evaluate_stream("instances.json", "stream.jsonl").policies["live"].summary["AP"]

    from vis_core.evaluation import evaluate_panoptic            # folders of PNGs in KITTI-STEP's form

    evaluate_panoptic("panoptic/", "predictions/", "kitti-step").summary["STQ"]      # also AQ, SQ, VPQ, VPQ_things, ...

Where ``results.info.json`` lies beside ``results.json``, classes are matched with categories by name; else by id.
Scores are fractions, -1 where there is nothing to find. A file that would give a wrong number is refused with an
``InputError`` that names every fault; what is only odd is told as an ``InputWarning`` and kept in
``evaluation.warnings``. Needs NumPy, SciPy and pycocotools, for panoptic images OpenCV; never torch.

The names below are loaded on first use, so that the command line is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vis_core.evaluation.comparison import Comparison as Comparison
    from vis_core.evaluation.comparison import compare as compare
    from vis_core.evaluation.evaluator import Evaluation as Evaluation
    from vis_core.evaluation.evaluator import evaluate as evaluate
    from vis_core.evaluation.inputs.ground_truth import read_ground_truth as read_ground_truth
    from vis_core.evaluation.inputs.mots import read_mots as read_mots
    from vis_core.evaluation.inputs.mots import write_mots as write_mots
    from vis_core.evaluation.inputs.results import read_results as read_results
    from vis_core.evaluation.inputs.stream import Stream as Stream
    from vis_core.evaluation.inputs.stream import read_stream as read_stream
    from vis_core.evaluation.inputs.tracks import GroundTruth as GroundTruth
    from vis_core.evaluation.inputs.tracks import Result as Result
    from vis_core.evaluation.inputs.tracks import Results as Results
    from vis_core.evaluation.inputs.tracks import Track as Track
    from vis_core.evaluation.inputs.tracks import Video as Video
    from vis_core.evaluation.panoptic_scores import PanopticEvaluation as PanopticEvaluation
    from vis_core.evaluation.panoptic_scores import evaluate_panoptic as evaluate_panoptic
    from vis_core.evaluation.streaming_scores import StreamEvaluation as StreamEvaluation
    from vis_core.evaluation.streaming_scores import evaluate_stream as evaluate_stream
    from vis_core.files.findings import InputWarning as InputWarning

_HOME = {
    "Comparison": "comparison",
    "Evaluation": "evaluator",
    "GroundTruth": "inputs.tracks",
    "InputWarning": "vis_core.files.findings",
    "PanopticEvaluation": "panoptic_scores",
    "Result": "inputs.tracks",
    "Results": "inputs.tracks",
    "Stream": "inputs.stream",
    "StreamEvaluation": "streaming_scores",
    "Track": "inputs.tracks",
    "Video": "inputs.tracks",
    "compare": "comparison",
    "evaluate": "evaluator",
    "evaluate_panoptic": "panoptic_scores",
    "evaluate_stream": "streaming_scores",
    "read_ground_truth": "inputs.ground_truth",
    "read_mots": "inputs.mots",
    "read_results": "inputs.results",
    "read_stream": "inputs.stream",
    "write_mots": "inputs.mots",
}
__all__ = [
    "Comparison",
    "Evaluation",
    "GroundTruth",
    "InputWarning",
    "PanopticEvaluation",
    "Result",
    "Results",
    "Stream",
    "StreamEvaluation",
    "Track",
    "Video",
    "compare",
    "evaluate",
    "evaluate_panoptic",
    "evaluate_stream",
    "read_ground_truth",
    "read_mots",
    "read_results",
    "read_stream",
    "write_mots",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vis_core.evaluation' has no attribute {name!r}")
    home = _HOME[name]
    return getattr(import_module(home if home.startswith("vis_core.") else f"vis_core.evaluation.{home}"), name)
