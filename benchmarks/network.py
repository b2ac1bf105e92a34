"""Seconds a frame of VISOLO, part by part, against the plain formulation of its paper in the same run.

    python benchmarks/network.py [--weights visolo.safetensors] [--threads 2]

All variants take turns frame by frame with the same weights and frames; the figure is the least of all rounds, since
a neighbour's load only ever adds. The plain formulation: default layout, norms not folded, coordinates appended,
tracking features and memory convolutions recomputed for every memory frame, each side only where it is used.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from conditions import Quick, cpu_name, first_frames, tell
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import vis_core
from vis_core.checkpoints import load_tensors
from vis_core.models.visolo import published
from vis_core.models.visolo.model import VISOLOModel
from vis_core.models.visolo.network import CoordinateConv, NormedConv, VISOLONetwork, coordinates, read_memory
from vis_core.models.visolo.torch_grid import TorchGrid
from vis_core.structures import Frame
from vis_core.system.driver import StreamSegmenter

PARTS = ("preprocess", "backbone", "branches", "post-process", "tracking", "mask encoding")
console = Console(width=160)


@dataclass
class Outputs:
    """What the network gives for a frame.

    Attributes:
        scores: of categories, ``[C, 252]``.
        kernels: ``[256, 252]``.
        features: mask features ``[256, h/4, w/4]``.
    """

    scores: Tensor
    kernels: Tensor
    features: Tensor

    def masks(self, cells: Tensor) -> Tensor:
        """Masks of some cells at network size, bool ``[N, h, w]``."""
        logits = (self.kernels[:, cells].T @ self.features.flatten(1)).unflatten(1, self.features.shape[1:])
        return F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)[0] > 0


def recorded(network: VISOLONetwork, run: Callable[[], None]) -> Outputs:
    """What a network gives while `run` uses it once."""
    seen: list[Tensor] = []
    modules = (network.category_post, network.kernel_post, network.mask)
    hooks = [module.register_forward_hook(lambda _m, _i, out: seen.append(out[0].float())) for module in modules]
    run()
    for hook in hooks:
        hook.remove()
    scores, kernels, features = seen
    return Outputs(scores.flatten(1).sigmoid(), kernels.flatten(1), features)


def overlap(a: Tensor, b: Tensor) -> list[float]:
    """IoU of masks ``[N, h, w]`` with their counterparts; of two empty ones 1."""
    union = (a | b).sum((1, 2))
    return torch.where(union == 0, 1.0, (a & b).sum((1, 2)) / union.clamp(min=1)).tolist()


def grid_of(model: VISOLOModel) -> TorchGrid:
    """The network of a model that PyTorch runs."""
    assert isinstance(model.grid, TorchGrid)
    return model.grid


class PlainVISOLO:
    """The network of one frame as the paper states it, nothing cached but the features of the memory frames."""

    def __init__(self, network: VISOLONetwork) -> None:
        self.network = network
        self.stored: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, image: Tensor, read: list[int]) -> Outputs:
        """Outputs for a normalised image, with the memory frames of these numbers."""
        net = self.network
        r2, r3, r4 = net.backbone(image)
        track, category = net.category_pre(r4)
        kernel = net.kernel_pre(r4)
        memory = [self.stored[i] for i in read] or [(track, category, kernel)]
        query = self._side(net.tracking.query, track)
        references = [self._side(net.tracking.reference, f) for f, _, _ in memory]
        similarity = query.T @ torch.cat(references, 1)
        grid = category.shape[2:]
        aggregated = []
        for which, present in ((1, category), (2, kernel)):
            converted = torch.cat([net.memory(entry[which])[0] for entry in memory], 1)
            aggregated.append(
                read_memory(present[0].flatten(1), similarity.softmax(1), converted).unflatten(1, grid)[None]
            )
        scores = net.category_post(aggregated[0])[0].flatten(1).sigmoid()
        kernels = net.kernel_post(aggregated[1])[0].flatten(1)
        self._side(net.tracking.query, memory[-1][0])  # for the identities,
        self._side(net.tracking.reference, track)  # between the frame before and this one
        features = net.mask(r2, r3, r4)[0]
        self.stored[len(self.stored)] = track, category, kernel
        return Outputs(scores, kernels, features)

    def _side(self, side: nn.Module, track: Tensor) -> Tensor:
        features: Tensor = side(self.network.tracking.shared(F.relu(track)))
        return features[0].flatten(1)


class Stopwatch:
    """Least seconds of each part of a segmenter's step, by wrapping the methods that do them."""

    def __init__(self, segmenter: StreamSegmenter[Any, Any], model: VISOLOModel) -> None:
        self.segmenter, self.model = segmenter, model
        self.now: dict[str, float] = defaultdict(float)
        self.best: dict[str, float] = {}
        self._inner = [0.0]
        for owner, method, part in (
            (grid_of(model).transform, "forward", "preprocess"),
            (model.grid, "extract", "backbone"),
            (model.grid, "read", "branches"),
            (model.grid, "mask_features", "branches"),
            (model, "detect", "post-process"),
            (segmenter.associator, "associate", "tracking"),
            (segmenter.associator, "remember", "tracking"),
            (segmenter.lifecycle, "update", "tracking"),
            (model, "encode_masks", "mask encoding"),
        ):
            setattr(owner, method, self._timed(getattr(owner, method), part))

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            result = function(*arguments, **options)
            spent = time.perf_counter() - start
            self.now[part] += spent - self._inner.pop()  # what a part calls counts for the other part
            self._inner[-1] += spent
            return result

        return timed

    def step(self, frame: Frame) -> None:
        """One frame; keeps the least time of each part."""
        self.now.clear()
        start = time.perf_counter()
        self.segmenter.step(frame)
        self.now["total"] = time.perf_counter() - start
        for part, seconds in self.now.items():
            self.best[part] = min(self.best.get(part, seconds), seconds)


def main(
    weights: Annotated[Path | None, typer.Option(help="a checkpoint; random weights otherwise")] = None,
    video: Annotated[Path | None, typer.Option(help="frames to use; noise otherwise")] = None,
    threads: Annotated[int, typer.Option(help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(help="how often frames 7 to 9 are measured")] = 4,
    height: Annotated[int, typer.Option(help="of the network's input")] = 352,
    width: Annotated[int, typer.Option(help="of the network's input")] = 624,
    candidates: Annotated[int, typer.Option(help="grid cells that pass the score threshold")] = 20,
    quick: Quick = False,
) -> None:
    """Time VISOLO's parts, variant against variant."""
    if quick:
        rounds, height, width = 1, 96, 160
    torch.set_num_threads(threads)
    frames = first_frames(video, 10)
    variants = {
        "fp32": {"precision": "fp32", "convolution": "direct"},
        "fp32 Winograd": {"precision": "fp32", "convolution": "winograd"},
        "bf16": {"precision": "bf16", "convolution": "direct"},
    }
    watches = {}
    for name, options in variants.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmenter = vis_core.load("visolo", weights, device="cpu", input_size=(height, width), **options)
        assert isinstance(segmenter, StreamSegmenter) and isinstance(segmenter.model, VISOLOModel)
        watches[name] = Stopwatch(segmenter, segmenter.model)
    plain = PlainVISOLO(plain_network(weights))
    reference = watches["fp32"].model
    set_threshold(watches, frames[0], candidates)

    best_plain = float("inf")
    difference: dict[str, float] = defaultdict(float)
    overlaps: dict[str, list[float]] = defaultdict(list)
    for number in range(1, rounds + 1):
        for watch in watches.values():
            watch.segmenter.reset()
        plain.stored.clear()
        for i, frame in enumerate(frames):
            image = grid_of(reference).transform(frame.image).contiguous()
            start = time.perf_counter()
            expected = plain(image, [entry.frame for entry in reference.memory.readable])
            if i >= 7:
                best_plain = min(best_plain, time.perf_counter() - start)
            best_cells = expected.scores.amax(0).topk(candidates).indices
            expected_masks = expected.masks(best_cells)
            for name, watch in watches.items():
                step = watch.segmenter.step if i < 7 else watch.step
                found = recorded(grid_of(watch.model).network, lambda step=step, frame=frame: step(frame))  # type: ignore[misc]
                difference[name] = max(difference[name], float((found.scores - expected.scores).abs().max()))
                overlaps[name] += overlap(found.masks(best_cells), expected_masks)
            tell(f"round {number} of {rounds}: frame {i + 1} of {len(frames)}")

    table = Table(title=f"VISOLO, ResNet-50, {height}x{width}, {threads} threads, {cpu_name()}; seconds a frame")
    for column in ("", *PARTS, "total", "network", "ratio", "scores differ", "IoU, least", "mean"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("plain formulation", *["" for _ in PARTS], "", f"{best_plain:.3f}", "1.00", "", "", "")
    for name, watch in watches.items():
        network = watch.best["backbone"] + watch.best["branches"]
        table.add_row(
            name,
            *(f"{watch.best[part]:.4f}" for part in PARTS),
            f"{watch.best['total']:.3f}",
            f"{network:.3f}",
            f"{network / best_plain:.2f}",
            f"{difference[name]:.1e}",
            f"{min(overlaps[name]):.3f}",
            f"{np.mean(overlaps[name]):.4f}",
        )
    console.print(table)
    total = watches["fp32"].best
    share = (total["post-process"] + total["mask encoding"]) / total["total"]
    console.print(f"{candidates} candidate cells; mask post-processing and encoding: {share:.1%} of the float32 total")


def plain_network(weights: Path | None) -> VISOLONetwork:
    """The network in the default layout, its norms not folded."""
    network = VISOLONetwork()
    if weights is None:
        network.initialise(torch.Generator().manual_seed(0))
    else:
        tensors, metadata = vis_core.checkpoints.read_tensors(weights)
        load_tensors(network, tensors if "system" in metadata else published.convert(tensors), str(weights))
    for module in network.modules():
        if isinstance(module, CoordinateConv):
            module.forward = partial(with_coordinates, module)  # type: ignore[method-assign]
    return network.eval().requires_grad_(False)


def with_coordinates(conv: CoordinateConv, x: Tensor) -> Tensor:
    """`CoordinateConv` as the paper states it."""
    x = torch.cat((x, coordinates(x)), 1)
    if conv.resize is not None:
        x = F.interpolate(x, conv.resize, mode="bilinear", align_corners=False)
    return NormedConv.forward(conv, x)


def set_threshold(watches: dict[str, Stopwatch], frame: Frame, candidates: int) -> None:
    """Choose the score threshold so that about the wanted number of cells passes, whatever the weights."""
    seen: list[Tensor] = []
    watch = watches["fp32"]
    hook = grid_of(watch.model).network.category_post.register_forward_hook(lambda _m, _i, out: seen.append(out))
    watch.segmenter.step(frame)
    hook.remove()
    best = seen[0][0].flatten(1).amax(0).sigmoid()
    threshold = float(best.sort(descending=True).values[candidates - 1])
    for watch in watches.values():
        watch.segmenter.set_option("score_threshold", threshold)


if __name__ == "__main__":
    typer.run(main)
