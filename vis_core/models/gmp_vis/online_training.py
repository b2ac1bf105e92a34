"""The online GMP-VIS in training: every frame of a clip is taught by itself, and who is who from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vis_core.data.clips import TrainingClip
from vis_core.models.gmp_vis import online_losses as losses
from vis_core.models.gmp_vis.graph_losses import Graph, matching_losses
from vis_core.models.gmp_vis.memory_attention import MEMORY_FEATURES
from vis_core.models.gmp_vis.online_losses import GIOU_WEIGHT, L1_WEIGHT, Said
from vis_core.models.gmp_vis.online_network import FrameOutputs, OnlineNetwork
from vis_core.nn.deformable_attention import MultiScaleDeformableAttention, sampled_by_grid
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.region_losses import Match, Targets
from vis_core.system.trainable import AllReduceSum, Trainable

FORGOTTEN = 0.2


class _Sight(NamedTuple):
    """An instance in a frame of a clip."""

    frame: int
    feature: Tensor
    embedding: Tensor
    centre: Tensor


class OnlineTraining(Trainable):
    """The network with its losses.

    Args:
        network: whose parameters learn, but for those of `frozen`.
        frozen: modules that do not learn.
        permutation_weight: of the loss of the relaxed matching of two frames.
        contrastive_weight: of the contrastive loss of its embeddings.
        edge_weight: what edges weigh in that matching.
    """

    network: OnlineNetwork

    def __init__(
        self,
        network: OnlineNetwork,
        frozen: Sequence[nn.Module] = (),
        permutation_weight: float = 1.0,
        contrastive_weight: float = 1.0,
        edge_weight: float = 1.0,
    ) -> None:
        super().__init__(network, IMAGENET_MEAN, IMAGENET_STD, frozen)
        for module in network.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.sampled = sampled_by_grid  # its gradients take a CPU half as long
        self._permutation_weight, self._contrastive_weight = permutation_weight, contrastive_weight
        self._edge_weight = edge_weight

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        images = torch.from_numpy(np.concatenate([clip.images for clip in clips])).to(self.mean.device)
        maps = self.network.maps(self.normalised(images).contiguous(memory_format=torch.channels_last))
        out = self.network.frames(maps)
        targets = [
            Targets.of(
                clip.labels, clip.masks, clip.exhaustive, clip.ignore_masks, clip.ignore_labels, self.mean.device
            )
            for clip in clips
        ]
        count = torch.tensor([float(sum(int(x.present.sum()) for x in targets)), 1.0], device=images.device)
        sums = all_reduce_sum(count)
        instances = (sums[0] / sums[1]).clamp(min=1)
        parts: dict[str, Tensor] = {}
        matches: list[list[Match]] = []
        for layer in range(len(out.queries)):
            said = [Said(*pair) for pair in zip(*(self._by_clip(x[layer], clips) for x in (out.logits, out.boxes)))]
            matches = [losses.match(*pair) for pair in zip(said, targets)]
            last = layer == len(out.queries) - 1
            for name, loss in self._detection(said, matches, targets, instances, all_reduce_sum).items():
                name = name if last else f"auxiliary_{name}"
                parts[name] = parts.get(name, 0) + loss
        parts |= self._masks(out, maps, matches, targets, instances)
        return parts | self._matching(self._by_clip(out.queries[-1], clips), matches, targets)

    @staticmethod
    def _by_clip(frames: Tensor, clips: Sequence[TrainingClip]) -> Sequence[Tensor]:
        return frames.split([len(clip.images) for clip in clips])

    def _detection(
        self,
        said: Sequence[Said],
        matches: Sequence[Sequence[Match]],
        targets: Sequence[Targets],
        instances: Tensor,
        all_reduce_sum: AllReduceSum,
    ) -> dict[str, Tensor]:
        """The weighed losses of classes and boxes of one layer."""
        entropies, weights = zip(*(losses.class_loss(*each) for each in zip(said, matches, targets)))
        distances, overlaps = zip(*(losses.box_losses(*each) for each in zip(said, matches, targets)))
        sums = all_reduce_sum(torch.stack((torch.stack(weights).sum(), weights[0].new_ones(()))))
        return {
            "class": torch.stack(entropies).sum() * sums[1] / sums[0],
            "l1": L1_WEIGHT * torch.stack(distances).sum() / instances,
            "giou": GIOU_WEIGHT * torch.stack(overlaps).sum() / instances,
        }

    def _masks(
        self,
        out: FrameOutputs,
        maps: Sequence[Tensor],
        matches: Sequence[Sequence[Match]],
        targets: Sequence[Targets],
        instances: Tensor,
    ) -> dict[str, Tensor]:
        """The weighed losses of the masks of the last layer's matched queries."""
        of_frames = [found for clip in matches for found in clip]
        most = max(len(found.queries) for found in of_frames)
        # Frames with fewer instances make masks of a query that none asks for; without any, gradients of zero.
        rows = torch.zeros((len(of_frames), max(most, 1)), dtype=torch.int64, device=instances.device)
        for row, found in zip(rows, of_frames):
            row[: len(found.queries)] = found.queries
        queries = out.queries[-1].gather(1, rows[..., None].expand(-1, -1, out.queries.shape[3]))
        logits = self.network.masks(queries, out.memory, self.network.mask_parts(out.memory, maps))
        chosen = torch.cat([frame[: len(found.queries)] for frame, found in zip(logits, of_frames)])
        if not len(chosen):
            return {"mask": 0 * logits.sum(), "dice": 0 * logits.sum()}
        wanted = [x.masks[found.instances, t] for x, clip in zip(targets, matches) for t, found in enumerate(clip)]
        focal, dice = losses.mask_losses(chosen, torch.cat(wanted))
        return {"mask": focal / instances, "dice": dice / instances}

    def _matching(
        self, queries: Sequence[Tensor], matches: Sequence[Sequence[Match]], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The weighed losses of who is who, means over the pairs of a frame and those before it."""
        found = [pair for each in zip(queries, matches, targets) for pair in self.pairs(*each)]
        # An embedding of nothing: in a clip of one frame every process of a group must have gradients too.
        nothing = 0 * self.network.matching(queries[0][0], queries[0][0], queries[0][0, :, 0].detach()).sum()
        if not found:
            return {"permutation": nothing, "contrastive": nothing}
        permutation, contrastive = torch.stack([torch.stack(pair) for pair in found]).mean(0)
        return {
            "permutation": self._permutation_weight * permutation + nothing,
            "contrastive": self._contrastive_weight * contrastive,
        }

    def pairs(self, queries: Tensor, matches: Sequence[Match], targets: Targets) -> list[tuple[Tensor, Tensor]]:
        """The losses of each frame of a clip from the second one on, where it and the frames before show anything.

        What is remembered of an instance is all its sights; the memory that embeddings look at loses one in five.

        Args:
            queries: of the last layer ``[T, Q, C]``.
            matches: of each frame.
            targets: of the clip.
        """
        seen: dict[int, list[_Sight]] = {}
        found = []
        width, height = targets.sides[:2]
        for t, match in enumerate(matches):
            features, numbers = queries[t, match.queries], match.instances
            sights = [sight for history in seen.values() for sight in history[-MEMORY_FEATURES:]]
            sights = [sight for sight, kept in zip(sights, torch.rand(len(sights)).tolist()) if kept >= FORGOTTEN]
            memory = torch.stack([sight.feature for sight in sights]) if sights else None
            ages = torch.tensor([float(t - sight.frame) for sight in sights], device=queries.device)
            embeddings = self.network.matching(features, memory, ages)
            boxes = targets.boxes[numbers, t]
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / torch.hypot(width, height)
            if seen and len(numbers):
                before = Graph(
                    torch.stack([torch.stack([x.embedding for x in history]).mean(0) for history in seen.values()]),
                    torch.stack([history[-1].centre for history in seen.values()]),
                    torch.tensor(list(seen), device=numbers.device),
                )
                found.append(matching_losses(before, Graph(embeddings, centres, numbers), self._edge_weight))
            for row, number in enumerate(numbers.tolist()):
                seen.setdefault(number, []).append(_Sight(t, features[row], embeddings[row], centres[row]))
        return found
