"""Milliseconds of region pooling over a pyramid against the plain formulation by grid_sample, in the same run.

    python benchmarks/roi_align.py [--size 7] [--boxes 100] [--frames 1] [--threads 1 --threads 2] [--gradients]

All variants take turns with the same maps and boxes; the figure is the least of all rounds, since a neighbour's load
only ever adds, and beside it stands the median of the ratios within a round. Plain: the samples of all boxes of a level
as one grid, `grid_sample` with repeated borders, a cut at one pixel outside, `avg_pool2d`; on maps in either layout.
The two after it are what else was tried for `vis_core.nn.roi_align`: the pixels of each bin gathered and multiplied
with their weights, and the weights of a level as one sparse matrix. With several frames, the maps of each lie apart, as
when it was encoded alone, and but for the last row they are joined first.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import typer
from conditions import Quick, cpu_name, tell
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn import roi_align as rows
from vis_core.nn.roi_align import box_levels, pyramid_roi_align

STRIDES = (4, 8, 16, 32)
SAMPLES = 2
Pooling = Callable[[Sequence[Tensor], Tensor, Tensor, int], Tensor]
console = Console(width=160)


def by_grid(maps: Sequence[Tensor], boxes: Tensor, batch_index: Tensor, size: int) -> Tensor:
    """Plain: image by image and level by level, `grid_sample`."""
    levels = box_levels(boxes)
    channels, count = maps[0].shape[1], size * SAMPLES
    places = (torch.arange(count) + 0.5) / count
    pooled = boxes.new_zeros(len(boxes), size * size, channels)
    for i, (level, stride) in enumerate(zip(maps, STRIDES)):
        for b in range(len(level)):
            chosen = ((levels == i) & (batch_index == b)).nonzero()[:, 0]
            if not len(chosen):
                continue
            height, width = level.shape[2:]
            x1, y1, x2, y2 = (boxes[chosen] / stride - 0.5)[..., None].unbind(1)
            x, y = x1 + places * (x2 - x1), y1 + places * (y2 - y1)
            live = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None]
            grid = torch.empty(len(chosen), count, count, 2)
            grid[..., 0] = ((2 * x + 1) / width - 1)[:, None]
            grid[..., 1] = ((2 * y + 1) / height - 1)[:, :, None]
            found = F.grid_sample(
                level[b : b + 1], grid.view(1, -1, count, 2), padding_mode="border", align_corners=False
            )
            found = found.view(channels, len(chosen), count, count).transpose(0, 1) * live[:, None]
            pooled = pooled.index_copy(0, chosen, F.avg_pool2d(found, SAMPLES).flatten(2).transpose(1, 2))
    return pooled


def by_level(pool: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Pooling:
    """Pooling by a function of a table of pixels, rows of it and weights ``[R, bins, 4 * SAMPLES**2]``."""

    def pooling(maps: Sequence[Tensor], boxes: Tensor, batch_index: Tensor, size: int) -> Tensor:
        levels = box_levels(boxes)
        pooled = boxes.new_zeros(len(boxes), size * size, maps[0].shape[1])
        for i, (level, stride) in enumerate(zip(maps, STRIDES)):
            chosen = (levels == i).nonzero()[:, 0]
            if len(chosen):
                edges = rows._edges(boxes[chosen], 1 / stride)
                height, width = (torch.full_like(edges[0], extent) for extent in level.shape[2:])
                first = batch_index[chosen] * (level.shape[2] * level.shape[3])
                index, weight = rows._rows(edges, height, width, first, (size, size), SAMPLES)
                pooled = pooled.index_copy(0, chosen, pool(rows._table(level), index, weight))
        return pooled

    return pooling


def by_corners(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """The pixels of each bin gathered and multiplied with its weights."""
    found = table.index_select(0, index.flatten()).view(-1, index.shape[2], table.shape[1])
    return torch.bmm(weight.view(-1, 1, index.shape[2]), found).view(*index.shape[:2], -1)


def by_sparse_matrix(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """All weights as a sparse matrix, bins by pixels, times the table."""
    bins, pixels = index.shape[0] * index.shape[1], index.shape[2]
    starts = torch.arange(0, bins * pixels + 1, pixels, dtype=torch.int32)
    matrix = torch.sparse_csr_tensor(
        starts, index.flatten(), weight.flatten(), (bins, len(table)), check_invariants=False
    )
    return (matrix @ table).view(*index.shape[:2], -1)


def drawn_boxes(count: int, height: int, width: int) -> Tensor:
    """Boxes of 11 pixels to the whole image, as many small as large ones by their logarithm; a few fill the image."""
    random = torch.Generator().manual_seed(0)
    sides = torch.exp(torch.rand(count, 2, generator=random) * 3.6 + 2.4)
    extent = torch.tensor((float(width), float(height)))
    sides = torch.minimum(sides, extent)
    sides[: max(1, count // 25)] = extent - 8
    centres = torch.rand(count, 2, generator=random) * extent
    return torch.cat((centres - sides / 2, centres + sides / 2), 1)


def timed(run: Callable[[], Tensor], maps: Sequence[Tensor], gradient: Tensor | None) -> float:
    """Seconds of a pooling, and of the way back if there is a gradient."""
    for level in maps:
        level.grad = None
    start = time.perf_counter()
    if gradient is None:
        with torch.inference_mode():
            run()
    else:
        run().backward(gradient)
    return time.perf_counter() - start


def main(
    size: Annotated[int, typer.Option(help="bins along a side")] = 7,
    boxes: Annotated[int, typer.Option(help="in all frames together")] = 100,
    frames: Annotated[int, typer.Option(help="that the boxes are spread over")] = 1,
    height: Annotated[int, typer.Option(help="of the network's input")] = 384,
    width: Annotated[int, typer.Option(help="of the network's input")] = 640,
    channels: Annotated[int, typer.Option(help="of the maps")] = 256,
    threads: Annotated[list[int] | None, typer.Option(help="of torch, one table each; 1 and 2 if not given")] = None,
    rounds: Annotated[int, typer.Option(help="how often each variant is measured")] = 20,
    gradients: Annotated[bool, typer.Option("--gradients", help="measure forward and backward together")] = False,
    quick: Quick = False,
) -> None:
    """Time region pooling, variant against variant."""
    rounds = 2 if quick else rounds
    warnings.filterwarnings("ignore", message="Sparse CSR")
    random = torch.Generator().manual_seed(0)
    apart = [
        [torch.randn(1, channels, height // s, width // s, generator=random) for _ in range(frames)] for s in STRIDES
    ]
    first = [[x.requires_grad_(gradients) for x in level] for level in apart]
    last = [
        [x.detach().to(memory_format=torch.channels_last).requires_grad_(gradients) for x in level] for level in apart
    ]
    drawn = drawn_boxes(boxes, height, width)
    index = torch.arange(boxes) % frames
    gradient = torch.randn(boxes, size * size, channels, generator=random) if gradients else None

    def joined(pool: Pooling, maps: list[list[Tensor]]) -> Callable[[], Tensor]:
        return lambda: pool([x[0] if frames == 1 else torch.cat(x) for x in maps], drawn, index, size)

    variants = {
        "grid_sample": (joined(by_grid, first), first),
        "grid_sample, channels-last maps": (joined(by_grid, last), last),
        "gathered pixels": (joined(by_level(by_corners), last), last),
        "sparse matrix": (joined(by_level(by_sparse_matrix), last), last),
        "sums of rows: pyramid_roi_align": (joined(pyramid_roi_align, last), last),
    }
    if frames > 1:
        variants["the same, frames where they lie"] = (lambda: pyramid_roi_align(last, drawn, index, size), last)

    with torch.no_grad():
        expected = variants["grid_sample"][0]()
        differ = {name: float((run() - expected).abs().max()) for name, (run, _) in variants.items()}
    counts = box_levels(drawn).bincount(minlength=4).tolist()
    for number in threads or [1, 2]:
        torch.set_num_threads(number)
        taken: dict[str, list[float]] = defaultdict(list)
        for turn in range(rounds + 1):
            for name, (run, maps) in variants.items():
                taken[name].append(timed(run, [x for level in maps for x in level], gradient))
            tell(f"{number} thread(s): round {turn} of {rounds}")
        what = f"{boxes} boxes ({', '.join(map(str, counts))} on p2..p5) in {frames} frame(s), {size}x{size} bins"
        passes = "forward and backward" if gradients else "forward"
        table = Table(
            title=f"Region pooling, {passes}, {what}, maps of {height}x{width}, {channels} channels, float32; "
            f"{number} thread(s), {cpu_name()}; milliseconds"
        )
        for column in ("", "least", "median", "times as quick", "and as channels-last grid_sample", "differs by"):
            table.add_column(column, justify="right" if column else "left")
        for name in variants:
            own = taken[name][1:]
            ratios = [statistics.median(a / b for a, b in zip(taken[plain][1:], own)) for plain in list(variants)[:2]]
            table.add_row(
                name,
                f"{1000 * min(own):.2f}",
                f"{1000 * statistics.median(own):.2f}",
                *(f"{ratio:.1f}" for ratio in ratios),
                f"{differ[name]:.0e}",
            )
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
