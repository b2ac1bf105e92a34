"""Queries that look into boxes and move them, stage by stage: what systems of this kind have in common.

Boxes and classes are Sparse R-CNN's (Sun et al., CVPR 2021), masks QueryInst's (Fang et al., ICCV 2021); parameters
have the names of the former's published files. Of a clip of T frames, N queries are ``[T, N, C]``, their boxes ``[T, N,
4]``: x1 y1 x2 y2 in pixels of the network's image without its padding, never clipped. Nothing depends on T.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.attention import Attention
from vis_core.nn.boxes import LARGEST_CHANGE, corners_from_centres, decode_deltas
from vis_core.nn.roi_align import Level, box_levels, pyramid_roi_align
from vis_core.nn.winograd import WinogradConv2d

REGION, MASK_REGION = 7, 14  # bins along a side
_QUERIES = 128  # whose filters are made at a time


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
    """Two 1x1 convolutions whose filters a query makes, on its region.

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

    def forward(self, queries: Tensor, regions: Tensor) -> Tensor:
        """What the queries' filters find, ``[T, N, P, C]``.

        Args:
            queries: ``[T, N, C]``, or ``[1, N, C]`` where all frames have the same.
            regions: ``[T, N, P, C]``.
        """
        if torch.is_grad_enabled() or queries.shape != (*regions.shape[:2], queries.shape[2]):
            return self.convolve(regions, *self.filters(queries))
        # The filters of a query are as many as its region is large: those of a few queries stay in the cache.
        flat = zip(queries.flatten(0, 1).split(_QUERIES), regions.flatten(0, 1).split(_QUERIES))
        found = [self.convolve(some, *self.filters(of_some)) for of_some, some in flat]
        return torch.cat(found).unflatten(0, regions.shape[:2])

    def filters(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Of both convolutions, ``[T, N, C, D]`` and ``[T, N, D, C]``."""
        first, second = self.dynamic_layer(queries).chunk(2, -1)
        return first.unflatten(-1, (-1, self.dynamic)), second.unflatten(-1, (self.dynamic, -1))

    def convolve(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """What filters find in regions ``[T, N, P, C]``."""
        x = F.relu_(self.norm1(x @ first))
        return F.relu_(self.norm2(x @ second))

    def as_query(self, found: Tensor) -> Tensor:
        """A query's change ``[T, N, C]`` from what was found in its region."""
        return F.relu(self.norm3(self.out_layer(found.flatten(2))))


class NormedConvolution(nn.Module):
    """3x3 convolution, batch norm and ReLU.

    Args:
        width: channels.
        learns_statistics: the norm takes the batch's statistics in training; False: always the stored ones.
    """

    def __init__(self, width: int, learns_statistics: bool) -> None:
        super().__init__()
        self.conv = WinogradConv2d(width, width, 3, padding=1, bias=False)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width)
        self.learns_statistics = learns_statistics

    @torch.no_grad()
    def fold(self) -> None:
        """Make the norm part of the convolution: the same function up to rounding, for inference."""
        if self.norm is None:
            return
        assert self.norm.running_var is not None and self.norm.running_mean is not None
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        shift = self.norm.bias - self.norm.running_mean * scale
        self.conv.weight = nn.Parameter(self.conv.weight * scale[:, None, None, None], requires_grad=False)
        self.conv.bias = nn.Parameter(shift, requires_grad=False)
        self.norm = None

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        if norm is None:
            return self.conv.with_relu(x)
        x = self.conv(x)
        if self.learns_statistics:
            return F.relu(norm(x))
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps)
        return F.relu(x)


Convolution = TypeVar("Convolution", bound=DynamicConvolution)


class MaskHead(nn.Module, Generic[Convolution]):
    """Masks of 28x28 pixels in the queries' boxes.

    Args:
        width: channels C.
        inst_interact: the dynamic convolution, whose result it takes.
        masks: of a query: one, or one for each class.
        learns_statistics: see `NormedConvolution`.
    """

    def __init__(self, width: int, inst_interact: Convolution, masks: int = 1, learns_statistics: bool = False) -> None:
        super().__init__()
        self.inst_interact = inst_interact
        self.convs = nn.ModuleList(NormedConvolution(width, learns_statistics) for _ in range(4))
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        self.mask_logits = nn.Conv2d(width, masks, 1)

    def fold_norms(self) -> None:
        """Make every norm part of its convolution, for inference."""
        for conv in self.convs:
            conv.fold()  # type: ignore[operator]

    def forward(self, found: Tensor) -> Tensor:
        """Mask logits ``[T, N, masks, 28, 28]`` of what was found in regions ``[T, N, 196, C]``."""
        x = found.flatten(0, 1).unflatten(1, (MASK_REGION, MASK_REGION)).permute(0, 3, 1, 2)  # channels-last
        for conv in self.convs:
            x = conv(x)
        logits: Tensor = self.mask_logits(F.relu(self.upsample(x)))
        return logits.unflatten(0, found.shape[:2])


class QueryStage(nn.Module):
    """Attention among the queries, then each one's look into its boxes: classes, new boxes, new queries.

    Args:
        dimensions: of the head.
        classes: K.
        inst_interact: the dynamic convolution on regions of 7x7.
        levels_of: level of the pyramid for each box, see `box_levels`.
        change: least and largest logarithm of a change of a box's side, see `decode_deltas`.
    """

    def __init__(
        self,
        dimensions: Dimensions,
        classes: int,
        inst_interact: DynamicConvolution,
        levels_of: Callable[[Tensor], Tensor] = box_levels,
        change: tuple[float, float] = (-math.inf, LARGEST_CHANGE),
    ) -> None:
        super().__init__()
        width, heads, _, feedforward, _ = dimensions
        self.levels_of, self.change = levels_of, change
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.inst_interact = inst_interact
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.cls_module = nn.Sequential(*_hidden_layers(width, 1))
        self.reg_module = nn.Sequential(*_hidden_layers(width, 3))
        self.class_logits = nn.Linear(width, classes)
        self.bboxes_delta = nn.Linear(width, 4)

    @abstractmethod
    def attend(self, queries: Tensor) -> Tensor:
        """Queries ``[T, N, C]`` that have seen one another."""

    def find(self, attended: Tensor, regions: Tensor) -> Tensor:
        """What queries find in regions, see `DynamicConvolution`."""
        found: Tensor = self.inst_interact(attended, regions)
        return found

    def forward(self, levels: Sequence[Level], queries: Tensor, boxes: Tensor) -> StageOutputs:
        """One round of refinement.

        Args:
            levels: maps of T frames at strides 4, 8, 16 and 32, as `pyramid_roi_align` takes them.
            queries: ``[T, N, C]``; ``[1, N, C]`` where all frames have the same, and attention over time sees no other.
            boxes: ``[T, N, 4]``.
        """
        attended = self.attend(queries)
        found = self.find(attended, self.pooled(levels, boxes, REGION))
        x = self.norm2(attended + self.inst_interact.as_query(found))
        x = self.norm3(x + self.linear2(F.relu(self.linear1(x))))
        logits = self.class_logits(self.cls_module(x))
        new_boxes = decode_deltas(boxes, self.bboxes_delta(self.reg_module(x)), self.change)
        return StageOutputs(logits, new_boxes, x, attended.expand_as(x))

    def pooled(self, levels: Sequence[Level], boxes: Tensor, size: int) -> Tensor:
        """What maps of T frames hold in the boxes ``[T, N, 4]``: ``[T, N, size * size, C]``."""
        return pooled(levels, boxes, size, self.levels_of)


def _hidden_layers(width: int, count: int) -> Iterator[nn.Module]:
    for _ in range(count):
        yield from (nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU())


def pooled(
    levels: Sequence[Level], boxes: Tensor, size: int, levels_of: Callable[[Tensor], Tensor] = box_levels
) -> Tensor:
    """What maps of T frames hold in the boxes ``[T, N, 4]``: ``[T, N, size * size, C]``."""
    frames, count = boxes.shape[:2]
    index = torch.arange(frames, device=boxes.device)[:, None].expand(-1, count).flatten()
    flat = boxes.flatten(0, 1)
    return pyramid_roi_align(levels, flat, index, size, level=levels_of(flat)).unflatten(0, (frames, count))


Stage = TypeVar("Stage", bound=QueryStage)


class QueryHead(nn.Module, Generic[Stage]):
    """The stages, one after another."""

    def __init__(self, stages: Iterator[Stage]) -> None:
        super().__init__()
        self.head_series = nn.ModuleList(stages)

    def stages(self) -> list[Stage]:
        """In order."""
        return list(self.head_series)  # type: ignore[arg-type]

    def initialise(self) -> None:
        """Xavier-uniform matrices, and classes that are named once in a hundred times."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, Attention):
                nn.init.zeros_(module.out_proj.bias)
        for stage in self.stages():
            nn.init.constant_(stage.class_logits.bias, -math.log(99))

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
        return self.proposals(self.init_proposal_boxes.weight.new_tensor([width, height, width, height]))

    def proposals(self, sides: Tensor) -> tuple[Tensor, Tensor]:
        """As `learned`, of a tensor that holds width, height, width, height."""
        return self.init_proposal_features.weight, corners_from_centres(self.init_proposal_boxes.weight) * sides

    def fitted_proposals(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors to start from whose proposals are as many as ours: their first ones, or filled up with our own."""
        fitted = dict(tensors)
        for key, own in self.state_dict().items():
            x = tensors.get(key)
            if key.startswith("init_proposal_") and x is not None and x.shape[1:] == own.shape[1:]:
                fitted[key] = torch.cat((x[: len(own)].to(own), own[len(x) :]))
        return fitted
