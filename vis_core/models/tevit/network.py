"""The network of TeViT (Yang et al., CVPR 2022): QueryInst with attention over the frames of a clip.

Its heads and pyramid are those of `vis_core.nn.region_queries`. In a backbone with messengers a clip's frames see one
another already (`msgshift`); the others look at each frame alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.backbones.swin import SwinTransformer
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
from vis_core.nn.roi_align import Level, pyramid_roi_align

Backbone = MsgShifT | ResNet | SwinTransformer
_LARGEST_GROWTH = math.log(1000 / 16)
_FINEST_SIDE = 56  # of a box on the level of stride 4, pixels; half of the least on that of stride 8


def box_levels(boxes: Tensor) -> Tensor:
    """Position of the level of a pyramid for each box, int64 ``[R]``; see `vis_core.nn.roi_align.box_levels`.

    Args:
        boxes: ``[R, 4]``, x1 y1 x2 y2 in pixels of the image.
    """
    width, height = (boxes.detach().float()[:, 2:] - boxes.detach().float()[:, :2]).clamp(min=0).unbind(1)
    return torch.log2((width * height).sqrt() / _FINEST_SIDE + 1e-6).floor().nan_to_num(0).clamp(0, 3).long()


class Stage(QueryStage):
    """A stage of QueryInst, whose attention goes over the queries of a frame and then over the frames of a query.

    Args:
        dimensions: of the head.
        classes: K.
        query_interaction: one of `choices.INTERACTIONS`; joint: over all queries of all frames at once.
    """

    def __init__(self, dimensions: Dimensions, classes: int, query_interaction: str = "spatiotemporal") -> None:
        width, dynamic = dimensions.width, dimensions.dynamic
        interact = DynamicConvolution(width, dynamic, REGION * REGION)
        super().__init__(dimensions, classes, interact, box_levels, (-_LARGEST_GROWTH, _LARGEST_GROWTH))
        self.query_interaction = query_interaction
        self.mask_head = MaskHead(width, DynamicConvolution(width, dynamic), classes, learns_statistics=True)

    def attend(self, queries: Tensor) -> Tensor:
        if self.query_interaction == "joint":
            return self._attended(queries.flatten(0, 1)[None])[0].unflatten(0, queries.shape[:2])
        queries = self._attended(queries)
        if self.query_interaction == "spatial":
            return queries
        return self._attended(queries.transpose(0, 1)).transpose(0, 1)

    def _attended(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm1(x + self.self_attn(x, x, x))
        return normed

    def pooled(self, levels: Sequence[Level], boxes: Tensor, size: int) -> Tensor:
        return super().pooled(levels, _with_sides(boxes), size)

    def masks(self, levels: Sequence[Level], out: StageOutputs, rows: Sequence[int] | Tensor) -> Tensor:
        """Mask logits ``[T, n, K, 28, 28]`` of some queries in their new boxes."""
        return self.masks_of(levels, out.boxes[:, rows].detach(), out.attended[:, rows])

    def masks_of(self, levels: Sequence[Level], boxes: Tensor, attended: Tensor) -> Tensor:
        """As `masks`, of queries by their boxes ``[T, n, 4]`` and after attention ``[T, n, C]``."""
        regions = self.pooled(levels, boxes, MASK_REGION)
        logits: Tensor = self.mask_head(self.mask_head.inst_interact(attended, regions))
        return logits

    def single_masks(self, levels: Sequence[Level], frames: Tensor, boxes: Tensor, attended: Tensor) -> Tensor:
        """Mask logits ``[P, K, 28, 28]`` of queries of one frame each.

        Args:
            levels: maps of all frames.
            frames: of the queries, int64 ``[P]``.
            boxes: their new boxes ``[P, 4]``.
            attended: the queries after attention ``[P, C]``.
        """
        boxes = _with_sides(boxes.detach())
        regions = pyramid_roi_align(levels, boxes, frames, MASK_REGION, level=box_levels(boxes))
        logits: Tensor = self.mask_head(self.mask_head.inst_interact(attended[None], regions[None]))
        return logits[0]


def _with_sides(boxes: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` without negative sides, which learned ones may have: those are taken as 0."""
    first, second = boxes.split(2, -1)
    return torch.cat((first, torch.maximum(first, second)), -1)


class TeViTNetwork(Proposals):
    """All modules of TeViT.

    Args:
        backbone: with four maps.
        classes: K.
        queries: N.
        dimensions: of the head.
        query_interaction: see `Stage`.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int = 40,
        queries: int = 100,
        dimensions: Dimensions = PUBLISHED,
        query_interaction: str = "spatiotemporal",
    ) -> None:
        super().__init__(queries, dimensions.width)
        self.classes, self.queries = classes, queries
        self.backbone = backbone
        self.pyramid = FeaturePyramid(backbone.channels, dimensions.width)
        self.head = QueryHead(Stage(dimensions, classes, query_interaction) for _ in range(dimensions.stages))

    def initialise(self) -> None:
        """Weights as the published training starts, but for what comes from image models."""
        super().initialise()
        if not isinstance(self.backbone, ResNet):
            self.backbone.initialise()
        for parameter in self.pyramid.parameters():
            nn.init.xavier_uniform_(parameter) if parameter.dim() > 1 else nn.init.zeros_(parameter)
        self.head.initialise()
        for stage in self.head.stages():
            nn.init.zeros_(stage.mask_head.mask_logits.bias)  # type: ignore[arg-type]

    def backbone_maps(self, images: Tensor, frames: int) -> list[Tensor]:
        """Maps of the backbone of clips of so many frames; images ``[B * T, 3, H, W]``, clip by clip."""
        maps: list[Tensor]
        maps = self.backbone(images, frames) if isinstance(self.backbone, MsgShifT) else self.backbone(images)
        return maps

    def levels(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid ``[B, C, h, w]`` at strides 4, 8, 16 and 32 of the backbone's maps."""
        kind = next(self.pyramid.parameters()).dtype
        levels: list[Tensor] = self.pyramid([x.to(kind) for x in maps])
        return levels
