"""Video K-Net's clip system on a stream: kernels of each frame, kept, and those of a window, refined from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.models.video_knet.graphs import clip_graphs
from vis_core.models.video_knet.kernels import best_pairs, filtered
from vis_core.models.video_knet.network import ClipNetwork, FrameKernels
from vis_core.models.video_knet.semantic_pyramid import doubled
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import WithinTransform
from vis_core.nn.mask_resize import MaskResize, without_duplicates
from vis_core.structures import Frame
from vis_core.system.clip import ClipInstances, ClipModel, size_of
from vis_core.tracking.associator import Window

PUBLISHED_RESULTS = 10
_STRIDE = 8  # of mask logits


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """What of a frame depends on it alone."""

    kernels: FrameKernels

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(*self.kernels)


@dataclass(frozen=True, eq=False)
class KernelInstances(ClipInstances):
    """Chosen kernels as the instances of a clip, which are there in the frames where their masks are not empty.

    Attributes:
        probabilities: of the classes ``[N, K]``.
        mask_logits: ``[N, T, h, w]``, at an eighth of the network's image.
        resize: of masks at a quarter of it.
    """

    probabilities: Tensor
    mask_logits: Tensor
    resize: MaskResize

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        return np.asarray(self.probabilities.cpu().numpy())

    @cached_property
    def coarse_masks(self) -> Tensor:
        """Bool ``[N, T, h, w]``, by which instances are linked."""
        return self.mask_logits > 0

    @cached_property
    def _scores(self) -> npt.NDArray[np.float32]:
        there = self.coarse_masks.flatten(2).any(2)
        return np.asarray((self.probabilities.amax(1)[:, None] * there).cpu().numpy())

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        frame: npt.NDArray[np.float32] = self._scores[:, t]
        return frame

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        # What is resized are probabilities; weights of a resize sum to 1, so that more than a half is more than 0.
        return self.resize(doubled(self.mask_logits[list(rows), t][None])[0].sigmoid() - 0.5) if rows else []


class VideoKNetModel(ClipModel[EncodedFrame, KernelInstances]):
    """One kernel is one instance in all frames of a window.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        input_size: shorter side of the network's image, and its longer side, at most, pixels.
        published: answer a clip as published: the ten best pairs of kernel and class, whatever their scores.
        score_threshold: least class probability of an instance.
        max_instances: instances of a window at most.
    """

    network: ClipNetwork

    def __init__(
        self,
        network: ClipNetwork,
        class_names: tuple[str, ...],
        input_size: tuple[int, int],
        published: bool,
        score_threshold: float,
        max_instances: int,
    ) -> None:
        self.network, self.class_names = network, class_names
        self.published, self.score_threshold, self.max_instances = published, score_threshold, max_instances
        self.device = next(network.parameters()).device
        self.transform = WithinTransform(*input_size, rounded=False).to(self.device)
        self._resize: MaskResize | None = None

    def encode(self, frame: Frame) -> EncodedFrame:
        image = self.transform(frame.image)
        if self.exported:
            return EncodedFrame(FrameKernels(*self.exported["frame"](image)))
        image = image.to(next(self.network.backbone.parameters()).dtype)
        return EncodedFrame(self.network.frames(self.network.maps(image)))

    def segment(self, clip: Sequence[EncodedFrame], window: Window) -> KernelInstances:
        frames = [frame.kernels for frame in clip]
        logits, masks_of = self._exported_answers(frames) if self.exported else self._answers(frames)
        probabilities = logits[0].sigmoid()
        resize = self._resized(clip[0].kernels.features.shape[2:], window.size)
        if self.published:
            scores, labels, chosen = best_pairs(probabilities, PUBLISHED_RESULTS)
            one_label = torch.zeros_like(probabilities[chosen])
            one_label[torch.arange(len(labels), device=labels.device), labels] = scores
            return KernelInstances(one_label, masks_of(chosen), resize)
        best, chosen = probabilities.amax(1).sort(descending=True, stable=True)
        chosen = chosen[best >= self.score_threshold][: self.max_instances]
        masks = masks_of(chosen)
        rows = without_duplicates(masks > 0)
        return KernelInstances(probabilities[chosen[rows]], masks[rows], resize)

    def _answers(self, frames: Sequence[FrameKernels]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Class logits ``[1, N, K]``, and what gives the mask logits ``[n, T, h, w]`` of some of the N kernels."""
        out = self.network.clip(frames)[-1]
        assert out.logits is not None
        kernels = self.network.frames_of_clip(frames, out)
        return out.logits, lambda chosen: self.network.clip_masks(frames, kernels[:, chosen]).transpose(0, 1)

    def _exported_answers(self, frames: Sequence[FrameKernels]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As `_answers`."""
        features, *kernels = (torch.cat(x) for x in zip(*frames))
        logits, filters, biases = self.exported["window"](features, *kernels)
        return logits, lambda chosen: filtered(features, filters[:, chosen], biases[:, chosen]).transpose(0, 1)

    def graphs(self) -> Mapping[str, Graph]:
        return clip_graphs(self.network)

    def _resized(self, mask_size: Sequence[int], size: tuple[int, int]) -> MaskResize:
        quarter = 2 * mask_size[0], 2 * mask_size[1]
        if self._resize is None or (self._resize.mask_size, self._resize.image_size) != (quarter, size):
            padded = _STRIDE * mask_size[0], _STRIDE * mask_size[1]
            self._resize = MaskResize(quarter, padded, self.transform.size(*size), size, self.device)
        return self._resize
