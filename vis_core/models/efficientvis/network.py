"""The network of EfficientVIS (Wu et al., CVPR 2022): tracklet queries and proposals, refined stage by stage.

It stands on Sparse R-CNN (Sun et al., CVPR 2021), whose parameters keep their published names, and for masks on
QueryInst (Fang et al., ICCV 2021): `vis_core.nn.region_queries`. Nothing depends on the number of frames of a clip, or
on where in it a frame is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vis_core.nn.attention import Attention
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.region_queries import (
    MASK_REGION,
    PUBLISHED,
    REGION,
    Dimensions,
    DynamicConvolution,
    MaskHead,
    Proposals,
    QueryHead,
    QueryStage,
    StageOutputs,
)
from vis_core.nn.roi_align import Level
from vis_core.nn.tracing import is_tracing

_SMALLEST_NORM = 1e-6


class TemporalDynamicConvolution(DynamicConvolution):
    """A query's filters on its region in its frame and, if temporal, in the neighbours; see `DynamicConvolution`."""

    def forward(self, queries: Tensor, regions: Tensor, temporal: bool = True) -> Tensor:
        """What the queries' filters find, ``[T, N, P, C]``.

        Args:
            queries: ``[T, N, C]``.
            regions: ``[T, N, P, C]``.
            temporal: look at t-1 and t+1 too, as far as the clip has them.
        """
        first, second = self.filters(queries)
        if not temporal or (queries.shape[0] == 1 and not is_tracing()):
            return self.convolve(regions, first, second)
        weights = neighbour_weights(regions)
        found = weights[1][..., None] * self.convolve(regions, first, second)
        before, after = (
            self.convolve(regions[:-1], first[1:], second[1:]),
            self.convolve(regions[1:], first[:-1], second[:-1]),
        )
        nothing = torch.zeros_like(found[:1])
        found = found + torch.cat((nothing, weights[0, 1:, ..., None] * before))
        return found + torch.cat((weights[2, :-1, ..., None] * after, nothing))


def neighbour_weights(regions: Tensor) -> Tensor:
    """How much of each position's result comes from t-1, t and t+1, ``[3, T, N, P]``: a softmax over cosines.

    A neighbour that the clip does not have weighs 0; a region outside the image has the cosine 0 with any other.

    Args:
        regions: ``[T, N, P, C]``, of at least two frames.
    """
    unit = regions / regions.norm(dim=-1, keepdim=True).clamp(min=_SMALLEST_NORM)
    own = (unit * unit).sum(-1)
    pairs = (unit[:-1] * unit[1:]).sum(-1)
    absent = torch.full_like(own[:1], -torch.inf)
    return torch.stack((torch.cat((absent, pairs)), own, torch.cat((pairs, absent)))).softmax(0)


class Stage(QueryStage):
    """A stage of Sparse R-CNN and, with tracklets, what EfficientVIS adds.

    Args:
        dimensions: of the head.
        classes: K.
        tracklets: with attention over time and a mask head.
        attention: one of `choices.ATTENTIONS`.
        dynamic_convolution: one of `choices.DYNAMIC_CONVOLUTIONS`.
        queries_over_time: one of `choices.QUERIES_OVER_TIME`; shared: the mean over the clip is every frame's query.
    """

    def __init__(
        self,
        dimensions: Dimensions,
        classes: int,
        tracklets: bool = True,
        attention: str = "factorised",
        dynamic_convolution: str = "temporal",
        queries_over_time: str = "disentangled",
    ) -> None:
        width, dynamic = dimensions.width, dimensions.dynamic
        super().__init__(dimensions, classes, TemporalDynamicConvolution(width, dynamic, REGION * REGION))
        self.attention, self.temporal = attention, dynamic_convolution == "temporal"
        self.shared = queries_over_time == "shared"
        if tracklets:
            self.temporal_attn = Attention(width, dimensions.heads)
            self.mask_head = MaskHead(width, TemporalDynamicConvolution(width, dynamic))

    def find(self, attended: Tensor, regions: Tensor) -> Tensor:
        found: Tensor = self.inst_interact(attended, regions, self.temporal)
        return found

    def forward(self, levels: Sequence[Level], queries: Tensor, boxes: Tensor) -> StageOutputs:
        out = super().forward(levels, queries, boxes)
        return replace(out, queries=out.queries.mean(0, keepdim=True).expand_as(out.queries)) if self.shared else out

    def attend(self, queries: Tensor) -> Tensor:
        """Queries ``[T, N, C]`` that have seen one another."""
        if self.attention == "joint":
            tokens = queries.flatten(0, 1)[None]
            found = self.self_attn(tokens, tokens, tokens)[0].unflatten(0, queries.shape[:2])
            return self._normed(queries + found)
        if self.attention != "spatial":
            over_time = queries.transpose(0, 1)
            queries = queries + self.temporal_attn(over_time, over_time, over_time).transpose(0, 1)
        if self.attention != "temporal":
            queries = queries + self.self_attn(queries, queries, queries)
        return self._normed(queries)

    def _normed(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm1(x)
        return normed

    def masks(
        self, levels: Sequence[Level], out: StageOutputs, rows: Sequence[int] | Tensor | slice = slice(None)
    ) -> Tensor:
        """Mask logits ``[T, n, 28, 28]`` of some queries in their new boxes; those of others do not change them."""
        return self.masks_of(levels, out.boxes[:, rows].detach(), out.attended[:, rows])

    def masks_of(self, levels: Sequence[Level], boxes: Tensor, attended: Tensor) -> Tensor:
        """As `masks`, of queries by their boxes ``[T, n, 4]`` and after attention ``[T, n, C]``."""
        regions = self.pooled(levels, boxes, MASK_REGION)
        logits: Tensor = self.mask_head(self.mask_head.inst_interact(attended, regions, self.temporal))
        return logits[:, :, 0]


class ClipHead(QueryHead[Stage]):
    """The stages.

    Args:
        dimensions: of the head.
        classes: K.
        options: of `Stage`.
    """

    def __init__(self, dimensions: Dimensions, classes: int, **options: str | bool) -> None:
        super().__init__(Stage(dimensions, classes, **options) for _ in range(dimensions.stages))  # type: ignore[arg-type]

    def initialise(self) -> None:
        """As the published training starts, but that the prior of the classes is their biases' alone.

        Attention over time gives nothing at first: the network acts as Sparse R-CNN on every frame.
        """
        super().initialise()
        for stage in self.stages():
            if hasattr(stage, "mask_head"):
                nn.init.zeros_(stage.temporal_attn.out_proj.weight)
                nn.init.zeros_(stage.mask_head.mask_logits.bias)  # type: ignore[arg-type]


class EfficientVISNetwork(Proposals):
    """All modules of EfficientVIS; or, without tracklets, those of Sparse R-CNN.

    Args:
        depth: of the ResNet, 50 or 101; None: no backbone and no pyramid, their maps are given.
        classes: K.
        queries: N.
        dimensions: of the head.
        options: of `Stage`.
    """

    def __init__(
        self,
        depth: int | None = 50,
        classes: int = 40,
        queries: int = 10,
        dimensions: Dimensions = PUBLISHED,
        **options: str | bool,
    ) -> None:
        super().__init__(queries, dimensions.width)
        self.classes, self.queries = classes, queries
        if depth is not None:
            self.backbone = ResNet(depth)
            self.pyramid = FeaturePyramid(self.backbone.channels, dimensions.width)
        self.head = ClipHead(dimensions, classes, **options)

    def initialise(self) -> None:
        """Weights as the published training starts, but for the backbone's, which come from elsewhere."""
        super().initialise()
        if hasattr(self, "pyramid"):
            self.pyramid.initialise()
        self.head.initialise()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps ``[B, C, h, w]`` at strides 4, 8, 16 and 32 of normalised images ``[B, 3, H, W]``, padded to 32."""
        backbone = self.backbone(images)
        levels: list[Tensor] = self.pyramid([x.to(next(self.pyramid.parameters()).dtype) for x in backbone])
        return levels
