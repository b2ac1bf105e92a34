"""What bfloat16 changes in VISOLO's answers: scores and masks of the same grid cells, frame by frame, on a video.

    python benchmarks/precision.py VIDEO [--weights visolo.safetensors] [--frames 30]

Both networks see the same frames and keep their own memory, so that differences may add up over time as they would.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.models.visolo import detection
from vis_core.models.visolo.model import VISOLO


class Tapped:
    """A segmenter whose input to the detection step is kept."""

    def __init__(self, precision: str, weights: Path | None, size: tuple[int, int]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmenter = vis_core.load("visolo", weights, precision=precision, input_size=size)
        assert isinstance(segmenter, VISOLO)
        self.segmenter = segmenter
        self.outputs: tuple[Any, ...] = ()
        detect = segmenter.detect

        def keep(*arguments: Any) -> detection.Detections:
            self.outputs = arguments
            return detect(*arguments)

        segmenter.detect = keep  # type: ignore[method-assign]

    def candidates(self, cells: torch.Tensor) -> detection.Detections:
        """Masks and scores of some cells of the frame, whatever the thresholds."""
        maps, categories, kernels, weight = self.outputs
        scores, labels = categories.max(0)
        scores = scores if weight is None else scores * weight
        features = self.segmenter.network.mask(*maps)[0]
        kept = cells, labels[cells], scores[cells]
        found = detection.candidates(features, kernels.to(features.dtype), categories, kept, 0.5, published_quirks=True)
        return found.chosen(found.cells.argsort())


@torch.inference_mode()
def main(
    video: Annotated[Path, typer.Argument(help="video file or folder of images")],
    weights: Annotated[Path | None, typer.Option(help="a checkpoint; random weights otherwise")] = None,
    frames: Annotated[int, typer.Option(help="of the video")] = 30,
    cells: Annotated[int, typer.Option(help="compared in each frame: those of highest score in float32")] = 20,
    height: Annotated[int, typer.Option(help="of the network's input")] = 352,
    width: Annotated[int, typer.Option(help="of the network's input")] = 624,
) -> None:
    """Compare bfloat16 with float32."""
    full, half = (Tapped(precision, weights, (height, width)) for precision in ("fp32", "bf16"))
    category, score, iou, same_label = [], [], [], []
    with vis_core.open_video(video) as source:
        for frame, _ in zip(source, range(frames)):
            full.segmenter.step(frame)
            half.segmenter.step(frame)
            category.append(float((full.outputs[1] - half.outputs[1]).abs().max()))
            best = full.outputs[1].amax(0).sort(descending=True, stable=True).indices[:cells].sort().values
            a, b = full.candidates(best), half.candidates(best)
            score += (a.scores - b.scores).abs().tolist()
            same_label += (a.labels == b.labels).tolist()
            union = (a.masks | b.masks).sum((1, 2))
            iou += ((a.masks & b.masks).sum((1, 2)) / union)[union > 0].tolist()
    table = Table(title=f"bfloat16 against float32: {video.name}, {len(category)} frames, {height}x{width}")
    for column in ("", "median", "worst 5 %", "worst"):
        table.add_column(column, justify="right" if column else "left")
    sound = np.array(score)[np.isfinite(score)]
    for name, values, worst in (
        ("category scores, largest difference of a frame", np.array(category), 95),
        (f"score of the {cells} best cells, difference", sound, 95),
        ("mask of these cells, IoU", np.array(iou), 5),
    ):
        extreme = values.max() if worst > 50 else values.min()
        table.add_row(name, f"{np.median(values):.4f}", f"{np.percentile(values, worst):.4f}", f"{extreme:.4f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"same label: {np.mean(same_label):.1%} of {len(same_label)} cells; weights: {weights or 'random'}")


if __name__ == "__main__":
    typer.run(main)
