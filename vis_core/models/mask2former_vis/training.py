"""Mask2Former-VIS and MinVIS in training: a batch of short clips, and losses after every layer of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.data.clips import TrainingClip
from vis_core.models.mask2former_vis import losses
from vis_core.models.mask2former_vis.choices import POINTS
from vis_core.models.mask2former_vis.losses import Draw, Losses, Predictions, Targets
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.transformer_decoder import mask_logits
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.system.trainable import AllReduceSum, Trainable

_MULTIPLE_OF = 32


class Mask2FormerVISTraining(Trainable):
    """The network with its losses.

    Args:
        network: all of whose parameters learn.
        space_time: one query is one instance over the clip (Mask2Former-VIS); or every frame is a sample of its own
            (MinVIS).
        points: of a mask that are compared.
        labels_from_visible_frame: an instance that the last frame of its clip does not show keeps its label; as
            published it is taught as "no object" though its mask is taught.
    """

    network: Mask2FormerVISNetwork

    def __init__(
        self,
        network: Mask2FormerVISNetwork,
        space_time: bool,
        points: int = POINTS,
        labels_from_visible_frame: bool = False,
    ) -> None:
        super().__init__(network, IMAGENET_MEAN, IMAGENET_STD)
        self._space_time = space_time
        self._points = points
        self._labels_from_visible_frame = labels_from_visible_frame

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        *earlier, last = self.losses(clips, all_reduce_sum, self._uniform)
        parts = {"class": last.classes, "mask": last.mask, "dice": last.dice}
        for name, attribute in (("class", "classes"), ("mask", "mask"), ("dice", "dice")):
            parts[f"auxiliary_{name}"] = torch.stack([getattr(x, attribute) for x in earlier]).sum()
        return parts

    def losses(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum, draw: Draw) -> list[Losses]:
        """The weighed losses of the ten heads, from the one before the first layer to the last."""
        size = padded_size(clips)
        heads = self.predictions(self.images(clips, size))
        targets = [x for clip in clips for x in self.targets(clip, size)]
        order = [len(heads) - 1, *range(len(heads) - 1)]  # of the published draws
        found = {i: losses.head_losses(heads[i], targets, draw, all_reduce_sum, self._points) for i in order}
        return [found[i] for i in range(len(heads))]

    def images(self, clips: Sequence[TrainingClip], size: tuple[int, int]) -> Tensor:
        """Normalised images ``[B, T, 3, h, w]``, padded with zeros."""
        frames = len(clips[0].images)
        batch = self.mean.new_zeros((len(clips), frames, 3, *size))
        for b, clip in enumerate(clips):
            height, width = clip.images.shape[1:3]
            batch[b, ..., :height, :width] = self.normalised(torch.from_numpy(clip.images).to(batch.device))
        return batch

    def targets(self, clip: TrainingClip, size: tuple[int, int]) -> list[Targets]:
        """What a clip is to give: one sample of all its frames, or one of each.

        Instances are those that any frame of the clip shows.
        """
        device = self.mean.device
        shown = np.any(clip.masks, axis=(2, 3))
        chosen = np.any(shown, axis=1)
        labels = clip.labels[chosen].copy()
        if not self._labels_from_visible_frame:
            labels[~shown[chosen, -1]] = len(clip.exhaustive)
        margin = (0, size[1] - clip.images.shape[2], 0, size[0] - clip.images.shape[1])
        masks, ignored = (
            F.pad(torch.from_numpy(np.ascontiguousarray(x)).to(device).float(), margin)
            for x in (clip.masks[chosen], clip.ignore_masks)
        )
        frames = len(clip.images)
        parts = [slice(0, frames)] if self._space_time else [slice(t, t + 1) for t in range(frames)]
        return [
            Targets(
                labels=torch.from_numpy(labels).to(device),
                masks=masks[:, part],
                open_classes=torch.from_numpy(~clip.exhaustive).to(device),
                ignore_masks=ignored[:, part],
                ignore_labels=torch.from_numpy(clip.ignore_labels).to(device),
            )
            for part in parts
        ]

    def predictions(self, images: Tensor) -> list[Predictions]:
        """What the heads say of clips of images ``[B, T, 3, h, w]``, from the one before the first layer to the last.

        In MinVIS every frame counts as a clip.
        """
        batch, frames = images.shape[:2]
        features = self.network.pixel_features(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        if not self._space_time:
            out = self.network.decode(features, space_time=False, auxiliary=True)
            return [
                Predictions(
                    head.logits, torch.einsum("tqc,tchw->tqhw", head.mask_embeddings, features.mask)[:, :, None]
                )
                for head in (*out.auxiliary, out)
            ]
        clips = []
        for b in range(batch):
            part = features[b * frames : (b + 1) * frames]
            out = self.network.decode(part, space_time=True, auxiliary=True)
            clips.append(
                [(head.logits, mask_logits(head.mask_embeddings, part.mask)) for head in (*out.auxiliary, out)]
            )
        return [Predictions(*map(torch.stack, zip(*head))) for head in zip(*clips)]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = {
            "backbone": [],
            "backbone_norms": [],
            "heads": [],
            "norms_and_embeddings": [],
        }
        free = {
            id(p)
            for module in self.network.modules()
            if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.Embedding))
            for p in module.parameters(recurse=False)
        }
        for name, p in self.network.named_parameters():
            if p.requires_grad:
                decays = id(p) not in free and not name.endswith("relative_position_bias_table")
                if name.startswith("backbone."):
                    groups["backbone" if decays else "backbone_norms"].append(p)
                else:
                    groups["heads" if decays else "norms_and_embeddings"].append(p)
        return groups

    def _uniform(self, rows: int, count: int) -> Tensor:
        return torch.rand((rows, count, 2), device=self.mean.device)


def padded_size(clips: Sequence[TrainingClip]) -> tuple[int, int]:
    """Height and width of the largest clip, each rounded up to a multiple of 32."""
    height, width = (max(clip.images.shape[axis] for clip in clips) for axis in (1, 2))
    return -(-height // _MULTIPLE_OF) * _MULTIPLE_OF, -(-width // _MULTIPLE_OF) * _MULTIPLE_OF
