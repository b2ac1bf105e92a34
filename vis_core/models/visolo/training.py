"""VISOLO in training: a batch of short clips through the network, every frame helped by the others of its clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from vis_core.data.clips import TrainingClip
from vis_core.models.visolo import losses
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.shipped import GRID_KEY
from vis_core.system.trainable import AllReduceSum, Trainable

MASK_WEIGHT = 3.0


class VISOLOTraining(Trainable):
    """The network with its losses.

    Args:
        network: whose parameters learn, but for those of `frozen`.
        mean: of each channel of the images, in 0..255.
        std: of each channel, in 0..255.
        frozen: modules that do not learn.
        published_extents: see `losses.grid_instances`.
        max_mask_cells: see `losses.mask_loss`.
        mask_stride: see `losses.mask_loss`.
        other_instance_weight: see `losses.mask_loss`.
        self_memory_probability: share of the clips in which a frame reads itself too, as the first frame of a stream
            does; the published training has 0.
        tracking_weight: of the tracking loss.
    """

    network: VISOLONetwork

    def __init__(
        self,
        network: VISOLONetwork,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        frozen: Sequence[nn.Module] = (),
        published_extents: bool = True,
        max_mask_cells: int | None = None,
        mask_stride: int = 1,
        other_instance_weight: float = 1.0,
        self_memory_probability: float = 0.0,
        tracking_weight: float = 1.0,
    ) -> None:
        super().__init__(network, mean, std, frozen)
        self._published_extents = published_extents
        self._max_mask_cells, self._mask_stride = max_mask_cells, mask_stride
        self._other_instance_weight = other_instance_weight
        self._self_memory_probability, self._tracking_weight = self_memory_probability, tracking_weight

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        device = self.mean.device
        images = torch.from_numpy(np.stack([clip.images for clip in clips])).to(device)
        out = self.outputs(images, [self._reads_itself(clip) for clip in clips])
        categories, features, kernels, similarity = out
        grid = self.network.grid
        cells = [losses.grid_instances(clip.masks, self._published_extents, grid) for clip in clips]
        known = [
            losses.labels_known(c, clip.masks, clip.exhaustive, clip.ignore_masks, clip.ignore_labels, grid)
            for c, clip in zip(cells, clips)
        ]
        targets = torch.zeros_like(categories, dtype=torch.float32)
        held = torch.from_numpy(np.stack(cells)).to(device)  # [B, T, 252]
        for b, clip in enumerate(clips):
            t, cell = np.nonzero(cells[b] >= 0)
            targets[b, t, clip.labels[cells[b][t, cell]], cell] = 1
        same = torch.stack(
            [(held[:, i, :, None] == held[:, j, None]) & (held[:, i, :, None] >= 0) for i, j in _pairs(held.shape[1])],
            1,
        )
        if held.shape[1] == 1:
            same[:] = False  # a frame alone has nobody to be told from
        s = self._mask_stride
        masks = [
            torch.from_numpy(np.ascontiguousarray(c.masks[:, :, s // 2 :: s, s // 2 :: s])).to(device).float()
            for c in clips
        ]
        mask = losses.mask_loss(
            features, kernels, cells, masks, all_reduce_sum, self._max_mask_cells, s, self._other_instance_weight
        )
        return {
            "category": losses.category_loss(
                categories.float(),
                targets,
                torch.from_numpy(np.stack(known)).to(device).transpose(1, 2),
                all_reduce_sum,
            ),
            "mask": MASK_WEIGHT * mask,
            "tracking": self._tracking_weight * losses.tracking_loss(similarity.float(), same, all_reduce_sum),
        }

    def outputs(self, images: Tensor, reads_itself: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The network on clips.

        Args:
            images: uint8 ``[B, T, H, W, 3]``.
            reads_itself: of each clip, whether a frame reads itself too.

        Returns:
            Category logits ``[B, T, C, 252]``, mask features ``[B, T, d, H/4, W/4]``, kernels ``[B, T, d, 252]``, and
            similarity logits ``[B, P, 252, 252]`` of the P pairs of frames in order.
        """
        net, (batch, frames) = self.network, images.shape[:2]
        x = self.normalised(images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        maps = net.backbone(x)
        track, category = net.category_pre(maps[2])
        kernel = net.kernel_pre(maps[2])
        query, reference = (side.unflatten(0, (batch, frames)).float() for side in net.tracking(track))
        stored = [net.memory(feature).unflatten(0, (batch, frames)) for feature in (category, kernel)]
        # [B, T, 252, T, 252]: every frame asks every frame; what it may not read is left out of the softmax.
        similarity = torch.einsum("btdi,bsdj->btisj", query, reference)
        readable = ~torch.eye(frames, dtype=torch.bool, device=x.device) | (frames == 1)
        allowed = readable | torch.tensor(reads_itself, device=x.device)[:, None, None]
        weights = similarity.masked_fill(~allowed[:, :, None, :, None], -torch.inf).flatten(3).softmax(3)
        grid = category.shape[2:]
        read = []
        for feature, memory in zip((category, kernel), stored):
            found = torch.einsum("btim,bdm->btdi", weights.to(memory.dtype), memory.transpose(1, 2).flatten(2))
            read.append(feature + found.flatten(0, 1).unflatten(2, grid))
        categories = net.category_post(read[0]).flatten(2).unflatten(0, (batch, frames))
        kernels = net.kernel_post(read[1]).flatten(2).unflatten(0, (batch, frames))
        features = net.mask_features(maps).unflatten(0, (batch, frames))
        chosen = torch.stack([similarity[:, i, :, j] for i, j in _pairs(frames)], 1)
        return categories, features, kernels, chosen

    def _reads_itself(self, clip: TrainingClip) -> bool:
        """Drawn from the clip's own pixels, so that it is the same wherever and whenever the clip is seen."""
        return int(clip.images[0, ::16, ::16].sum()) % 1000 < 1000 * self._self_memory_probability


class LiteTraining(VISOLOTraining):
    """The network with its losses; its weights say what grid they were taught on."""

    def weights(self) -> dict[str, Tensor]:
        return {**super().weights(), GRID_KEY: torch.tensor(self.network.grid)}


def _pairs(frames: int) -> list[tuple[int, int]]:
    """Pairs of frames whose similarity is compared, the earlier one first; a frame alone is its own."""
    return list(combinations(range(frames), 2)) or [(0, 0)]
