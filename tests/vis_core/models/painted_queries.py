"""A stand-in for the network of Mask2Former-VIS and MinVIS that sees what is painted: each grey value is an object."""

import numpy as np
import torch
from torch import nn

from vis_core.models.mask2former_vis.network import PixelFeatures, QueryOutputs
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.structures import Frame

SIZE = (64, 96)
CLASSES = ("small", "large")
VALUES = 256


def picture(index, *objects):
    """A frame with a square for each ``(value, left)``; the later one lies on top."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for value, left in objects:
        image[16:48, left : left + 24] = value
    return Frame(image, stamp=10 * index, index=index)


class PaintedQueries(nn.Module):
    """Of an object of value v: class 0 below 128, else class 1; embedding: one for every value.

    Which query finds an object changes from call to call, as it may in the true network.

    Args:
        queries: their number; those that find nothing say "no object".
        probability: of the class that is named.
    """

    def __init__(self, queries=12, probability=0.9):
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 1, bias=False)
        self.backbone.weight = nn.Parameter(torch.eye(3)[:, :, None, None])
        self.queries, self.probability = queries, probability
        self.calls = {"pixel_features": 0, "frames": []}

    def pixel_decoder(self, images):
        images = torch.stack(images)
        self.calls["pixel_features"] += len(images)
        mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        values = (images * std + mean)[:, 0, 2::4, 2::4].round().long().clamp(0, VALUES - 1)
        values[values == round(IMAGENET_MEAN[0])] = 0  # the padding
        mask = torch.nn.functional.one_hot(values, VALUES).permute(0, 3, 1, 2).float() * 2 - 1
        return PixelFeatures(mask, (mask[:, :, ::8, ::8], mask[:, :, ::4, ::4], mask[:, :, ::2, ::2]))

    def decode(self, features, space_time, auxiliary=False):
        self.calls["frames"].append(len(features.mask))
        groups = [features.mask] if space_time else [m[None] for m in features.mask]
        outputs = [self._clip(m) for m in groups]
        parts = [torch.stack(x) for x in zip(*outputs)]
        return QueryOutputs(*(x[0] for x in parts) if space_time else parts)

    def _clip(self, mask):
        values = [v for v in range(1, VALUES) if bool((mask[:, v] > 0).any())]
        order = torch.randperm(self.queries, generator=torch.Generator().manual_seed(len(self.calls["frames"])))
        likely, rest = np.log(self.probability), np.log((1 - self.probability) / 2)
        logits = torch.full((self.queries, 3), rest)
        logits[:, 2] = likely
        embeddings, objects = torch.zeros(self.queries, VALUES), torch.zeros(self.queries, VALUES)
        embeddings[:, 0] = 1
        objects[:, 0] = -1
        for query, value in zip(order, values):
            logits[query] = rest
            logits[query, int(value >= 128)] = likely
            embeddings[query] = objects[query] = torch.eye(VALUES)[value]
        return logits, objects, embeddings
