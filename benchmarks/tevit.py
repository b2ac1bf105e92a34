"""Seconds a frame of TeViT against a plain formulation of its network, in the same run.

    python benchmarks/tevit.py [--video street.mp4] [--threads 2] [--rounds 5]

All variants take turns clip by clip with the same random weights (MsgShifT, 100 queries) and frames, a clip of 5 frames
answered at once, the ten published results of each; the figure is the median of all rounds, and beside it stands the
median of the ratios within a round. CPU seconds are those of all threads, which other users of the machine disturb
less. The plain formulation: default layout, norms not folded, sums of kernels for the tokens made at each call, regions
by grid_sample level by level, queries of each frame attended and convolved by themselves in the first stage too, mask
convolutions for each of ten results, coarse maps of the pyramid enlarged by interpolate, masks pasted by grid_sample
over the whole image. The streamed rows are another computation: a window of 5 for every second frame, per frame.

At the end stands what `backbone: stream` changes: of the ten best queries of each window of 5, with the weights given
(random ones say little), scores and masks against those of the exact windows.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import plain
import torch
import typer
from conditions import Neighbours, Quick, WholeClip, beside, cpu_name, first_frames, take_turns
from rich.console import Console
from rich.table import Table
from roi_align import by_grid
from torch import Tensor
from torch.nn import functional as F

import vis_core
from vis_core.checkpoints import FORMAT, write_tensors
from vis_core.models.tevit.instances import best_pairs
from vis_core.models.tevit.msgshift import MsgShifT, direction, shifted
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn import precision
from vis_core.nn.boxes import decode_deltas
from vis_core.nn.input_transform import WithinTransform
from vis_core.structures import Frame

LENGTH, RESULTS = 5, 10
console = Console(width=160)
Answer = tuple[Tensor, Tensor, Tensor]


class PlainClip:
    """TeViT on a clip, with nothing saved or rearranged."""

    def __init__(self, network: TeViTNetwork) -> None:
        self.network = network
        self.transform = WithinTransform(360, 640)

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> Answer:
        """Scores ``[10]``, boxes ``[T, 10, 4]`` and masks bool ``[T, 10, H, W]``, pixels of the image."""
        images = torch.cat([self.transform(frame.image).contiguous() for frame in frames])
        levels = plain.pyramid(self.network.pyramid, self._backbone(images))
        size = self.transform.size(*frames[0].size)
        queries, boxes = (x.expand(len(frames), -1, -1) for x in self.network.learned(size))
        stages = self.network.head.stages()
        for stage in stages:
            attended = stage.attend(queries)
            change = stage.inst_interact.as_query(stage.inst_interact(attended, _pooled(levels, boxes, 7)))
            x = stage.norm2(attended + change)
            queries = stage.norm3(x + stage.linear2(F.relu(stage.linear1(x))))
            logits = stage.class_logits(stage.cls_module(queries))
            boxes = decode_deltas(boxes, stage.bboxes_delta(stage.reg_module(queries)), stage.change)
        rows, labels, scores = best_pairs(logits.sigmoid().mean(0), RESULTS)
        boxes, attended = boxes[:, rows], attended[:, rows]
        head = stages[-1].mask_head
        found = head.inst_interact(attended, _pooled(levels, boxes, 14))
        x = found.flatten(0, 1).transpose(1, 2).unflatten(2, (14, 14)).contiguous()
        for conv in head.convs:
            x = conv(x)
        small = head.mask_logits(F.relu(head.upsample(x))).unflatten(0, boxes.shape[:2])
        small = small[:, torch.arange(RESULTS), labels].sigmoid()
        (height, width), image = size, frames[0].size
        boxes = boxes * torch.tensor([image[1] / width, image[0] / height] * 2)
        masks = plain.pasted(small.flatten(0, 1), boxes.flatten(0, 1), image)
        return scores, boxes, masks.unflatten(0, boxes.shape[:2])

    def _backbone(self, images: Tensor) -> list[Tensor]:
        """In maps of the default layout, and tokens beside them."""
        backbone: Any = self.network.backbone
        tokens, maps = backbone.msg_tokens.expand(len(images), -1, -1), []
        for stage in backbone.stages():
            embedding, blocks, norm = stage
            x = embedding.projection(images)
            size, patches = x.shape[2:], x.flatten(2).transpose(1, 2)
            patches = embedding.norm(patches)
            tokens = embedding.norm(_of_tokens(embedding.projection, tokens))
            for j, block in enumerate(blocks):
                patches, tokens = self._block(block, patches, tokens, size)
                tokens = shifted(tokens, len(images), direction(j, len(blocks)), "cyclic")
            patches, tokens = norm(patches), norm(tokens)
            images = patches.transpose(1, 2).unflatten(2, size).contiguous()
            maps.append(images)
        return maps

    def _block(self, block: Any, patches: Tensor, tokens: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        count = patches.shape[1]
        attention, normed, told = block.attn, block.norm1(patches), block.norm1(tokens)
        keys = normed
        if attention.reduction > 1:
            coarse = attention.sr(normed.transpose(1, 2).unflatten(2, size).contiguous()).flatten(2).transpose(1, 2)
            keys = attention.norm(torch.cat((coarse, _of_tokens(attention.sr, told)), 1))
        both = torch.cat((patches, tokens), 1) + attention.attn(torch.cat((normed, told), 1), keys, keys)
        patches, tokens = both[:, :count], both[:, count:]
        first, middle, last = block.ffn.layers.values()
        x = first(block.norm2(patches).transpose(1, 2).unflatten(2, size).contiguous())
        patches = patches + last(F.gelu(middle(x))).flatten(2).transpose(1, 2)
        told = F.linear(block.norm2(tokens), first.weight[:, :, 0, 0], first.bias)
        told = F.gelu(told * middle.weight.sum((1, 2, 3)) + middle.bias)
        return patches, tokens + F.linear(told, last.weight[:, :, 0, 0], last.bias)


def _of_tokens(convolution: Any, tokens: Tensor) -> Tensor:
    return F.linear(tokens, convolution.weight.sum((2, 3)), convolution.bias)


def _pooled(levels: Sequence[Tensor], boxes: Tensor, size: int) -> Tensor:
    frames, count = boxes.shape[:2]
    index = torch.arange(frames).repeat_interleave(count)
    return by_grid(levels, boxes.flatten(0, 1), index, size).unflatten(0, (frames, count))


class Clip(WholeClip):
    """The system as it ships, on a whole clip."""

    def __init__(self, weights: Path, kind: str) -> None:
        super().__init__(vis_core.load("tevit", weights, device="cpu", precision=kind, unbounded=True))

    @torch.inference_mode()
    def difference(self, scores: Tensor, boxes: Tensor, masks: Tensor) -> tuple[float, float, float]:
        """From the plain formulation: the largest of scores, the largest of boxes in pixels, and the least mask IoU."""
        own = torch.from_numpy(self.found.class_scores.max(1))
        off = float((self.found.boxes.transpose(0, 1) - boxes).abs().max())
        least = 1.0
        for t, wanted in enumerate(masks):
            dense = np.stack([mask.dense() for mask in self.found.masks(t, range(len(wanted)))])
            least = min(least, plain.least_overlap(torch.from_numpy(dense), wanted))
        return float((own - scores).abs().max()), off, least


class Stream:
    """The system as the node runs it: windows of 5, one for every second frame."""

    def __init__(self, weights: Path, backbone: str) -> None:
        self.segmenter = vis_core.load(
            "tevit", weights, device="cpu", precision="fp32", clip_length=5, stride=2, backbone=backbone
        )
        self._next = 0

    def __call__(self, frames: list[Frame]) -> None:
        for frame in frames[:4]:  # the windows of a stream that is under way: two for four frames
            self.segmenter.step(Frame(frame.image, self._next, self._next))
            self._next += 1


@torch.inference_mode()
def approximation(weights: Path, frames: Sequence[Frame]) -> tuple[list[float], list[float]]:
    """What the streamed backbone changes: of scores, and the IoU of masks, of the best queries of each window."""
    exact, streamed = (
        vis_core.load("tevit", weights, device="cpu", precision="fp32", clip_length=LENGTH, backbone=kind).model  # type: ignore[attr-defined]
        for kind in ("window", "stream")
    )
    network, size = exact.network, exact.transform.size(*frames[0].size)
    queries, boxes = network.learned(size)
    kept: list[Any] = [[], []]
    scores, overlaps = [], []
    for i, frame in enumerate(frames):
        for model, clip in zip((exact, streamed), kept):
            clip[:] = [*clip[-LENGTH + 1 :], model.encode(frame)]
        through = streamed._levels(kept[1])  # frame by frame, whether looked at or not
        if i < LENGTH or i % 2:
            continue
        found = [
            (levels, network.head.last(levels, queries[None], boxes.expand(LENGTH, -1, -1)))
            for levels in (exact._levels(kept[0]), through)
        ]
        rows, labels, values = best_pairs(found[0][1].logits.sigmoid().mean(0), RESULTS)
        scores += (found[1][1].logits.sigmoid().mean(0)[rows, labels] - values).abs().tolist()
        masks = []
        for levels, out in found:
            small = network.head.stages()[-1].masks(levels, out, rows)[:, torch.arange(RESULTS), labels].sigmoid()
            masks.append(plain.pasted(small.flatten(0, 1), out.boxes[:, rows].flatten(0, 1), size))
        union = (masks[0] | masks[1]).sum((1, 2))
        overlaps += ((masks[0] & masks[1]).sum((1, 2)) / union)[union > 0].tolist()
    return scores, overlaps


def main(
    video: Annotated[Path | None, typer.Option(help="frames to use; noise otherwise")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(min=0, help="how often the clip is measured; 0: not at all")] = 5,
    weights: Annotated[
        Path | None, typer.Option(help="to see what the streamed backbone changes; random without")
    ] = None,
    compared: Annotated[int, typer.Option(min=0, help="frames in which that is seen; 0: it is not")] = 20,
    quick: Quick = False,
) -> None:
    """Time all."""
    if quick:
        rounds, compared = 1, LENGTH + 2
    torch.set_num_threads(threads)
    if rounds:
        measure(first_frames(video, 2 if quick else LENGTH, (360, 640)), threads, rounds, quick)
    if compared:
        with tempfile.TemporaryDirectory() as folder:
            if weights is None:
                weights = Path(folder, "tevit.safetensors")
                write_tensors(weights, random_network().state_dict(), {"format": FORMAT, "system": "tevit"})
            scores, overlaps = (np.array(x) for x in approximation(weights, first_frames(video, compared, (360, 640))))
        console.print(f"backbone: stream against window, {len(overlaps)} masks of {compared} frames")
        console.print(
            f"scores differ by {np.median(scores):.4f} (median), {np.quantile(scores, 0.95):.4f} (95th percentile)"
        )
        console.print(f"masks agree to an IoU of {np.median(overlaps):.3f}, {np.quantile(overlaps, 0.05):.3f} (5th)")


def measure(frames: list[Frame], threads: int, rounds: int, quick: bool) -> None:
    """Print the table of times."""
    network = random_network()
    variants: dict[str, Any] = {"plain": PlainClip(network)}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "tevit.safetensors")
        write_tensors(weights, network.state_dict(), {"format": FORMAT, "system": "tevit"})
        variants["fp32"] = Clip(weights, "fp32")
        if precision._has_fast_bfloat16():
            variants["bf16"] = Clip(weights, "bf16")
        variants["streamed, backbone: window"] = Stream(weights, "window")
        variants["streamed, backbone: stream"] = Stream(weights, "stream")
    neighbours = Neighbours()
    runs = {name: partial(run, frames) for name, run in variants.items()}
    counts = {name: min(4, len(frames)) if isinstance(run, Stream) else len(frames) for name, run in variants.items()}
    seconds, results = take_turns(runs, rounds, counts, quick)
    title = f"TeViT, MsgShifT, 640x360, a clip of {len(frames)}, {threads} threads, {cpu_name()}"
    columns = "seconds a frame", "ratio", "CPU seconds", "ratio", "scores differ", "boxes, pixels", "least mask IoU"
    table = Table("", *columns, title=title)
    for name, run in variants.items():
        row = [name, *beside(seconds[name], seconds["plain"])]
        if isinstance(run, Clip):
            scores, boxes, overlap = run.difference(*results["plain"])
            row += [f"{scores:.1e}", f"{boxes:.1e}", f"{overlap:.4f}"]
            if name == "fp32" and (scores > 1e-4 or boxes > 0.05):
                console.print(f"{name}: these are not the plain formulation's numbers")
        table.add_row(*row)
    console.print(table)
    console.print(f"{neighbours.cores():.1f} cores were busy with other processes")
    if "bf16" not in variants:
        console.print("bf16: this CPU does not multiply in bfloat16, so it would be emulated; not measured")


def random_network() -> TeViTNetwork:
    """Random weights, proposals of all sizes and places."""
    torch.manual_seed(0)
    network = TeViTNetwork(MsgShifT())
    network.initialise()
    for stage in network.head.stages():
        stage.bboxes_delta.weight.data *= 0.1  # as after a training, boxes are refined, not thrown about
        torch.nn.init.normal_(stage.class_logits.bias, -2, 1)
    count = network.queries
    sides = torch.rand(count, 1) * 0.8 * torch.tensor([0.6, 1.0]) + 0.1
    network.init_proposal_boxes.weight.data = torch.cat((sides / 2 + torch.rand(count, 2) * (1 - sides), sides), 1)
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
