"""Seconds a frame of VisTR, the published form of GMP-VIS, against a plain formulation of its network, in the same run.

    python benchmarks/gmp_vis.py [--video street.mp4] [--length 36] [--threads 2] [--rounds 3]

All variants take turns with the same random weights (ResNet-50) and frames, one clip answered at once with all ten
slots of each frame; the figure is the median of all rounds, and beside it stands the median of the ratios within a
round. CPU seconds are those of all threads, which other users of the machine disturb less. The plain formulation:
default layout, norms not folded, attention as a matrix of weights, the first mask convolution over memory and attention
of each slot, deformable convolutions by grid_sample, dilated convolutions in three dimensions, dense masks.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

from collections.abc import Callable
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
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.gmp_vis.clip import WholePixels
from vis_core.models.gmp_vis.clip_network import ClipNetwork, video_code
from vis_core.models.gmp_vis.vistr import VISTR
from vis_core.nn import precision
from vis_core.nn.attention import NormedAttention
from vis_core.nn.backbones.resnet import ResNet
from vis_core.structures import Frame

console = Console(width=160)
Answer = tuple[Tensor, Tensor]


class PlainClip:
    """VisTR on a clip, with nothing saved or rearranged."""

    def __init__(self, network: ClipNetwork) -> None:
        self.network = network
        self.transform = WholePixels(300)

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> Answer:
        """Scores ``[10, T, classes + 1]`` and masks bool ``[10, T, H, W]``, pixels of the image."""
        network = self.network
        maps = network.backbone(torch.cat([self.transform(frame.image).contiguous() for frame in frames]))
        tokens = network.input_proj(maps[3])
        position = video_code(tokens)
        x = tokens.permute(0, 2, 3, 1).flatten(0, 2)[None]
        for layer in network.encoder:
            x = layer.feedforward(_attention(layer.self_attention, x, position, x + position, x))
        place, key = network.query_embed.weight[None], x + position
        queries = torch.zeros_like(place)
        for layer in network.decoder:
            queries = _attention(layer.self_attention, queries, place, queries + place, queries)
            queries = layer.feedforward(_attention(layer.cross_attention, queries, place, key, x))
        queries = network.decoder_norm(queries)[0].unflatten(0, (len(frames), -1))
        memory = x[0].unflatten(0, (len(frames), *tokens.shape[2:])).permute(0, 3, 1, 2).contiguous()
        features = []
        for t in range(len(frames)):
            looks = network.bbox_attention(queries[t : t + 1], memory[t : t + 1])[0]
            features.append(self._features(memory[t], looks, [level[t : t + 1] for level in maps[2::-1]]))
        logits = []
        for of_slot in torch.stack(features, 2):  # [C, T, h, w]
            y = of_slot[None]
            for module in network.insmask_head:
                y = module._conv_forward(y, module.weight, module.bias) if hasattr(module, "dilation") else module(y)
            logits.append(y[0])
        masks = F.interpolate(torch.cat(logits), frames[0].size, mode="bilinear", align_corners=False).sigmoid() > 0.5
        return network.class_embed(queries).softmax(2)[..., :-1].transpose(0, 1), masks

    def _features(self, memory: Tensor, looks: Tensor, maps: list[Tensor]) -> Tensor:
        """Of the slots of a frame ``[10, C, h, w]``."""
        head = self.network.mask_head
        x = torch.cat((memory.expand(len(looks), -1, -1, -1), looks), 1)
        x = F.relu(head.gn1(head.lay1(x)))
        x = F.relu(head.gn2(head.lay2(x)))
        layers = ((head.lay3, head.gn3), (head.lay4, head.gn4))
        for i, adapter in enumerate((head.adapter1, head.adapter2, head.adapter3)):
            added = adapter(maps[i])
            x = added + F.interpolate(x, added.shape[2:], mode="nearest")
            if i < 2:
                x = F.relu(layers[i][1](layers[i][0](x)))
        return F.relu(head.gn5(_deformed(x, head.conv_offset(x), head.dcn.weight)))


def _attention(layer: NormedAttention, x: Tensor, place: Tensor, key: Tensor, value: Tensor) -> Tensor:
    attention = layer.attention
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(y, weight, bias).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for y, weight, bias in zip((x + place, key, value), weights, biases)
    )
    found = ((q / q.shape[3] ** 0.5) @ k.transpose(2, 3)).softmax(3) @ v
    out: Tensor = layer.norm(x + attention.out_proj(found.transpose(1, 2).flatten(2)))
    return out


def _deformed(x: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Deformable convolution: the samples of all taps side by side, then one product."""
    height, width = x.shape[2:]
    y0, x0 = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    samples = []
    for k in range(9):
        rows, columns = y0 - 1 + k // 3 + offsets[:, 2 * k], x0 - 1 + k % 3 + offsets[:, 2 * k + 1]
        grid = torch.stack((columns / (width - 1), rows / (height - 1)), 3) * 2 - 1
        samples.append(F.grid_sample(x, grid, padding_mode="zeros", align_corners=True))
    return F.conv2d(torch.stack(samples, 2).flatten(1, 2), weight.flatten(1)[..., None, None])


class Clip(WholeClip):
    """The system as it ships, on a whole clip."""

    def __init__(self, network: ClipNetwork, kind: str) -> None:
        super().__init__(VISTR.build(network.state_dict(), {}, torch.device("cpu"), kind, unbounded=True))

    def difference(self, scores: Tensor, masks: Tensor) -> tuple[float, float]:
        """From the plain formulation: the largest of the slots' scores, and the least mask IoU."""
        slots = self.found.slots.tolist()
        off = np.abs(self.found.scores - scores.amax(2).mean(1).numpy()[slots]).max()
        least = 1.0
        for row, slot in enumerate(slots):
            dense = np.stack([mask.dense() for mask in self.found.run_lengths[row]])
            least = min(least, plain.least_overlap(torch.from_numpy(dense), masks[slot]))
        return float(off), least


def main(
    video: Annotated[Path | None, typer.Option(help="frames to use; noise otherwise")] = None,
    length: Annotated[int, typer.Option(min=2, help="frames of the clip; published: 36")] = 36,
    threads: Annotated[int, typer.Option(min=1, help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="how often the clip is measured")] = 3,
    quick: Quick = False,
) -> None:
    """Time all."""
    if quick:
        length, rounds = 2, 1
    torch.set_num_threads(threads)
    frames, network = first_frames(video, length, (360, 640)), random_network(length)
    runs: dict[str, Callable[[list[Frame]], Any]] = {"plain": PlainClip(network)}
    runs["fp32"] = Clip(network, "fp32")
    if precision._has_fast_bfloat16():
        runs["bf16"] = Clip(network, "bf16")
    neighbours = Neighbours()
    seconds, results = take_turns({name: partial(run, frames) for name, run in runs.items()}, rounds, length, quick)
    title = f"VisTR, ResNet-50, 533x300, a clip of {length}, {threads} threads, {cpu_name()}"
    table = Table(
        "", "seconds a frame", "ratio", "CPU seconds", "ratio", "scores differ", "least mask IoU", title=title
    )
    for name, run in runs.items():
        row = [name, *beside(seconds[name], seconds["plain"])]
        if isinstance(run, Clip):
            scores, overlap = run.difference(*results["plain"])
            row += [f"{scores:.1e}", f"{overlap:.4f}"]
            if name == "fp32" and scores > 1e-4:
                console.print(f"{name}: these are not the plain formulation's numbers")
        table.add_row(*row)
    console.print(table)
    console.print(f"{neighbours.cores():.1f} cores were busy with other processes")
    if "bf16" not in runs:
        console.print("bf16: this CPU does not multiply in bfloat16, so it would be emulated; not measured")


def random_network(length: int) -> ClipNetwork:
    """Random weights; taps are moved by some pixels."""
    torch.manual_seed(0)
    network = ClipNetwork(ResNet(50), length)
    network.initialise()
    torch.nn.init.normal_(network.mask_head.conv_offset.weight, std=0.1)
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
