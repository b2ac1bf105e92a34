"""Sparse R-CNN (Sun et al., CVPR 2021) on images: what EfficientVIS stands on, made of the same modules.

Its published files detect here as they do in the published code, which holds backbone, pyramid, pooling, attention and
dynamic convolutions to the published numbers. The catalogue does not have it: it knows no masks and no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.checkpoints import load_tensors
from vis_core.models.efficientvis import published
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.region_queries import StageOutputs

_MULTIPLE_OF = 32


class Detections(NamedTuple):
    """What was found in an image, the highest score first; a box may come under several labels.

    Attributes:
        scores: ``[n]``, 0..1.
        labels: int64 ``[n]``.
        boxes: ``[n, 4]``, x1 y1 x2 y2 in pixels of the image, within it.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor


class Batch(NamedTuple):
    """Images as the network takes them.

    Attributes:
        images: normalised ``[B, 3, H, W]``, padded to the largest and to a multiple of 32.
        sizes: height and width of each without its padding.
        original_sizes: of each as it came.
    """

    images: Tensor
    sizes: Sequence[tuple[int, int]]
    original_sizes: Sequence[tuple[int, int]]


class SparseRCNN:
    """Boxes of a batch of images: each image is a frame of which the others know nothing.

    Args:
        tensors: under our names, as `published.convert` gives them.
        short_side: of the network's images, pixels.
        longest_side: of them at most, pixels.

    Raises:
        CheckpointError: the tensors do not fit.
    """

    def __init__(self, tensors: Mapping[str, Tensor], short_side: int = 800, longest_side: int = 1333) -> None:
        self.network = EfficientVISNetwork(
            *published.sizes(tensors), tracklets=False, attention="spatial", dynamic_convolution="still"
        )
        load_tensors(self.network, tensors, "Sparse R-CNN")
        self.network.eval().requires_grad_(False)
        self.transform = ShortSideTransform(short_side, longest_side, multiple_of=1)

    @torch.inference_mode()
    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """What is found in RGB images uint8 ``[H, W, 3]`` of any sizes."""
        batch = self.batch(images)
        return self.detections(self.stages(self.network.maps(batch.images), batch)[-1], batch)

    def batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> Batch:
        """RGB images uint8 ``[H, W, 3]``, resized and padded together."""
        resized = [self.transform(image) for image in images]
        sizes = [(x.shape[2], x.shape[3]) for x in resized]
        height, width = (-(-max(side) // _MULTIPLE_OF) * _MULTIPLE_OF for side in zip(*sizes))
        padded = [F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2])) for x in resized]
        original = [(image.shape[0], image.shape[1]) for image in images]
        return Batch(torch.cat(padded).contiguous(memory_format=torch.channels_last), sizes, original)

    def stages(self, levels: Sequence[Tensor], batch: Batch) -> list[StageOutputs]:
        """What each stage says; the proposals of each image are relative to its own size without padding."""
        queries, boxes = zip(*(self.network.learned(size) for size in batch.sizes))
        outputs: list[StageOutputs] = self.network.head(levels, torch.stack(queries), torch.stack(boxes))
        return outputs

    def detections(self, out: StageOutputs, batch: Batch) -> list[Detections]:
        """The N best of the N*K scores of each image, but for boxes that lie outside of it."""
        found = []
        for logits, boxes, size, original in zip(out.logits, out.boxes, batch.sizes, batch.original_sizes):
            scores, places = logits.sigmoid().flatten().topk(len(boxes))
            rows, labels = places // logits.shape[1], places % logits.shape[1]
            sides = boxes.new_tensor([original[1], original[0]] * 2)
            scaled = boxes[rows] * (sides / boxes.new_tensor([size[1], size[0]] * 2))
            clipped = torch.minimum(scaled.clamp(min=0), sides)
            kept = (clipped[:, 2:] > clipped[:, :2]).all(1)
            found.append(Detections(scores[kept], labels[kept], clipped[kept]))
        return found
