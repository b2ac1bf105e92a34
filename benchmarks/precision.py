"""What narrower arithmetic changes in the answers of each system that has it: masks of the best of each frame, scores.

    python benchmarks/precision.py [VIDEO] [--system visolo] [--weights visolo.safetensors] [--frames 30] [--every 10]

float32 and the others see the same frames and keep their own memory, so that differences may add up over time as they
would. Compared are the 20 grid cells, or queries, of highest score in float32, or all if there are fewer: what each
says of itself, whatever the thresholds. `auto` is taken as on a CPU that multiplies in bfloat16 (AMX, or AVX-512 with
it), whatever this one can.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from conditions import Quick, first_frames, tell
from rich.console import Console
from rich.table import Table
from torch import Tensor

import vis_core
from vis_core.models.mask2former_vis import decoding
from vis_core.models.mask2former_vis.transformer_decoder import mask_logits
from vis_core.models.visolo import detection
from vis_core.nn import precision as cpu_precision
from vis_core.structures import Frame

CELLS = 20
BOUND = 0.98


class Tapped(ABC):
    """A segmenter whose candidates are looked at before any threshold."""

    def __init__(self, system: str, weights: Path | None, precision: str, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.segmenter = vis_core.load(system, weights, precision=precision, device="cpu", **options)
        self.model: Any = self.segmenter.model  # type: ignore[attr-defined]
        self.seconds = 0.0

    def step(self, frame: Frame) -> None:
        """One more frame."""
        began = time.perf_counter()
        self.segmenter.step(frame)
        self.seconds += time.perf_counter() - began

    @abstractmethod
    def scores(self) -> Tensor:
        """Best class score of each candidate of the last frame ``[N]``."""

    @abstractmethod
    def masks(self, chosen: Tensor) -> Tensor:
        """Masks of some candidates of the last frame, bool ``[M, h, w]``."""


class Grid(Tapped):
    """VISOLO: grid cells."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        detect = self.model.detect
        self.seen: tuple[Any, ...] = ()

        def keep(*given: Any) -> detection.Detections:
            self.seen = given
            return detect(*given)

        self.model.detect = keep

    def scores(self) -> Tensor:
        reading = self.seen[1]
        best = reading.categories.max(0)
        return torch.from_numpy(best if reading.weight is None else best * reading.weight)

    def masks(self, chosen: Tensor) -> Tensor:
        logits = self.model.grid.mask_logits(*self.seen, chosen.numpy())
        return torch.from_numpy(detection.mask_probabilities(logits) > 0.5)


class Queries(Tapped):
    """MinVIS and Mask2Former-VIS: queries."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        decode = self.model.network.decode
        self.seen: tuple[Any, Any] = (None, None)

        def keep(features: Any, space_time: bool) -> Any:
            self.seen = features, decode(features, space_time)
            return self.seen[1]

        self.model.network.decode = keep

    def scores(self) -> Tensor:
        logits = self.seen[1].logits
        return decoding.class_scores(logits if logits.dim() == 2 else logits[0]).amax(1)

    def masks(self, chosen: Tensor) -> Tensor:
        features, out = self.seen
        embeddings = out.mask_embeddings if out.mask_embeddings.dim() == 2 else out.mask_embeddings[0]
        return mask_logits(embeddings[chosen], features.mask)[:, -1] > 0


class Tracklets(Tapped):
    """EfficientVIS: the queries of a window, their masks where their boxes are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        segment = self.model.segment
        self.found: Any = None

        def keep(*given: Any) -> Any:
            self.found = segment(*given)
            return self.found

        self.model.segment = keep

    def scores(self) -> Tensor:
        best: Tensor = self.found.probabilities.mean(1).amax(1)
        return best

    def masks(self, chosen: Tensor) -> Tensor:
        rows: Tensor = self.found.coarse_masks[chosen, -1]
        return rows


SYSTEMS: dict[str, tuple[type[Tapped], dict[str, Any]]] = {
    "visolo": (Grid, {}),
    "visolo-lite": (Grid, {}),
    "minvis": (Queries, {}),
    "mask2former-vis": (Queries, {"clip_length": 2}),
    "efficientvis": (Tracklets, {"clip_length": 2, "stride": 1}),
}


def emulate_bfloat16() -> None:
    """Where this CPU does not multiply in bfloat16: its convolutions by float32's, which is many times as quick.

    Operands are rounded, sums are float32, results are rounded: what a CPU that can does.
    """
    convolve = torch.nn.functional.conv2d

    def emulated(input: Tensor, weight: Tensor, bias: Tensor | None = None, *options: Any, **named: Any) -> Tensor:
        if input.dtype != torch.bfloat16:
            return convolve(input, weight, bias, *options, **named)
        exact = convolve(input.float(), weight.float(), None if bias is None else bias.float(), *options, **named)
        return exact.bfloat16()

    torch.nn.functional.conv2d = emulated


def shown(video: Path | None, frames: int, every: int) -> Iterator[Frame]:
    """Every so many frames one of a video; of noise without one."""
    if video is None:
        yield from first_frames(None, frames)
        return
    with vis_core.open_video(video) as source:
        yield from islice(source, 0, frames * every, every)


@torch.inference_mode()
def main(
    video: Annotated[Path | None, typer.Argument(help="video file or folder of images; noise otherwise")] = None,
    system: Annotated[list[str] | None, typer.Option(help="default: all")] = None,
    weights: Annotated[Path | None, typer.Option(help="of the one system; default: its own, else random")] = None,
    frames: Annotated[int, typer.Option(help="of the video")] = 30,
    every: Annotated[int, typer.Option(help="every how many frames one is taken")] = 10,
    precision: Annotated[list[str] | None, typer.Option(help="default: auto and bf16")] = None,
    quick: Quick = False,
) -> None:
    """Compare narrower arithmetic with float32."""
    if quick:
        system, frames, every = system or ["visolo-lite", "minvis"], 2, 1
    precisions = precision or ["auto", "bf16"]
    if not cpu_precision._has_fast_bfloat16():
        emulate_bfloat16()
    cpu_precision._has_fast_bfloat16 = lambda: True
    table = Table(
        title=f"against float32: {video.name if video else 'noise'}, {frames} frames, the {CELLS} best of each"
    )
    for column in ("", "precision", "mask IoU: median", "5th percentile", "worst", "score: median", "95 %", "time"):
        table.add_column(column, justify="left" if column in ("", "precision") else "right")
    missed = []
    for name in system or SYSTEMS:
        kind, options = SYSTEMS[name]
        full = kind(name, weights, "fp32", **options)
        others = {one: kind(name, weights, one, **options) for one in precisions}
        iou: dict[str, list[float]] = {one: [] for one in precisions}
        score: dict[str, list[float]] = {one: [] for one in precisions}
        for number, frame in enumerate(shown(video, frames, every), 1):
            full.step(frame)
            scores = full.scores()
            best = scores.topk(min(CELLS, len(scores))).indices
            wanted = full.masks(best)
            for one, other in others.items():
                other.step(frame)
                found = other.masks(best)
                union = (wanted | found).sum((1, 2))
                iou[one] += ((wanted & found).sum((1, 2)) / union)[union > 0].tolist()
                score[one] += (scores[best] - other.scores()[best]).abs().tolist()
            tell(f"{name}: frame {number} of {frames}")
        for one, other in others.items():
            at_5 = float(np.percentile(iou[one], 5))
            if one == "auto" and at_5 < BOUND:
                missed.append(name)
            table.add_row(
                name if one == precisions[0] else "",
                one,
                f"{np.median(iou[one]):.4f}",
                f"{at_5:.4f}",
                f"{min(iou[one]):.4f}",
                f"{np.median(score[one]):.4f}",
                f"{np.percentile(score[one], 95):.4f}",
                f"{other.seconds / full.seconds:.2f}x",
            )
    console = Console(width=120)
    console.print(table)
    console.print(f"{torch.get_num_threads()} threads; weights: {weights or 'their own, else random'}")
    console.print(f"auto under {BOUND} at the 5th percentile: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    typer.run(main)
