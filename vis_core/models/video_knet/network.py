"""The networks of Video K-Net (Li et al., CVPR 2022): clips whose kernels are tracks, and frames linked by kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.models.video_knet.finest_level import FinestLevel
from vis_core.models.video_knet.initial_head import InitialHead, InitialOutputs
from vis_core.models.video_knet.kernels import KernelLink, KernelStage, StageOutputs, xavier_uniform
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.backbones.swin import VARIANTS, SwinTransformer
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.pixel_decoder import PixelDecoder
from vis_core.nn.winograd import pays

STAGES = 3
_WINDOW = 7  # of every Swin transformer here


class Sizes(NamedTuple):
    """Sizes of both networks; the defaults are those of all published ones."""

    kernels: int = 100
    width: int = 256
    heads: int = 8
    hidden: int = 2048
    encoder_layers: int = 6
    encoder_hidden: int = 1024


PUBLISHED = Sizes()


class FrameNetwork(nn.Module):
    """What both systems have in common: kernels of each frame by itself, in three stages.

    Args:
        backbone: one of `choices.BACKBONES`, or a module with ``channels`` that gives maps at strides 4, 8, 16 and 32.
        neck: one of `choices.NECKS`.
        classes: number of categories, things before stuff.
        sizes: all others.
    """

    backbone: Any  # a module with `channels`
    neck: FeaturePyramid | PixelDecoder
    _finest: FinestLevel | None = None

    def __init__(self, backbone: str | nn.Module, neck: str, classes: int, sizes: Sizes = PUBLISHED) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone) if isinstance(backbone, str) else backbone
        self.classes, self.sizes = classes, sizes
        channels, width = self.backbone.channels, sizes.width
        if neck == "fpn":
            self.neck = FeaturePyramid(channels, width)
        else:
            self.neck = PixelDecoder(channels, width, sizes.encoder_layers, sizes.encoder_hidden)
        self.initial_head = InitialHead(classes, sizes.kernels, width)
        self.frame_stages = nn.ModuleList(KernelStage(width, classes, sizes.heads, sizes.hidden) for _ in range(STAGES))

    def initialise(self) -> None:
        """Weights as the published training starts, but for the backbone's, which come from elsewhere."""
        if isinstance(self.backbone, SwinTransformer):
            self.backbone.initialise()
        if isinstance(self.neck, FeaturePyramid):
            xavier_uniform(self.neck)
            for convolution in self.neck.children():
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        else:
            self.neck.initialise()
        self.initial_head.initialise(exclusive=False)
        for stage in self.frame_stages:
            stage.initialise()  # type: ignore[operator]

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps ``[B, C, h, w]`` at strides 4, 8, 16 and 32.

        Args:
            images: normalised ``[B, 3, H, W]``, height and width multiples of 32.
        """
        return self.neck_maps([x.to(self.initial_head.conv_seg.weight.dtype) for x in self.backbone(images)])

    def neck_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The same of a backbone's maps; after `join_finest_level` the finest one as the semantic pyramid takes it."""
        if isinstance(self.neck, FeaturePyramid):
            if self._finest is not None and not torch.is_grad_enabled() and pays(maps[1]):
                merged = self.neck.merged(maps[1:])
                coarse = [getattr(self.neck, f"output{i}")(x) for i, x in zip(self.neck.numbers[1:], merged)]
                return [self._finest(maps[0], merged[0]), *coarse]
            levels: list[Tensor] = self.neck(maps)
            return levels
        found = self.neck(maps)
        return [found.mask, *reversed(found.levels)]

    def join_finest_level(self) -> None:
        """Run what leads from the finest map to the semantic pyramid as one, where that pays; the weights are final."""
        strided = self.initial_head.pyramid.levels[0][0]  # type: ignore[index]
        if isinstance(self.neck, FeaturePyramid) and strided.weight.device.type == "cpu":
            self._finest = FinestLevel(self.neck.lateral2, self.neck.output2, strided)  # type: ignore[arg-type]

    def stage(self, number: int, features: Tensor, before: StageOutputs, classes: bool) -> StageOutputs:
        """A stage of each frame by itself.

        Args:
            number: of the stage.
            features: ``[B, C, h, w]``.
            before: of the stage before, or of the initial head.
            classes: whether to name the kernels too.
        """
        return self.run_stage(self.frame_stages[number], features, before, classes)

    @staticmethod
    def run_stage(stage: Any, features: Tensor, before: StageOutputs, classes: bool) -> StageOutputs:
        """As `stage`, of any."""
        kernels = stage(stage.pooled(features, before.masks), before.kernels)
        return StageOutputs(stage.class_logits(kernels) if classes else None, stage.masks(kernels, features), kernels)


def first_outputs(initial: InitialOutputs) -> StageOutputs:
    """What enters the first stage."""
    return StageOutputs(None, initial.masks, initial.kernels)


class FrameKernels(NamedTuple):
    """What of T frames does not depend on the clip that they are part of.

    Attributes:
        features: ``[T, C, h, w]``.
        pooled: what the first stage of the clip takes ``[T, N, C]``.
        kernels: of the last stage of the frames ``[T, N, C]``.
    """

    features: Tensor
    pooled: Tensor
    kernels: Tensor


class ClipNetwork(FrameNetwork):
    """A kernel is an instance in all frames of a clip: the frames' kernels are averaged and refined on the whole clip.

    Args:
        backbone: see `FrameNetwork`, as are the others.
        neck: the same.
        classes: the same.
        sizes: the same.
    """

    def __init__(self, backbone: str | nn.Module, neck: str, classes: int, sizes: Sizes = PUBLISHED) -> None:
        super().__init__(backbone, neck, classes, sizes)
        self.clip_stages = nn.ModuleList(
            KernelStage(sizes.width, k, sizes.heads, sizes.hidden) for k in (classes, classes, None)
        )

    def frames(self, maps: Sequence[Tensor]) -> FrameKernels:
        """What the frames' own stages give, of each frame by itself; for inference."""
        initial = self.initial_head(maps, semantic=False)
        out = first_outputs(initial)
        for number in range(STAGES):
            out = self.stage(number, initial.features, out, classes=False)
        return self.frame_kernels(initial.features, out)

    def frame_kernels(self, features: Tensor, out: StageOutputs) -> FrameKernels:
        """What a clip takes of frames, of their features ``[T, C, h, w]`` and their last stage."""
        first: Any = self.clip_stages[0]
        return FrameKernels(features, first.pooled(features, out.masks), out.kernels)

    def clip(self, frames: Sequence[FrameKernels], every: bool = False) -> list[StageOutputs]:
        """The stages that see a clip as a whole, and name its instances.

        Args:
            frames: of T frames in all, in parts of one or several.
            every: in training: the classes of all stages, not only those of the last one.

        Returns:
            Of each stage: logits ``[1, N, K]``, masks ``[T, N, h, w]`` and kernels ``[1, N, C]``.
        """
        kernels = torch.cat([part.kernels for part in frames]).mean(0, keepdim=True)
        pooled = [part.pooled for part in frames]
        outputs: list[StageOutputs] = []
        stages: list[Any] = list(self.clip_stages[:-1])
        for number, stage in enumerate(stages):
            if outputs:
                lengths = [part.features.shape[0] for part in frames]
                masks = outputs[-1].masks.split(lengths)
                pooled = [stage.pooled(part.features, m) for part, m in zip(frames, masks)]
            kernels = stage(torch.cat(pooled).mean(0, keepdim=True), kernels)
            named = stage.class_logits(kernels) if every or number == len(stages) - 1 else None
            found = [stage.masks(kernels, part.features) for part in frames]
            outputs.append(StageOutputs(named, torch.cat(found), kernels))
        return outputs

    def frames_of_clip(self, frames: Sequence[FrameKernels], out: StageOutputs) -> Tensor:
        """Kernels of each frame of a clip ``[T, N, C]``, by the last stage, whose masks are the clip's.

        Args:
            frames: as in `clip`.
            out: of the last stage of `clip`.
        """
        last: Any = self.clip_stages[-1]
        masks = out.masks.split([part.features.shape[0] for part in frames])
        pooled = torch.cat([last.pooled(part.features, m) for part, m in zip(frames, masks)])
        kernels: Tensor = last(pooled, out.kernels.expand(pooled.shape[0], -1, -1))
        return kernels

    def clip_masks(self, frames: Sequence[FrameKernels], kernels: Tensor) -> Tensor:
        """Mask logits ``[T, n, h, w]`` of some of the kernels of `frames_of_clip`, ``[T, n, C]``."""
        last: Any = self.clip_stages[-1]
        parts = kernels.split([len(part.features) for part in frames])
        return torch.cat([last.masks(x, part.features) for part, x in zip(frames, parts)])


class AssociationHead(nn.Module):
    """Embeddings by which kernels of different frames are compared.

    Args:
        width: of kernels and embeddings.
        layers: linear ones with ReLU before the last.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed_fcs = nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU())
        self.fc_embed = nn.Linear(width, width)
        self.fcs = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.output = nn.Linear(width, width)

    def initialise(self) -> None:
        """As the published training starts."""
        for layer in self.fcs:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, kernels: Tensor) -> Tensor:
        """Embeddings ``[..., C]`` of kernels ``[..., C]``."""
        x = self.fc_embed(self.embed_fcs(kernels))
        for layer in self.fcs:
            x = F.relu(layer(x))
        embeddings: Tensor = self.output(x)
        return embeddings


class LinkedOutputs(NamedTuple):
    """What the last stage says of B frames.

    Attributes:
        outputs: as of every stage; its kernels are what the next frame is linked to.
        linked: kernels ``[B, N, C]`` for the embeddings.
    """

    outputs: StageOutputs
    linked: Tensor


class OnlineNetwork(FrameNetwork):
    """Kernels of things and of stuff classes in each frame, of which the last stage knows those of the frame before.

    Args:
        backbone: see `FrameNetwork`.
        neck: the same.
        things: number of thing classes.
        stuff: number of stuff classes, each with a kernel of its own; may be 0.
        linking: how kernels for the embeddings look at those of the frame before: one of `choices.LINKINGS`, or none.
        fusion: kernels look at those of the frame before as the last stage begins, too.
        embedding_layers: see `AssociationHead`; None: there is none, kernels are compared as they are.
        sizes: see `FrameNetwork`.
    """

    thing_classes: Tensor

    def __init__(
        self,
        backbone: str | nn.Module,
        neck: str,
        things: int,
        stuff: int = 0,
        linking: str | None = "ffn",
        fusion: bool = False,
        embedding_layers: int | None = 2,
        sizes: Sizes = PUBLISHED,
    ) -> None:
        super().__init__(backbone, neck, things + stuff, sizes)
        self.things, self.stuff = things, stuff
        self.register_buffer("thing_classes", torch.tensor(things))  # no other tensor tells
        link = (sizes.width, sizes.heads, sizes.hidden)
        self.fusion = KernelLink(*link, updated=True) if fusion else None
        self.linking = None if linking is None else KernelLink(*link, updated=linking == "update")
        self.association = None if embedding_layers is None else AssociationHead(sizes.width, embedding_layers)
        self.looks_back = fusion or linking is not None

    def initialise(self) -> None:
        super().initialise()
        self.initial_head.initialise(exclusive=self.stuff > 0)
        for link in (self.fusion, self.linking):
            if link is not None:
                xavier_uniform(link)
        if self.association is not None:
            self.association.initialise()

    def initial(self, maps: Sequence[Tensor]) -> InitialOutputs:
        """What of B frames the initial head says, before the stuff classes join."""
        outputs: InitialOutputs = self.initial_head(maps, semantic=True)
        return outputs

    def joined(self, initial: InitialOutputs) -> StageOutputs:
        """What enters the first stage: N kernels of things, then one of each stuff class."""
        return first_outputs(self.initial_head.with_stuff(initial, self.things) if self.stuff else initial)

    def last_stage(
        self, features: Tensor, before: StageOutputs, previous: Tensor | None, begins: Tensor | None = None
    ) -> LinkedOutputs:
        """The last stage, which looks back.

        Args:
            features: ``[B, C, h, w]``.
            before: of the stage before.
            previous: kernels of the last stage of the frame before ``[B, N, C]``; None: a video begins.
            begins: bool ``[1]``: a video begins, whatever `previous` is; None: as `previous` says.
        """
        stage: Any = self.frame_stages[-1]
        pooled, kernels = stage.pooled(features, before.masks), before.kernels
        if self.fusion is not None and previous is not None:
            kernels = _unless(begins, kernels, self.fusion(kernels, previous, pooled))
        kernels = stage(pooled, kernels)
        linked = kernels
        if self.linking is not None and previous is not None:
            linked = _unless(begins, kernels, self.linking(kernels, previous, pooled))
        return LinkedOutputs(StageOutputs(stage.class_logits(kernels), stage.masks(kernels, features), kernels), linked)


def _unless(begins: Tensor | None, kernels: Tensor, linked: Tensor) -> Tensor:
    """Linked kernels, or where a video begins the kernels as they are."""
    return linked if begins is None else torch.where(begins, kernels, linked)


def build_backbone(name: str) -> ResNet | SwinTransformer:
    """One of `choices.BACKBONES`; every Swin transformer has windows of 7 and loses as many residuals as published."""
    kind, _, variant = name.partition("_")
    if kind == "swin":
        return SwinTransformer(replace(VARIANTS[variant], window=_WINDOW), 0.2 if variant == "large" else 0.3)
    return ResNet(int(name.removeprefix("resnet")))
