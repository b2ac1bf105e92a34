"""Mask2Former-VIS on a stream: a whole video as one clip, as published, or windows that share frames."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vis_core.errors import OptionError
from vis_core.models.mask2former_vis import decoding
from vis_core.models.mask2former_vis.decoding import MaskResize
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork, PixelFeatures
from vis_core.models.mask2former_vis.transformer_decoder import mask_logits
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.structures import Frame
from vis_core.system.driver import ClipInstances, ClipSegmenter


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

    def features(self, frame: Frame) -> PixelFeatures:
        """What of a frame depends on it alone."""
        backbone = self.network.backbone
        image = self.transform(frame.image).to(next(backbone.parameters()).dtype)
        return self.network.pixel_decoder([x.float() for x in backbone(image)])

    def resize(self, mask_size: Sequence[int], size: tuple[int, int]) -> MaskResize:
        """From mask logits of that height and width to images of that size."""
        height, width = mask_size
        if self._resize is None or (self._resize.mask_size, self._resize.image_size) != ((height, width), size):
            padded = 4 * height, 4 * width
            self._resize = MaskResize((height, width), padded, self.transform.size(*size), size, self.device)
        return self._resize


class Mask2FormerVIS(ClipSegmenter[PixelFeatures]):
    """Clip segmenter: one query is one instance in all frames of a window.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        short_side: of the network's input, pixels; None: as frames come.
        longest_side: of it at most, pixels.
        clip_length: frames of a window.
        stride: frames between windows.
        unbounded: wait for the end of the video and answer it as one clip, as published: the ten best pairs of query
            and class, whatever their scores. Memory grows with the video.
        score_threshold: least class probability of an instance.
        link_overlap: least IoU of the masks of an instance and the track that it continues.
        max_lost_frames: as in `TrackLifecycle`.
        max_lost_tracks: as in `TrackLifecycle`.
        max_instances: instances of a window at most.

    Raises:
        OptionError: windows would share no frame.
    """

    network: Mask2FormerVISNetwork

    def __init__(
        self,
        network: Mask2FormerVISNetwork,
        class_names: tuple[str, ...],
        short_side: int | None = 360,
        longest_side: int = 1333,
        clip_length: int = 5,
        stride: int = 1,
        unbounded: bool = False,
        score_threshold: float = 0.3,
        link_overlap: float = 0.3,
        max_lost_frames: int | None = 30,
        max_lost_tracks: int | None = 100,
        max_instances: int = 50,
    ) -> None:
        if not unbounded and stride >= clip_length:
            raise OptionError(
                f"option stride: {stride} leaves windows of {clip_length} frames without a shared one, by which tracks "
                "are handed over; choose less than clip_length"
            )
        super().__init__(None if unbounded else clip_length, stride, link_overlap, max_lost_frames, max_lost_tracks)
        self.network = network
        self.class_names = class_names
        self.unbounded = unbounded
        self.score_threshold = score_threshold
        self.max_instances = max_instances
        self.encoder = PixelEncoder(network, short_side, longest_side)

    def encode(self, frame: Frame) -> PixelFeatures:
        return self.encoder.features(frame)

    def feature_bytes(self, features: PixelFeatures) -> int:
        return features.nbytes()

    def segment_clip(self, clip: Sequence[PixelFeatures], size: tuple[int, int]) -> ClipInstances:
        features = PixelFeatures.concatenate(clip)
        out = self.network.decode(features, space_time=True)
        scores = decoding.class_scores(out.logits)
        resize = self.encoder.resize(features.mask.shape[2:], size)

        def logits_of(queries: Tensor) -> Tensor:
            return mask_logits(out.mask_embeddings[queries], features.mask)

        if self.unbounded:
            return decoding.published_instances(scores, logits_of, resize)
        best, queries = scores.amax(1).topk(min(self.max_instances, len(scores)))
        queries = queries[best >= self.score_threshold]
        logits = logits_of(queries)
        rows = decoding.without_duplicates(logits > 0)
        return decoding.clip_instances(scores[queries[rows]], logits[rows], resize)
