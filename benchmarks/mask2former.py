"""Seconds a frame of Mask2Former-VIS and MinVIS against the plain formulation of their papers, in the same run.

    python benchmarks/mask2former.py [--weights minvis.safetensors] [--threads 2]

All variants take turns clip by clip with the same weights and frames; the figure is the least of all rounds, since a
neighbour's load only ever adds. The plain formulation: default layout, norms not folded, the clip in one batch,
deformable sampling by grid_sample, class logits and full mask logits after every layer of the decoder, and for
Mask2Former-VIS the masks of all queries brought to the size of the input before ten are chosen.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer
from conditions import Quick, cpu_name, first_frames, tell
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import vis_core
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.transformer_decoder import QueryOutputs, attended, mask_logits
from vis_core.nn.deformable_attention import MultiScaleDeformableAttention, sampled_by_grid
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.structures import Frame

console = Console(width=160)


class PlainClip:
    """Mask2Former-VIS on a clip, or MinVIS on its frames, with nothing saved or rearranged."""

    def __init__(self, network: Mask2FormerVISNetwork, short_side: int, space_time: bool) -> None:
        self.network, self.space_time = network, space_time
        self.transform = ShortSideTransform(short_side, 1333)

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> Tensor:
        """Class logits, after everything was done that an answer needs."""
        images = torch.cat([self.transform(frame.image) for frame in frames]).contiguous()
        features = self.network.pixel_decoder._features(self.network.backbone(images))
        size = frames[0].size
        if self.space_time:
            out = self._decode(features.mask, [[level, None] for level in features.levels], len(frames))
            self._results(out, features.mask, images.shape[2:], size)
            return out.logits
        logits = []
        for t in range(len(frames)):
            out = self._decode(features.mask[t : t + 1], [[level[t : t + 1], None] for level in features.levels], None)
            self._results(out, features.mask[t : t + 1], images.shape[2:], size)
            logits.append(out.logits)
        return torch.stack(logits)

    def _decode(self, mask: Tensor, levels: list[list[Tensor | None]], frames: int | None) -> QueryOutputs:
        decoder = self.network.decoder
        x, position = decoder.query_feat.weight[None], decoder.query_embed.weight
        memory = []
        for (level, _), embedding in zip(levels, decoder.level_embed.weight):
            assert level is not None
            key, value, _ = decoder._memory(level, mask, embedding, True)
            if frames is None:  # of a frame alone the code has no time
                key = decoder._memory(level, mask, embedding, False)[0]
            memory.append((key, value, level.shape[2:]))
        for i, layer in enumerate(decoder.layers):
            key, value, size = memory[i % len(memory)]
            normed = decoder.decoder_norm(x)
            decoder.class_embed(normed)
            masks = mask_logits(decoder.mask_embed(normed)[0], mask)
            small = F.interpolate(masks, size, mode="bilinear", align_corners=False)
            x = layer(x, position, key, value, attended(small.flatten(1)[None]))
        normed = decoder.decoder_norm(x)
        return QueryOutputs(decoder.class_embed(normed)[0], decoder.mask_embed(normed)[0], normed[0])

    def _results(self, out: QueryOutputs, mask: Tensor, padded: torch.Size, size: tuple[int, int]) -> Tensor:
        """The ten best masks at the image's size."""
        masks = mask_logits(out.mask_embeddings, mask)
        if self.space_time:
            masks = F.interpolate(masks, padded, mode="bilinear", align_corners=False)
        best = out.logits.softmax(1)[:, :-1].flatten().topk(10).indices // self.network.classes
        chosen = F.interpolate(masks[best], padded, mode="bilinear", align_corners=False)
        height, width = self.transform.size(*size)
        chosen = chosen[..., :height, :width]
        return F.interpolate(chosen, size, mode="bilinear", align_corners=False) > 0


def main(
    weights: Annotated[Path | None, typer.Option(help="a checkpoint; random weights otherwise")] = None,
    video: Annotated[Path | None, typer.Option(help="frames to use; noise otherwise")] = None,
    threads: Annotated[int, typer.Option(help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(help="how often the clip is measured")] = 4,
    length: Annotated[int, typer.Option(help="frames of the clip")] = 4,
    short_side: Annotated[int, typer.Option(help="of the network's input")] = 360,
    quick: Quick = False,
) -> None:
    """Time both systems, variant against variant."""
    if quick:
        rounds, length, short_side = 1, 2, 96
    torch.set_num_threads(threads)
    frames = first_frames(video, length)
    for name in ("mask2former-vis", "minvis"):
        plain = PlainClip(plain_network(name, weights), short_side, name == "mask2former-vis")
        variants = {}
        for precision in ("fp32", "bf16"):
            options = {"short_side": short_side, "unbounded": name == "mask2former-vis", "max_instances": 10}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                variants[precision] = vis_core.load(name, weights, device="cpu", precision=precision, **options)
        best = dict.fromkeys(("plain", *variants), float("inf"))
        differ = dict.fromkeys(variants, 0.0)
        for number in range(1, rounds + 1):
            start = time.perf_counter()
            expected = plain(frames)
            best["plain"] = min(best["plain"], time.perf_counter() - start)
            for precision, segmenter in variants.items():
                seen: list[Tensor] = []
                decoder = segmenter.network.get_submodule("decoder")
                hook = decoder.register_forward_hook(lambda _m, _i, out: seen.append(out.logits))  # noqa: B023
                start = time.perf_counter()
                for _ in segmenter.run(frames, prefetch=False):
                    pass
                best[precision] = min(best[precision], time.perf_counter() - start)
                hook.remove()
                found = torch.stack(seen).flatten(0, -3) if name == "minvis" else seen[0]
                most = float((found.softmax(-1) - expected.softmax(-1)).abs().max())
                differ[precision] = max(differ[precision], most)
            told = ", ".join(f"{variant} {seconds / length:.3f}" for variant, seconds in best.items())
            tell(f"{name}: round {number} of {rounds}: s a frame at best: {told}")
        size = f"{frames[0].size[1]}x{frames[0].size[0]}"
        table = Table(title=f"{name}, {size}, {length} frames, {threads} threads, {cpu_name()}")
        for column in ("", "seconds a frame", "ratio", "class probabilities differ"):
            table.add_column(column, justify="left" if not column else "right")
        for variant, seconds in best.items():
            text = "" if variant == "plain" else f"{differ[variant]:.1e}"
            table.add_row(variant, f"{seconds / length:.3f}", f"{seconds / best['plain']:.2f}", text)
        console.print(table)


def plain_network(name: str, weights: Path | None) -> Mask2FormerVISNetwork:
    """The network in the default layout, its norms not folded, sampling by grid."""
    from vis_core.models.mask2former_vis import published
    from vis_core.models.mask2former_vis.building import random_network

    if weights is None:
        network = random_network("resnet50", 40, 100, seed=0)
    else:
        tensors, metadata = vis_core.checkpoints.read_tensors(weights)
        ours = tensors if "system" in metadata else published.convert(tensors)
        network = Mask2FormerVISNetwork(*published.sizes(ours))
        vis_core.checkpoints.load_tensors(network, ours, name)
    for module in network.modules():
        if isinstance(module, MultiScaleDeformableAttention):
            module.sampled = sampled_by_grid
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
