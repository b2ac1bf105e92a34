"""Seconds a frame of EfficientVIS against the plain formulation of its paper, in the same run.

    python benchmarks/efficientvis.py [--video street.mp4] [--threads 2] [--rounds 5]

All variants take turns clip by clip with the same random weights and frames, a window of 9 frames answered at once and
all ten masks of each; the figure is the median of all rounds, and beside it stands the median of the ratios within a
round. CPU seconds are those of all threads, which other users of the machine disturb less. The plain formulation:
default layout, norms not folded, the maps of the clip joined, regions by grid_sample level by level, and pooled again
for each neighbour frame (or once, second row), a dynamic convolution for each neighbour, coarse maps of the pyramid
enlarged by interpolate, masks pasted by grid_sample over the whole image.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import plain
import torch
import typer
from conditions import Neighbours, Quick, beside, cpu_name, first_frames, take_turns
from rich.console import Console
from rich.table import Table
from roi_align import by_grid
from torch import Tensor
from torch.nn import functional as F

import vis_core
from vis_core.checkpoints import FORMAT, write_tensors
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.nn import precision
from vis_core.nn.boxes import decode_deltas
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.region_queries import DynamicConvolution, StageOutputs
from vis_core.structures import Frame

LENGTH = 9
console = Console(width=160)


class PlainClip:
    """EfficientVIS on a clip, with nothing saved or rearranged."""

    def __init__(self, network: EfficientVISNetwork, pool_again: bool) -> None:
        self.network, self.pool_again = network, pool_again
        self.transform = ShortSideTransform(360, 640)

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> tuple[StageOutputs, Tensor]:
        """What the last stage says, and the masks bool ``[T, N, H, W]``."""
        levels = [torch.cat(maps) for maps in zip(*(self._maps(frame) for frame in frames))]
        size = self.transform.size(*frames[0].size)
        queries, boxes = (x.expand(len(frames), -1, -1) for x in self.network.learned(size))
        for stage in self.network.head.stages():
            out = self._stage(stage, levels, queries, boxes)
            queries, boxes = out.queries, out.boxes
        return out, self._masks(stage, levels, out, size, frames[0].size)

    def _maps(self, frame: Frame) -> list[Tensor]:
        maps = self.network.backbone(self.transform(frame.image).contiguous())
        return plain.pyramid(self.network.pyramid, maps)

    def _stage(self, stage: Any, levels: Sequence[Tensor], queries: Tensor, boxes: Tensor) -> StageOutputs:
        attended = stage.attend(queries)
        found = self._convolved(stage.inst_interact, attended, levels, boxes, 7)
        x = stage.norm2(attended + stage.inst_interact.as_query(found))
        x = stage.norm3(x + stage.linear2(F.relu(stage.linear1(x))))
        boxes = decode_deltas(boxes, stage.bboxes_delta(stage.reg_module(x)))
        return StageOutputs(stage.class_logits(stage.cls_module(x)), boxes, x, attended)

    def _convolved(
        self, module: DynamicConvolution, queries: Tensor, levels: Sequence[Tensor], boxes: Tensor, size: int
    ) -> Tensor:
        """The temporal dynamic convolution as the paper writes it, neighbour by neighbour."""
        frames, count = boxes.shape[:2]
        first, second = module.dynamic_layer(queries).chunk(2, -1)
        filters = first.unflatten(-1, (-1, module.dynamic)), second.unflatten(-1, (module.dynamic, -1))

        def pooled(numbers: Tensor) -> Tensor:
            index = numbers.repeat_interleave(count)
            return by_grid(levels, boxes[numbers].flatten(0, 1), index, size).unflatten(0, (len(numbers), count))

        every = torch.arange(frames)
        own = pooled(every)
        cosines = torch.full((3, *own.shape[:3]), -torch.inf)
        results = torch.zeros(3, *own.shape)
        for k in (-1, 0, 1):
            there = every[max(0, -k) : frames - max(0, k)]
            other = pooled(there + k) if k and self.pool_again else own[there + k]
            cosines[k + 1, there] = F.cosine_similarity(own[there], other, dim=-1, eps=1e-6)
            x = F.relu(module.norm1(other @ filters[0][there]))
            results[k + 1, there] = F.relu(module.norm2(x @ filters[1][there]))
        return (cosines.softmax(0)[..., None] * results).sum(0)

    def _masks(
        self, stage: Any, levels: Sequence[Tensor], out: StageOutputs, size: tuple[int, int], image: tuple[int, int]
    ) -> Tensor:
        head = stage.mask_head
        found = self._convolved(head.inst_interact, out.attended, levels, out.boxes, 14)
        x = found.flatten(0, 1).transpose(1, 2).unflatten(2, (14, 14)).contiguous()
        for conv in head.convs:
            x = conv(x)
        small = head.mask_logits(F.relu(head.upsample(x))).sigmoid()
        boxes = out.boxes.flatten(0, 1) * torch.tensor([image[1] / size[1], image[0] / size[0]] * 2)
        return plain.pasted(small[:, 0], boxes, image).unflatten(0, out.boxes.shape[:2])


class Stream:
    """The system as it ships, on one window, and what it found in the last one."""

    def __init__(self, weights: Path, kind: str, length: int, prefetch: bool) -> None:
        options = {"clip_length": length, "stride": length, "score_threshold": 0.0, "presence_threshold": 0.0}
        segmenter = vis_core.load("efficientvis", weights, device="cpu", precision=kind, **options)
        self.segmenter, self.prefetch = segmenter, prefetch
        self.found: Any = None
        model: Any = segmenter.model  # type: ignore[attr-defined]
        segment = model.segment

        def keep(*given: Any) -> Any:
            self.found = segment(*given)
            return self.found

        model.segment = keep

    def __call__(self, frames: list[Frame]) -> None:
        self.segmenter.reset()
        for _ in self.segmenter.run(frames, prefetch=self.prefetch):
            pass

    @torch.inference_mode()
    def difference(self, out: StageOutputs, masks: Tensor) -> tuple[float, float, float]:
        """From the plain formulation: the largest of scores, the largest of boxes in pixels, and the least mask IoU."""
        scores = float((self.found.probabilities.transpose(0, 1) - out.logits.sigmoid()).abs().max())
        boxes = float((self.found.boxes.transpose(0, 1) - out.boxes).abs().max())
        least = 1.0
        for t, wanted in enumerate(masks):
            found = self.found.masks(t, list(range(len(wanted))))
            dense = torch.stack([torch.from_numpy(mask.dense()) for mask in found])
            least = min(least, plain.least_overlap(dense, wanted))
        return scores, boxes, least


def main(
    video: Annotated[Path | None, typer.Option(help="frames to use; noise otherwise")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="how often the clip is measured")] = 5,
    quick: Quick = False,
) -> None:
    """Time all."""
    length, rounds = (2, 1) if quick else (LENGTH, rounds)
    torch.set_num_threads(threads)
    frames = first_frames(video, length, (360, 640))
    network = random_network()
    variants: dict[str, Any] = {
        "plain": PlainClip(network, pool_again=True),
        "plain, regions pooled once": PlainClip(network, pool_again=False),
    }
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "efficientvis.safetensors")
        write_tensors(weights, network.state_dict(), {"format": FORMAT, "system": "efficientvis"})
        variants["fp32"] = Stream(weights, "fp32", length, prefetch=False)
        variants["fp32, prefetch"] = Stream(weights, "fp32", length, prefetch=True)
        if precision._has_fast_bfloat16():
            variants["bf16"] = Stream(weights, "bf16", length, prefetch=False)
            variants["bf16, prefetch"] = Stream(weights, "bf16", length, prefetch=True)
    neighbours = Neighbours()
    runs = {name: partial(run, frames) for name, run in variants.items()}
    seconds, results = take_turns(runs, rounds, length, quick)
    title = f"EfficientVIS, 640x360, a clip of {length}, {threads} threads, {cpu_name()}"
    columns = "seconds a frame", "ratio", "CPU seconds", "ratio", "scores differ", "boxes, pixels", "least mask IoU"
    table = Table("", *columns, title=title)
    for name, run in variants.items():
        row = [name, *beside(seconds[name], seconds["plain"])]
        if isinstance(run, Stream):
            scores, boxes, overlap = run.difference(*results["plain"])
            row += [f"{scores:.1e}", f"{boxes:.1e}", f"{overlap:.4f}"]
            if name.startswith("fp32") and (scores > 1e-4 or boxes > 0.05):
                console.print(f"{name}: these are not the plain formulation's numbers")
        table.add_row(*row)
    console.print(table)
    console.print(f"{neighbours.cores():.1f} cores were busy with other processes")
    if "bf16" not in variants:
        console.print("bf16: this CPU does not multiply in bfloat16, so it would be emulated; not measured")


def random_network() -> EfficientVISNetwork:
    """Random weights, proposals of all sizes and places."""
    torch.manual_seed(0)
    network = EfficientVISNetwork()
    network.initialise()
    for stage in network.head.stages():  # as after a training, attention over time says something
        torch.nn.init.xavier_uniform_(stage.temporal_attn.out_proj.weight)
        stage.bboxes_delta.weight.data *= 0.1  # and boxes are refined, not thrown about
    count = network.queries
    sides = torch.linspace(0.1, 0.9, count)[:, None] * torch.tensor([0.6, 1.0])
    network.init_proposal_boxes.weight.data = torch.cat((sides / 2 + torch.rand(count, 2) * (1 - sides), sides), 1)
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
