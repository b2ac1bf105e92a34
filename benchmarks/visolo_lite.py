"""Measures visolo-lite's weights on held-out data: the figures of its model card, docs/visolo_lite.md.

    python benchmarks/visolo_lite.py DATA [--weights run/best.safetensors] [--option birth_threshold=0.1]

DATA holds davis/val.json, pseudo/val.json and coco_small/val.json. `vis segment` runs over each as a user would run
it, and the evaluator scores its results: AP of tracks over the completely labelled videos of the first two together;
the share of the labelled tracks of a set for which some result has the class and the masks (video IoU 0.5); AP of the
completely labelled images.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from conditions import Quick, tell
from rich.console import Console
from rich.table import Table

from vis_core.evaluation import evaluate

_out = Console(highlight=False, soft_wrap=True)
Content = dict[str, Any]


def main(
    data: Annotated[Path, typer.Argument(help="folder of the data sets")],
    weights: Annotated[Path | None, typer.Option(help="default: those that ship")] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="of the system")] = None,
    threads: Annotated[int, typer.Option()] = 2,
    quick: Quick = False,
) -> None:
    """Print the figures as a table."""
    given = ["--threads", str(threads), *(["--weights", str(weights)] if weights else [])]
    for pair in option or []:
        given += ["--option", pair]
    with tempfile.TemporaryDirectory() as folder:
        davis, pseudo, coco = (
            _segment(data / name / "val.json", Path(folder) / name, given, quick)
            for name in ("davis", "pseudo", "coco_small")
        )
    table = Table("what", *("AP", "AP50", "AP75"), "tracks or objects")
    complete = _joined([_complete(*davis), _complete(*pseudo)])
    _add(table, "complete videos of davis and pseudo", *complete)
    for name, found in (("davis", davis), ("pseudo", pseudo)):
        _add(table, f"{name}, complete videos", *_complete(*found))
    _add(table, "coco_small, complete images", *_complete(*coco))
    _out.print(table, soft_wrap=False)
    for name, found in (("davis", davis), ("pseudo", pseudo), ("davis, complete videos", _complete(*davis))):
        hits, count = _recall(*found)
        _out.print(f"recall at IoU 0.5, {name}: {hits} of {count}, {hits / count:.2f}")


def _segment(annotations: Path, out: Path, options: Sequence[str], quick: bool) -> tuple[Content, list[Content]]:
    """Ground truth and results of a set; of its first complete video or images alone if it is to be quick."""
    tell(f"segmenting {annotations}")
    folder = annotations.parent
    images = folder / "frames" if (folder / "frames").is_dir() else folder
    if quick:
        annotations = _little(json.loads(annotations.read_text()), out.with_suffix(".json"))
    command = [
        sys.executable,
        "-c",
        "from vis_core.commands.main import main; main()",
        "segment",
        str(annotations),
        "--no-overlay",
    ]
    command += ["--out", str(out), "--images", str(images), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(annotations.read_text()), json.loads((out / "results.json").read_text())


def _little(truth: Content, path: Path) -> Path:
    """The first complete video of a set, or three images, as a file."""
    items, key = _keys(truth)
    kept = [item for item in truth[items] if not item["partial"]][: 1 if items == "videos" else 3]
    ids = {item["id"] for item in kept}
    annotations = [annotation for annotation in truth["annotations"] if annotation[key] in ids]
    path.write_text(json.dumps({**truth, items: kept, "annotations": annotations}))
    return path


def _keys(truth: Content) -> tuple[str, str]:
    return ("videos", "video_id") if "videos" in truth else ("images", "image_id")


def _complete(truth: Content, results: list[Content]) -> tuple[Content, list[Content]]:
    """What is of videos or images in which everything is labelled."""
    items, key = _keys(truth)
    kept = [item for item in truth[items] if not item["partial"]]
    ids = {item["id"] for item in kept}
    annotations = [annotation for annotation in truth["annotations"] if annotation[key] in ids]
    found = [result for result in results if result["video_id"] in ids]  # an image is a video of one frame
    return {**truth, items: kept, "annotations": annotations}, found


def _joined(parts: Sequence[tuple[Content, list[Content]]]) -> tuple[Content, list[Content]]:
    """Several sets of videos as one."""
    videos: list[Content] = []
    annotations: list[Content] = []
    results: list[Content] = []
    for part, (truth, found) in enumerate(parts):
        shift = 100_000 * part
        videos += [{**video, "id": video["id"] + shift} for video in truth["videos"]]
        annotations += [{**a, "id": a["id"] + shift, "video_id": a["video_id"] + shift} for a in truth["annotations"]]
        results += [{**result, "video_id": result["video_id"] + shift} for result in found]
    return {"videos": videos, "categories": parts[0][0]["categories"], "annotations": annotations}, results


def _add(table: Table, name: str, truth: Content, results: list[Content]) -> None:
    evaluation = evaluate(truth, results)
    rows = [(name, evaluation.summary, len(truth["annotations"]))]
    for category in truth["categories"]:
        count = sum(annotation["category_id"] == category["id"] for annotation in truth["annotations"])
        if count:
            rows.append((f"  {category['name']}", evaluation.per_category[category["id"]], count))
    for what, scores, count in rows:
        table.add_row(what, *(f"{100 * scores[metric]:.1f}" for metric in ("AP", "AP50", "AP75")), str(count))


def _recall(truth: Content, results: list[Content]) -> tuple[int, int]:
    """How many of the labelled tracks are found, each by itself, and how many there are."""
    hits = 0
    for annotation in truth["annotations"]:
        alone = {**truth, "annotations": [annotation]}
        alone["videos"] = [video for video in truth["videos"] if video["id"] == annotation["video_id"]]
        same = ("video_id", "category_id")
        found = [result for result in results if all(result[key] == annotation[key] for key in same)]
        best = 0.0
        for result in found:
            scores = evaluate(alone, [result]).per_category[annotation["category_id"]]
            best = max(best, scores["AP50"])
        hits += best > 0
    return hits, len(truth["annotations"])


if __name__ == "__main__":
    typer.run(main)
