"""The network of EfficientVIS (Wu et al., CVPR 2022): tracklet queries and proposals, refined stage by stage.

It stands on Sparse R-CNN (Sun et al., CVPR 2021), whose parameters keep their published names, and for masks on
QueryInst (Fang et al., ICCV 2021). Of a clip of T frames, N queries are ``[T, N, C]``, their boxes ``[T, N, 4]``: x1 y1
x2 y2 in pixels of the network's image without its padding, never clipped. Nothing depends on T, or on where in a clip a
frame is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.attention import Attention
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.boxes import corners_from_centres, decode_deltas
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.roi_align import Level, pyramid_roi_align

ATTENTIONS = ("factorised", "spatial", "temporal", "joint")
DYNAMIC_CONVOLUTIONS = ("temporal", "still")
QUERIES_OVER_TIME = ("disentangled", "shared")
REGION, MASK_REGION = 7, 14  # bins along a side
_SMALLEST_NORM = 1e-6


class Dimensions(NamedTuple):
    """Sizes of the head; the published ones.

    Attributes:
        width: channels C.
        heads: of the attention.
        dynamic: channels between the two dynamic convolutions.
        feedforward: channels between the two linear layers.
        stages: number of stages.
    """

    width: int = 256
    heads: int = 8
    dynamic: int = 64
    feedforward: int = 2048
    stages: int = 6


PUBLISHED = Dimensions()


@dataclass(frozen=True, eq=False)
class StageOutputs:
    """What a stage says of N queries in T frames.

    Attributes:
        logits: of the classes ``[T, N, K]``.
        boxes: ``[T, N, 4]``.
        queries: ``[T, N, C]``, for the next stage.
        attended: the queries after attention ``[T, N, C]``, which masks are made from.
    """

    logits: Tensor
    boxes: Tensor
    queries: Tensor
    attended: Tensor


class DynamicConvolution(nn.Module):
    """Two 1x1 convolutions whose filters a query makes, on its region in its frame and, if temporal, in the neighbours.

    Args:
        width: channels C of queries and regions.
        dynamic: channels D between the convolutions.
        positions: of a region; None: the result is not made into a query again.
    """

    def __init__(self, width: int, dynamic: int, positions: int | None = None) -> None:
        super().__init__()
        self.dynamic = dynamic
        self.dynamic_layer = nn.Linear(width, 2 * width * dynamic)
        self.norm1 = nn.LayerNorm(dynamic)
        self.norm2 = nn.LayerNorm(width)
        if positions is not None:
            self.out_layer = nn.Linear(positions * width, width)
            self.norm3 = nn.LayerNorm(width)

    def forward(self, queries: Tensor, regions: Tensor, temporal: bool) -> Tensor:
        """What the queries' filters find, ``[T, N, P, C]``.

        Args:
            queries: ``[T, N, C]``.
            regions: ``[T, N, P, C]``.
            temporal: look at t-1 and t+1 too, as far as the clip has them.
        """
        filters = self.dynamic_layer(queries)
        first, second = filters.chunk(2, -1)
        first = first.unflatten(-1, (-1, self.dynamic))
        second = second.unflatten(-1, (self.dynamic, -1))
        if not temporal or len(queries) == 1:
            return self._convolve(regions, first, second)
        weights = neighbour_weights(regions)
        found = weights[1][..., None] * self._convolve(regions, first, second)
        before, after = (
            self._convolve(regions[:-1], first[1:], second[1:]),
            self._convolve(regions[1:], first[:-1], second[:-1]),
        )
        nothing = torch.zeros_like(found[:1])
        found = found + torch.cat((nothing, weights[0, 1:, ..., None] * before))
        return found + torch.cat((weights[2, :-1, ..., None] * after, nothing))

    def _convolve(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        x = F.relu(self.norm1(x @ first))
        return F.relu(self.norm2(x @ second))

    def as_query(self, found: Tensor) -> Tensor:
        """A query's change ``[T, N, C]`` from what was found in its region."""
        return F.relu(self.norm3(self.out_layer(found.flatten(2))))


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


class NormedConvolution(nn.Module):
    """3x3 convolution, batch norm with its stored statistics, also in training, and ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        x = F.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )
        return F.relu(x)


class MaskHead(nn.Module):
    """Masks of 28x28 pixels in the queries' boxes."""

    def __init__(self, width: int, dynamic: int) -> None:
        super().__init__()
        self.inst_interact = DynamicConvolution(width, dynamic)
        self.convs = nn.ModuleList(NormedConvolution(width) for _ in range(4))
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        self.mask_logits = nn.Conv2d(width, 1, 1)

    def forward(self, queries: Tensor, regions: Tensor, temporal: bool) -> Tensor:
        """Mask logits ``[T, N, 28, 28]`` of queries ``[T, N, C]`` and regions ``[T, N, 196, C]``."""
        found = self.inst_interact(queries, regions, temporal)
        x = found.flatten(0, 1).unflatten(1, (MASK_REGION, MASK_REGION)).permute(0, 3, 1, 2)  # channels-last
        for conv in self.convs:
            x = conv(x)
        logits: Tensor = self.mask_logits(F.relu(self.upsample(x)))
        return logits[:, 0].unflatten(0, queries.shape[:2])


class Stage(nn.Module):
    """Attention among the queries, then each one's look into its boxes: classes, new boxes, new queries.

    Args:
        dimensions: of the head.
        classes: K.
        tracklets: with attention over time and a mask head, as EfficientVIS adds them to Sparse R-CNN.
        attention: one of `ATTENTIONS`.
        dynamic_convolution: one of `DYNAMIC_CONVOLUTIONS`.
        queries_over_time: one of `QUERIES_OVER_TIME`; shared: the mean over the clip is every frame's query.
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
        super().__init__()
        width, heads, dynamic, feedforward, _ = dimensions
        self.attention, self.temporal = attention, dynamic_convolution == "temporal"
        self.shared = queries_over_time == "shared"
        if tracklets:
            self.temporal_attn = Attention(width, heads)
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.inst_interact = DynamicConvolution(width, dynamic, REGION * REGION)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.cls_module = nn.Sequential(*_hidden_layers(width, 1))
        self.reg_module = nn.Sequential(*_hidden_layers(width, 3))
        self.class_logits = nn.Linear(width, classes)
        self.bboxes_delta = nn.Linear(width, 4)
        if tracklets:
            self.mask_head = MaskHead(width, dynamic)

    def forward(self, levels: Sequence[Level], queries: Tensor, boxes: Tensor) -> StageOutputs:
        """One round of refinement.

        Args:
            levels: maps of T frames at strides 4, 8, 16 and 32, as `pyramid_roi_align` takes them.
            queries: ``[T, N, C]``.
            boxes: ``[T, N, 4]``.
        """
        attended = self.attend(queries)
        found = self.inst_interact(attended, pooled(levels, boxes, REGION), self.temporal)
        x = self.norm2(attended + self.inst_interact.as_query(found))
        x = self.norm3(x + self.linear2(F.relu(self.linear1(x))))
        logits = self.class_logits(self.cls_module(x))
        new_boxes = decode_deltas(boxes, self.bboxes_delta(self.reg_module(x)))
        if self.shared:
            x = x.mean(0, keepdim=True).expand_as(x)
        return StageOutputs(logits, new_boxes, x, attended)

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
        boxes = out.boxes[:, rows].detach()
        logits: Tensor = self.mask_head(out.attended[:, rows], pooled(levels, boxes, MASK_REGION), self.temporal)
        return logits


def _hidden_layers(width: int, count: int) -> Iterator[nn.Module]:
    for _ in range(count):
        yield from (nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU())


def pooled(levels: Sequence[Level], boxes: Tensor, size: int) -> Tensor:
    """What maps of T frames hold in the boxes ``[T, N, 4]``: ``[T, N, size * size, C]``."""
    frames, count = boxes.shape[:2]
    index = torch.arange(frames, device=boxes.device).repeat_interleave(count)
    return pyramid_roi_align(levels, boxes.flatten(0, 1), index, size).unflatten(0, (frames, count))


class ClipHead(nn.Module):
    """The stages.

    Args:
        dimensions: of the head.
        classes: K.
        options: of `Stage`.
    """

    def __init__(self, dimensions: Dimensions, classes: int, **options: str | bool) -> None:
        super().__init__()
        stages = (Stage(dimensions, classes, **options) for _ in range(dimensions.stages))  # type: ignore[arg-type]
        self.head_series = nn.ModuleList(stages)

    def initialise(self) -> None:
        """As the published training starts, but that the prior of the classes is their biases' alone.

        Attention over time gives nothing at first: the network acts as Sparse R-CNN on every frame.
        """
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, Attention):
                nn.init.zeros_(module.out_proj.bias)
        for stage in self.stages():
            nn.init.constant_(stage.class_logits.bias, -math.log(99))
            if hasattr(stage, "mask_head"):
                nn.init.zeros_(stage.temporal_attn.out_proj.weight)
                nn.init.zeros_(stage.mask_head.mask_logits.bias)  # type: ignore[arg-type]

    def stages(self) -> list[Stage]:
        """In order."""
        return list(self.head_series)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Level], queries: Tensor, boxes: Tensor) -> list[StageOutputs]:
        """What every stage says; boxes pass from one to the next without gradient."""
        outputs: list[StageOutputs] = []
        for stage in self.stages():
            outputs.append(stage(levels, queries, boxes))
            queries, boxes = outputs[-1].queries, outputs[-1].boxes.detach()
        return outputs

    def last(self, levels: Sequence[Level], queries: Tensor, boxes: Tensor) -> StageOutputs:
        """What the last stage says."""
        return self(levels, queries, boxes)[-1]  # type: ignore[no-any-return]


class Proposals(nn.Module):
    """What a clip starts from: N learned queries, and their boxes relative to the image."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.init_proposal_features = nn.Embedding(count, width)
        self.init_proposal_boxes = nn.Embedding(count, 4)

    def initialise(self) -> None:
        """Queries from a normal distribution, boxes that are the whole image."""
        nn.init.normal_(self.init_proposal_features.weight)
        with torch.no_grad():
            self.init_proposal_boxes.weight[:] = torch.tensor([0.5, 0.5, 1.0, 1.0])

    def learned(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Queries ``[N, C]`` and boxes ``[N, 4]`` for images of that height and width without padding."""
        height, width = size
        sides = self.init_proposal_boxes.weight.new_tensor([width, height, width, height])
        return self.init_proposal_features.weight, corners_from_centres(self.init_proposal_boxes.weight) * sides


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
