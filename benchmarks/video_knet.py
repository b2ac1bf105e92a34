"""Seconds a frame of Video K-Net against a plain formulation of its network, in the same run.

    python benchmarks/video_knet.py [--video street.mp4] [--threads 2] [--rounds 5]

All variants take turns clip by clip with the same random weights (ResNet-50, feature pyramid, 100 kernels) and frames,
a clip of 5 frames answered at once, the ten published results of each; the figure is the median of all rounds, and
beside it stands the median of the ratios within a round. CPU seconds are those of all threads, which other users of the
machine disturb less. The plain formulation: default layout, norms not folded, the clip in one batch, the feature map
transformed in every stage, classes of pixels and of every stage, masks of all kernels after every stage, and, as the
published code, ten masks of every frame at the image's size that nobody asks for. The row of the online system is
another computation: KITTI-STEP's things and stuff at the size of its images, frame after frame.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import plain
import torch
import typer
from conditions import Neighbours, Quick, WholeClip, beside, cpu_name, first_frames, take_turns
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import vis_core
from vis_core.checkpoints import FORMAT, write_tensors
from vis_core.models.video_knet.kernels import best_pairs
from vis_core.models.video_knet.network import ClipNetwork, OnlineNetwork
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.input_transform import WithinTransform
from vis_core.nn.position_codes import image_code
from vis_core.nn.precision import _has_fast_bfloat16
from vis_core.structures import Frame

LENGTH, RESULTS = 5, 10
SIZE, KITTI_SIZE = (360, 640), (384, 1248)
console = Console(width=160)


class Answer(NamedTuple):
    """Of the ten results.

    Attributes:
        scores: ``[10]``.
        masks: bool ``[T, 10, H, W]``.
    """

    scores: Tensor
    masks: Tensor


class PlainClip:
    """The clip system on a clip, with nothing saved or rearranged."""

    def __init__(self, network: ClipNetwork) -> None:
        self.network = network
        self.transform = WithinTransform(*SIZE, rounded=False)

    @torch.inference_mode()
    def __call__(self, frames: list[Frame]) -> Answer:
        network = self.network
        images = torch.cat([self.transform(frame.image).contiguous() for frame in frames])
        assert isinstance(network.neck, FeaturePyramid)
        features, masks, kernels = self._initial(plain.pyramid(network.neck, network.backbone(images)))
        logits: Tensor | None = None
        for stage in network.frame_stages:
            logits, masks, kernels = _stage(stage, features, masks, kernels)
        size, padded = frames[0].size, (images.shape[2], images.shape[3])
        assert logits is not None
        for named, mask in zip(logits.sigmoid(), masks):
            self._at_image(mask[best_pairs(named, RESULTS)[2]], padded, size)
        kernels = kernels.mean(0, keepdim=True)
        stages: Any = network.clip_stages
        for stage in stages[:-1]:
            logits, masks, kernels = _stage(stage, features, masks, kernels)
        _, masks, _ = _stage(stages[-1], features, masks, kernels.expand(len(frames), -1, -1))
        assert logits is not None
        scores, _, chosen = best_pairs(logits[0].sigmoid(), RESULTS)
        return Answer(scores, torch.stack([self._at_image(mask[chosen], padded, size) for mask in masks]))

    def _at_image(self, masks: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Masks bool ``[n, H, W]`` of logits ``[n, h, w]``."""
        height, width = self.transform.size(*size)
        whole = F.interpolate(_larger(masks[None], 2).sigmoid(), padded, mode="bilinear", align_corners=False)
        return F.interpolate(whole[..., :height, :width], size, mode="bilinear", align_corners=False)[0] > 0.5

    def _initial(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Features, masks and kernels."""
        head: Any = self.network.initial_head
        height, width = maps[3].shape[2:]
        code = image_code(height, width, maps[3].shape[1]).T.unflatten(1, (height, width))
        total: Any = 0
        for convolutions, x in zip(head.pyramid.levels, (*maps[:3], maps[3] + code)):
            for number, convolution in enumerate(convolutions):
                x = _normed(convolution, _larger(x, 2) if number else x)
            total = total + x
        localisation = _normed(head.loc_conv, _normed(head.pyramid.localisation, total))
        named = _normed(head.seg_conv, _normed(head.pyramid.semantic, total))
        head.conv_seg(named)
        masks, features = head.init_kernels(localisation), localisation + named
        return features, masks, head.init_kernels.weight.flatten(1) + _pooled(features, masks)


def _normed(convolution: Any, x: Tensor) -> Tensor:
    x = F.conv2d(x, convolution.weight, None, convolution.stride, convolution.padding)
    return F.relu(convolution.norm(x))


def _larger(x: Tensor, times: int) -> Tensor:
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def _pooled(features: Tensor, masks: Tensor) -> Tensor:
    return torch.einsum("bnhw,bchw->bnc", (masks.sigmoid() > 0.5).float(), features)


def _stage(stage: Any, features: Tensor, masks: Tensor, kernels: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """Logits, masks and kernels of a stage: of each frame, or of the clip if there is one set of kernels for it."""
    transform = stage.feat_transform
    features = F.conv2d(features, transform.weight[:, :, None, None], transform.bias)
    pooled = _pooled(features, masks)
    kernels = stage(pooled.mean(0, keepdim=True) if len(kernels) == 1 else pooled, kernels)
    logits = stage.class_logits(kernels) if hasattr(stage, "fc_cls") else None
    made = stage.fc_mask(stage.mask_fcs(kernels)).expand(len(features), -1, -1)
    return logits, torch.einsum("bnc,bchw->bnhw", made, features), kernels


class Clip(WholeClip):
    """The system as it ships, on a whole clip."""

    def __init__(self, weights: Path, kind: str) -> None:
        super().__init__(vis_core.load("video-knet", weights, device="cpu", precision=kind, unbounded=True))

    @torch.inference_mode()
    def difference(self, answer: Answer) -> tuple[float, float]:
        """From the plain formulation: the largest of scores, and the least mask IoU."""
        own, least = torch.from_numpy(self.found.class_scores.max(1)), 1.0
        for t, wanted in enumerate(answer.masks):
            dense = np.stack([mask.dense() for mask in self.found.masks(t, range(RESULTS))])
            least = min(least, plain.least_overlap(torch.from_numpy(dense), wanted))
        return float((own - answer.scores).abs().max()), least


class Stream:
    """A system as the node runs it, one frame after the other."""

    def __init__(self, name: str, weights: Path) -> None:
        self.segmenter = vis_core.load(name, weights, device="cpu", precision="fp32")
        self._next = 0

    def __call__(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.segmenter.step(Frame(frame.image, self._next, self._next))
            self._next += 1


def main(
    video: Annotated[Path | None, typer.Option(help="frames to use; noise otherwise")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="how often the clip is measured")] = 5,
    quick: Quick = False,
) -> None:
    """Time all."""
    length, rounds = (2, 1) if quick else (LENGTH, rounds)
    torch.set_num_threads(threads)
    networks = {"video-knet": random_clip_network(), "video-knet-online": random_online_network()}
    frames, wide = (first_frames(video, length, size) for size in (SIZE, KITTI_SIZE))
    variants: dict[str, tuple[Any, list[Frame]]] = {"plain": (PlainClip(networks["video-knet"]), frames)}  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.safetensors") for name in networks}
        for name, network in networks.items():
            write_tensors(files[name], network.state_dict(), {"format": FORMAT, "system": name})
        variants["fp32"] = Clip(files["video-knet"], "fp32"), frames
        if _has_fast_bfloat16():
            variants["bf16"] = Clip(files["video-knet"], "bf16"), frames
        variants["streamed, a window of 5 for every frame"] = Stream("video-knet", files["video-knet"]), frames
        variants["online, 1248x384"] = Stream("video-knet-online", files["video-knet-online"]), wide
    neighbours = Neighbours()
    runs = {name: partial(run, given) for name, (run, given) in variants.items()}
    seconds, results = take_turns(runs, rounds, length, quick)
    title = f"Video K-Net, ResNet-50, 640x360, a clip of {length}, {threads} threads, {cpu_name()}"
    table = Table(
        "", "seconds a frame", "ratio", "CPU seconds", "ratio", "scores differ", "least mask IoU", title=title
    )
    for name, (run, given) in variants.items():
        wall, ratio, cpu, cpu_ratio = beside(seconds[name], seconds["plain"])
        row = [name, wall, ratio, cpu, cpu_ratio] if given is frames else [name, wall, "", cpu, ""]
        if isinstance(run, Clip):
            scores, overlap = run.difference(results["plain"])
            row += [f"{scores:.1e}", f"{overlap:.4f}"]
        table.add_row(*row)
    console.print(table)
    console.print(f"{neighbours.cores():.1f} cores were busy with other processes")
    if "bf16" not in variants:
        console.print("bf16: this CPU does not multiply in bfloat16, so it would be emulated; not measured")


def random_clip_network() -> ClipNetwork:
    """Random weights, whose masks and classes differ from kernel to kernel and from place to place."""
    return _varied(ClipNetwork("resnet50", "fpn", 40))


def random_online_network() -> OnlineNetwork:
    """The same, with KITTI-STEP's classes."""
    return _varied(OnlineNetwork("resnet50", "fpn", 2, 17))


def _varied(network: Any) -> Any:
    torch.manual_seed(0)
    network.initialise()
    for name, x in network.named_parameters():
        if name.startswith("neck.") and x.dim() == 4:
            nn.init.normal_(x, 0, x[0].numel() ** -0.5)
        elif name.endswith(("fc_mask.weight", "fc_mask.bias")):
            nn.init.normal_(x, 0, 0.3)
        elif name.endswith("fc_cls.weight"):
            nn.init.normal_(x, 0, 0.1)
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    typer.run(main)
