"""GMP-VIS frame by frame: a deformable transformer that finds instances, their masks, and what they are matched by.

The paper (CVPR 2023) says that there is one, and no more; this is Deformable DETR's (ICLR 2021) with the mask branch of
VisTR (CVPR 2021), and all sizes are a choice of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vis_core.checkpoints import shape_of
from vis_core.errors import CheckpointError
from vis_core.models.gmp_vis import deformable_transformer
from vis_core.models.gmp_vis.deformable_transformer import Decoder, Encoder
from vis_core.models.gmp_vis.mask_head import BoxAttention, MaskHead, VideoMaskHead
from vis_core.models.gmp_vis.memory_attention import MatchingEmbedding
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.deformable_attention import Sizes
from vis_core.nn.position_codes import image_code
from vis_core.nn.tracing import kept

LEVELS = 4
_GROUPS = 32


class Dimensions(NamedTuple):
    """Sizes of the network.

    Attributes:
        queries: instances of a frame at most.
        width: channels of a query.
        hidden: of the feed-forward parts.
        layers: of the encoder, and of the decoder.
        heads: of the attention.
        points: of a head in a level.
        embedding: channels that instances are matched by.
    """

    queries: int = 100
    width: int = 256
    hidden: int = 1024
    layers: int = 6
    heads: int = 8
    points: int = 4
    embedding: int = 64


DEFAULT = Dimensions()


@dataclass(frozen=True, eq=False)
class FrameOutputs:
    """What the transformer says of B frames.

    Attributes:
        queries: of each of L layers ``[L, B, Q, C]``.
        logits: of the classes, the last one nothing, ``[L, B, Q, K + 1]``.
        boxes: ``[L, B, Q, 4]``: x and y of the centre, width, height, 0..1.
        memory: pixels at stride 32 as the encoder leaves them ``[B, C, h, w]``.
    """

    queries: Tensor
    logits: Tensor
    boxes: Tensor
    memory: Tensor


class MaskParts(NamedTuple):
    """What masks of T frames are made of, whatever the query.

    Attributes:
        common: the memory's part of the mask head's first convolution ``[T, D, h, w]``.
        adapted: maps of the backbone at strides 16, 8 and 4, as wide as what they are added to.
    """

    common: Tensor
    adapted: tuple[Tensor, Tensor, Tensor]


class OnlineNetwork(nn.Module):
    """Instances of single frames, and what they are matched by from frame to frame.

    Args:
        backbone: its depth, of a ResNet; or any that gives maps at strides 4, 8, 16 and 32 and knows its ``channels``.
        classes: number of classes.
        temporal: whether what instances are matched by knows what was remembered of the tracks.
        sizes: of the network.
    """

    def __init__(
        self, backbone: int | nn.Module, classes: int, temporal: bool = False, sizes: Dimensions = DEFAULT
    ) -> None:
        super().__init__()
        self.classes, self.sizes = classes, sizes
        self.backbone = ResNet(backbone) if isinstance(backbone, int) else backbone
        channels: Sequence[int] = self.backbone.channels  # type: ignore[assignment]
        width, heads = sizes.width, sizes.heads
        self.input_proj = nn.ModuleList(
            [_projection(inputs, width, 1) for inputs in channels[1:]] + [_projection(channels[-1], width, 3)]
        )
        self.level_embed = nn.Parameter(torch.zeros(LEVELS, width))
        self.query_embed = nn.Embedding(sizes.queries, 2 * width)
        self.reference_points = nn.Linear(width, 2)
        self.encoder = Encoder(width, sizes.hidden, sizes.layers, LEVELS, heads, sizes.points)
        self.decoder = Decoder(width, sizes.hidden, sizes.layers, LEVELS, heads, sizes.points)
        self.class_embed = nn.Linear(width, classes + 1)
        self.bbox_attention = BoxAttention(width, heads)
        self.mask_head = MaskHead(width, heads, channels[2::-1])
        self.insmask_head = VideoMaskHead(self.mask_head.channels)
        self.matching = MatchingEmbedding(width, sizes.embedding, temporal, sizes.hidden, heads)

    def initialise(self) -> None:
        """First weights, but for the backbone's; those of the mask branch are as it is made."""
        deformable_transformer.initialise(self.encoder, self.decoder)
        nn.init.normal_(self.level_embed)
        for name, parameter in self.input_proj.named_parameters():
            if name.endswith("0.weight"):
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("0.bias"):
                nn.init.zeros_(parameter)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        self.matching.initialise()

    def run_in(self, kind: torch.dtype) -> None:
        """Let the backbone compute in a type; all else keeps its own."""
        self.backbone.to(kind)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's, float32, at strides 4, 8, 16 and 32, of normalised images ``[B, 3, H, W]``."""
        return [m.float() for m in self.backbone(images)]

    def frames(self, maps: Sequence[Tensor]) -> FrameOutputs:
        """What the transformer says of frames, each by itself."""
        *fine, coarsest = self.input_proj
        levels = [projection(m) for projection, m in zip(fine, maps[1:])] + [coarsest(maps[-1])]
        sizes = tuple((m.shape[2], m.shape[3]) for m in levels)
        counts = [h * w for h, w in sizes]
        embedding = torch.cat([e.expand(n, -1) for e, n in zip(self.level_embed, counts)])
        positions = _codes(sizes, self.sizes.width, levels[0].device) + embedding
        pixels = self.encoder(torch.cat([m.flatten(2).transpose(1, 2) for m in levels], 1), positions, sizes)
        places, queries = self.query_embed.weight.expand(len(pixels), -1, -1).chunk(2, 2)
        references = self.reference_points(places).sigmoid()
        out = self.decoder(queries, places, references, pixels, sizes)
        before, count = sum(counts[: LEVELS - 2]), counts[LEVELS - 2]
        memory = pixels[:, before : before + count].transpose(1, 2).unflatten(2, sizes[LEVELS - 2])
        return FrameOutputs(out.queries, self.class_embed(out.queries), out.boxes, memory)

    def mask_parts(self, memory: Tensor, maps: Sequence[Tensor]) -> MaskParts:
        """What masks of frames are made of; arguments as of `FrameOutputs` and `maps`."""
        return MaskParts(self.mask_head.of_memory(memory), self.mask_head.adapted(maps[2::-1]))

    def masks(self, queries: Tensor, memory: Tensor, parts: MaskParts) -> Tensor:
        """Mask logits of queries of T frames at stride 4, ``[T, N, H, W]``.

        Args:
            queries: of the last layer ``[T, N, C]``.
            memory: ``[T, C, h, w]``.
            parts: of the same frames.
        """
        if not queries.shape[1]:
            return parts.adapted[2].new_zeros((len(queries), 0, *parts.adapted[2].shape[2:]))
        features = self.mask_head.features(parts.common, self.bbox_attention(queries, memory), parts.adapted)
        logits = self.insmask_head(features.flatten(0, 1)[:, :, None])[:, 0]
        return logits.unflatten(0, queries.shape[:2])


def _projection(inputs: int, outputs: int, size: int) -> nn.Sequential:
    """To the width of the transformer; of size 3 it halves the map."""
    convolution = nn.Conv2d(inputs, outputs, size, stride=1 if size == 1 else 2, padding=size // 2)
    return nn.Sequential(convolution, nn.GroupNorm(_GROUPS, outputs))


@kept(8)
def _codes(sizes: Sizes, width: int, device: torch.device) -> Tensor:
    """Position codes of all pixels of all levels, ``[S, width]``."""
    return torch.cat([image_code(height, width_, width, device, centred=True) for height, width_ in sizes])


def arguments_of(tensors: Mapping[str, Tensor]) -> tuple[int, int, bool, Dimensions]:
    """Depth of the ResNet, classes, temporal and sizes of the network that tensors under our names are of.

    Raises:
        CheckpointError: a tensor that tells them is missing or not of a possible shape.
    """

    queries, width = shape_of(tensors, "query_embed.weight", 2)[0], shape_of(tensors, "class_embed.weight", 2)[1]
    classes = shape_of(tensors, "class_embed.weight", 2)[0] - 1
    heads = shape_of(tensors, "mask_head.lay1.weight", 4)[0] - width
    places, _ = shape_of(tensors, "encoder.layers.0.attention.attention_weights.weight", 2)
    if classes < 1 or heads < 1 or width % heads or width % _GROUPS or places % (heads * LEVELS):
        raise CheckpointError(
            f"class_embed.weight, mask_head.lay1.weight and encoder.layers.0.attention.attention_weights.weight, which "
            f"tell the sizes of the network, say {classes} classes, width {width}, {heads} heads and {places} places "
            "that they look at; these do not belong together"
        )
    numbers = [int(found[1]) for key in tensors if (found := re.match(r"decoder\.layers\.(\d{1,2})\.", key))]
    sizes = Dimensions(
        queries=queries,
        width=width,
        hidden=shape_of(tensors, "encoder.layers.0.linear1.weight", 2)[0],
        layers=max(numbers, default=0) + 1,
        heads=heads,
        points=places // (heads * LEVELS),
        embedding=shape_of(tensors, "matching.projection.weight", 2)[0],
    )
    temporal = any(key.startswith("matching.aggregation.") for key in tensors)
    depth = 101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50
    return depth, classes, temporal, sizes
