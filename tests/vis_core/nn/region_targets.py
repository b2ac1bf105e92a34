"""Made-up instances, answers of queries and training clips, for tests of what is learned from them."""

import numpy as np
import torch

from vis_core.data.clips import TrainingClip
from vis_core.nn.region_losses import Targets, mask_boxes
from vis_core.nn.region_queries import StageOutputs

LEFT, RIGHT, MIDDLE, NOWHERE = [0, 0, 10, 10], [30, 10, 44, 30], [12, 8, 28, 24], [0, 0, 0, 0]


def targets_of(labels, boxes, masks, classes, present=None, **other):
    labels, boxes, masks = map(torch.as_tensor, (labels, boxes, masks))
    parts = {
        "labels": labels,
        "present": masks.flatten(2).any(2) if present is None else torch.as_tensor(present),
        "boxes": boxes,
        "masks": masks,
        "open_classes": torch.zeros(classes, dtype=torch.bool),
        "ignore_masks": torch.zeros((0, *masks.shape[1:]), dtype=torch.bool),
        "ignore_labels": torch.zeros(0, dtype=torch.int64),
    }
    return Targets(**(parts | other))


def box_masks(boxes, size=(32, 48)):
    """Rectangles ``[G, T, H, W]`` of boxes ``[G, T, 4]`` of whole numbers."""
    boxes = torch.as_tensor(boxes)
    masks = torch.zeros((*boxes.shape[:2], *size), dtype=torch.bool)
    for (g, t), (x1, y1, x2, y2) in zip(np.ndindex(*boxes.shape[:2]), boxes.flatten(0, 1).tolist()):
        masks[g, t, y1:y2, x1:x2] = True
    return masks


def wanted_of(labels, boxes, classes=3, **other):
    """Targets that fill their boxes."""
    masks = box_masks(boxes) if len(labels) else torch.zeros((0, 2, 32, 48), dtype=torch.bool)
    labels = torch.tensor(labels, dtype=torch.int64)
    return targets_of(labels, mask_boxes(masks)[1], masks, classes, **other)


def outputs_of(boxes, logits=None, classes=3):
    """A stage that gives boxes ``[T, N, 4]``."""
    boxes = torch.as_tensor(boxes).float()
    if logits is None:
        logits = torch.full((*boxes.shape[:2], classes), -20.0)
    nothing = torch.zeros((*boxes.shape[:2], 4))
    return StageOutputs(logits, boxes, nothing, nothing)


def clip_of(present=((1, 1, 1, 1), (1, 1, 0, 0), (0, 0, 1, 1)), size=(40, 50), **other):
    """Instances of classes 0, 1, 2 in the frames where they are present, of a size that needs padding."""
    present = np.array(present, bool)
    masks = np.zeros((*present.shape, *size), bool)
    for n, t in np.argwhere(present):
        masks[n, t, 10 * n : 10 * n + 9, 5 + t : 30 + t] = True
    images = np.random.default_rng(0).integers(0, 256, (present.shape[1], *size, 3), dtype=np.uint8)
    parts = {
        "exhaustive": np.ones(3, bool),
        "ignore_masks": np.zeros((0, *images.shape[:3]), bool),
        "ignore_labels": np.zeros(0, np.int64),
    }
    return TrainingClip(images=images, masks=masks, labels=np.arange(len(present)) % 3, **(parts | other))
