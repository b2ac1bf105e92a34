"""The network of Mask2Former-VIS (Cheng et al., arXiv 2112.10764) and of MinVIS (Huang et al., NeurIPS 2022).

Backbone and pixel decoder see one frame; the decoder sees a clip (Mask2Former-VIS) or, again, one frame (MinVIS).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vis_core.models.mask2former_vis.transformer_decoder import QueryOutputs, TransformerDecoder
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.backbones.swin import VARIANTS, SwinTransformer
from vis_core.nn.pixel_decoder import PixelDecoder, PixelFeatures

__all__ = ["Mask2FormerVISNetwork", "PixelFeatures", "QueryOutputs"]


class Mask2FormerVISNetwork(nn.Module):
    """All modules of both systems, which have the same parameters.

    Args:
        backbone: one of `choices.BACKBONES`, or a module with ``channels`` that gives maps at strides 4, 8, 16 and 32.
        classes: number of categories.
        queries: number of queries.
        width: channels of both decoders, a multiple of 32; 256 in the paper.
        encoder_layers: of the pixel decoder, 6 in the paper.
        decoder_layers: of the queries' decoder, 9 in the paper.
        hidden: channels of the feed-forward parts of encoder and decoder.
    """

    backbone: Any  # a module with `channels`

    def __init__(
        self,
        backbone: str | nn.Module,
        classes: int,
        queries: int = 100,
        width: int = 256,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        hidden: tuple[int, int] = (1024, 2048),
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone) if isinstance(backbone, str) else backbone
        self.classes, self.queries = classes, queries
        self.pixel_decoder = PixelDecoder(self.backbone.channels, width, encoder_layers, hidden[0])
        self.decoder = TransformerDecoder(classes, queries, width, decoder_layers, hidden[1])

    def initialise(self) -> None:
        """Weights as the published training starts, but for the backbone's, which come from elsewhere."""
        if isinstance(self.backbone, SwinTransformer):
            self.backbone.initialise()
        self.pixel_decoder.initialise()
        self.decoder.initialise()

    def pixel_features(self, images: Tensor) -> PixelFeatures:
        """What of each frame does not depend on the others.

        Args:
            images: normalised ``[T, 3, H, W]``, height and width multiples of 32.
        """
        features: PixelFeatures = self.pixel_decoder(self.backbone(images))
        return features

    def decode(self, features: PixelFeatures, space_time: bool, auxiliary: bool = False) -> QueryOutputs:
        """What the queries find in frames; see `TransformerDecoder.forward`."""
        outputs: QueryOutputs = self.decoder(features, space_time, auxiliary)
        return outputs


def build_backbone(name: str) -> ResNet | SwinTransformer:
    """One of `choices.BACKBONES`."""
    kind, _, variant = name.partition("_")
    return SwinTransformer(VARIANTS[variant]) if kind == "swin" else ResNet(int(name.removeprefix("resnet")))
