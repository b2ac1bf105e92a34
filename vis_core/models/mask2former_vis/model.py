"""Mask2Former-VIS: what it sees in a frame, and what it finds in a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vis_core.models.mask2former_vis import decoding
from vis_core.models.mask2former_vis.decoding import QueryInstances
from vis_core.models.mask2former_vis.graphs import graphs
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork, PixelFeatures, QueryOutputs
from vis_core.models.mask2former_vis.transformer_decoder import mask_logits
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.mask_resize import MaskResize, without_duplicates
from vis_core.structures import Frame
from vis_core.system.clip import ClipModel, TensorRun
from vis_core.tracking.associator import Window


class PixelEncoder:
    """A frame's way into the network, and its masks' way back to the image's size.

    Args:
        network: in evaluation mode, on its device.
        short_side: of the network's input, pixels; None: as frames come.
        longest_side: of it at most, pixels.
    """

    def __init__(self, network: Mask2FormerVISNetwork, short_side: int | None, longest_side: int) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self.transform = ShortSideTransform(short_side, longest_side).to(self.device)
        self._resize: MaskResize | None = None

    def features(self, frame: Frame, exported: Mapping[str, TensorRun]) -> PixelFeatures:
        """What of a frame depends on it alone; exported: as of `ClipModel`."""
        image = self.transform(frame.image)
        if exported:
            mask, *levels = exported["frame"](image)
            return PixelFeatures(mask, tuple(levels))
        backbone = self.network.backbone
        image = image.to(next(backbone.parameters()).dtype)
        return self.network.pixel_decoder([x.float() for x in backbone(image)])

    def resize(self, mask_size: Sequence[int], size: tuple[int, int]) -> MaskResize:
        """From mask logits of that height and width to images of that size."""
        height, width = mask_size
        if self._resize is None or (self._resize.mask_size, self._resize.image_size) != ((height, width), size):
            padded = 4 * height, 4 * width
            self._resize = MaskResize((height, width), padded, self.transform.size(*size), size, self.device)
        return self._resize


def decoded(
    network: Mask2FormerVISNetwork, features: PixelFeatures, space_time: bool, exported: Mapping[str, TensorRun]
) -> QueryOutputs:
    """What the queries find in frames, see `TransformerDecoder.forward`; exported: as of `ClipModel`."""
    if exported:
        logits, embeddings, queries = exported["window"](features.mask, *features.levels)
        return QueryOutputs(logits, embeddings, queries)
    return network.decode(features, space_time)


class Mask2FormerVISModel(ClipModel[PixelFeatures, QueryInstances]):
    """One query is one instance in all frames of a window.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        encoder: of its frames.
        published: answer a clip as published: the ten best pairs of query and class, whatever their scores.
        score_threshold: least class probability of an instance.
        max_instances: instances of a window at most.
    """

    network: Mask2FormerVISNetwork

    def __init__(
        self,
        network: Mask2FormerVISNetwork,
        class_names: tuple[str, ...],
        encoder: PixelEncoder,
        published: bool,
        score_threshold: float,
        max_instances: int,
    ) -> None:
        self.network, self.class_names, self.encoder = network, class_names, encoder
        self.published = published
        self.score_threshold = score_threshold
        self.max_instances = max_instances

    def encode(self, frame: Frame) -> PixelFeatures:
        return self.encoder.features(frame, self.exported)

    def segment(self, clip: Sequence[PixelFeatures], window: Window) -> QueryInstances:
        features = PixelFeatures.concatenate(clip)
        out = decoded(self.network, features, True, self.exported)
        scores = decoding.class_scores(out.logits)
        resize = self.encoder.resize(features.mask.shape[2:], window.size)

        def logits_of(queries: Tensor) -> Tensor:
            return mask_logits(out.mask_embeddings[queries], features.mask)

        if self.published:
            return decoding.published_instances(scores, logits_of, resize)
        best, queries = scores.amax(1).topk(min(self.max_instances, len(scores)))
        queries = queries[best >= self.score_threshold]
        logits = logits_of(queries)
        rows = without_duplicates(logits > 0)
        return QueryInstances(scores[queries[rows]], logits[rows], resize)

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network, space_time=True)
