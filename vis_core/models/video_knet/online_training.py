"""Video K-Net's online system in training: pairs of frames, each taught by itself, and who is who in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vis_core.data.clips import TrainingClip
from vis_core.models.video_knet import losses
from vis_core.models.video_knet.association_losses import (
    association_losses,
    exclusive_semantic_loss,
    rank_loss,
)
from vis_core.models.video_knet.kernels import StageOutputs
from vis_core.models.video_knet.losses import Match, Predictions, Targets
from vis_core.models.video_knet.network import STAGES, OnlineNetwork
from vis_core.models.video_knet.semantic_pyramid import doubled
from vis_core.models.video_knet.training import (
    KNetTraining,
    stage_losses,
    summed,
)
from vis_core.system.trainable import AllReduceSum

_TARGET_STRIDE = 2


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """What the network says of one frame of each of B clips.

    Attributes:
        initial: of the initial head, of the kernels of things.
        semantic: logits of the classes of pixels ``[B, K, h, w]``.
        stages: of each stage, of all kernels.
        kernels: of the last stage ``[B, N, C]``.
        linked: the same, linked to those of the frame before.
    """

    initial: Predictions
    semantic: Tensor
    stages: list[Predictions]
    kernels: Tensor
    linked: Tensor


@dataclass(frozen=True, eq=False)
class FrameMatches:
    """Matches of each clip: of the initial head, of the stages, and of what the last stage gives."""

    initial: list[Match]
    stages: list[list[Match]]
    final: list[Match]


class OnlineTraining(KNetTraining):
    """The online system's network with its losses.

    Published are pairs: the kernels of the second frame are linked to those of the first, which are linked to none. On
    a stream only the first frame is linked to none; clips of three frames or more teach what follows too.

    Args:
        network: see `KNetTraining`.
    """

    network: OnlineNetwork
    target_stride = _TARGET_STRIDE

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        length = len(clips[0].images)
        predictions = self.predictions(self.images(clips), length)
        parts: dict[str, Tensor] = {}
        targets = [[self.targets(clip, slice(t, t + 1)) for clip in clips] for t in range(length)]
        numbers = [[clip.masks[:, t].any((1, 2)).nonzero()[0].tolist() for clip in clips] for t in range(length)]
        matches = [self.matches(found, wanted) for found, wanted in zip(predictions, targets)]
        for t, (found, wanted, matched) in enumerate(zip(predictions, targets, matches)):
            for name, loss in self.frame_losses(found, wanted, matched, all_reduce_sum).items():
                parts[f"{name}_{t}"] = loss
        for t in range(1, length):
            before, now = slice(t - 1, t), slice(t, t + 1)
            (reference,), (key,) = predictions[before], predictions[now]
            parts[f"association_{t}"], parts[f"association_cosine_{t}"] = self.pair_losses(
                (key, matches[t], numbers[t]), (reference, matches[t - 1], numbers[t - 1]), length - 1
            )
        return summed(parts)

    def predictions(self, images: Tensor, length: int) -> list[FramePredictions]:
        """Of each frame of B clips; frames but the first are linked to the one before.

        Args:
            images: ``[B * T, 3, h, w]``.
            length: T.
        """
        network = self.network
        initial = network.initial(network.maps(images))
        assert initial.semantic is not None
        out, stages = network.joined(initial), []
        for number in range(STAGES - 1):
            out = network.stage(number, initial.features, out, classes=True)
            stages.append(out)
        found: list[FramePredictions] = []
        for t in range(length):
            part = slice(t, None, length)
            before = StageOutputs(None, out.masks[part], out.kernels[part])
            last = network.last_stage(initial.features[part], before, found[-1].kernels if found else None)
            earlier = [
                StageOutputs(named[part], masks[part], x[part]) for named, masks, x in stages if named is not None
            ]
            found.append(
                FramePredictions(
                    initial=self.predicted(StageOutputs(None, initial.masks[part], initial.kernels[part])),
                    semantic=doubled(initial.semantic[part], 8 // self.target_stride),
                    stages=[self.predicted(stage) for stage in (*earlier, last.outputs)],
                    kernels=last.outputs.kernels,
                    linked=last.linked,
                )
            )
        return found

    def matches(self, found: FramePredictions, targets: Sequence[Targets]) -> FrameMatches:
        """The kernels of things are matched by what enters a stage, and once more by what leaves the last one."""
        count = self.network.sizes.kernels
        entering = [found.initial, *(self._of_things(stage) for stage in found.stages)]
        *stages, final = (losses.match(stage, targets, count, clamped=True) for stage in entering)
        return FrameMatches(stages[0], stages, final)

    def _of_things(self, stage: Predictions) -> Predictions:
        """What a stage says of its first kernels: those of things."""
        assert stage.logits is not None
        count = self.network.sizes.kernels
        return Predictions(stage.logits[:, :count, : self.network.things], stage.masks[:, :count])

    def frame_losses(
        self, found: FramePredictions, targets: Sequence[Targets], matches: FrameMatches, all_reduce_sum: AllReduceSum
    ) -> dict[str, Tensor]:
        """The weighed losses of one frame of each clip, by part and stage, such as ``frame_class_0``."""
        count, things = self.network.sizes.kernels, self.network.things
        mask, dice = losses.mask_losses(found.initial, targets, matches.initial, count, all_reduce_sum)
        if self.network.stuff:
            semantic = exclusive_semantic_loss(found.semantic, targets, matches.initial, things)
        else:
            semantic = losses.semantic_loss(found.semantic, targets, matches.initial, all_reduce_sum)
        parts = {
            "initial_mask": mask,
            "initial_dice": dice,
            "initial_semantic": semantic,
            "initial_rank": rank_loss(found.initial.masks, targets, matches.initial),
        }
        for number, (stage, match) in enumerate(zip(found.stages, matches.stages)):
            parts |= stage_losses(f"frame_{{}}_{number}", stage, targets, match, count, all_reduce_sum)
        return parts

    def pair_losses(
        self,
        key: tuple[FramePredictions, FrameMatches, Sequence[Sequence[int]]],
        reference: tuple[FramePredictions, FrameMatches, Sequence[Sequence[int]]],
        pairs: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """The association losses of two frames of each clip, means over the clips.

        Args:
            key: of the later frame: predictions, matches, and of each clip the numbers of its targets' instances.
            reference: the same of the frame before.
            pairs: of each clip, over which the mean goes too.
        """
        found = []
        for b in range(len(key[0].kernels)):
            embeddings, same = self.embeddings(key, reference, b)
            found.append(torch.stack(association_losses(*embeddings, same)))
        contrastive, cosine = torch.stack(found).mean(0) / pairs
        return contrastive, cosine

    def embeddings(
        self,
        key: tuple[FramePredictions, FrameMatches, Sequence[Sequence[int]]],
        reference: tuple[FramePredictions, FrameMatches, Sequence[Sequence[int]]],
        b: int,
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Embeddings of the matched kernels of a clip, ``[n, C]`` and ``[m, C]``, and which are of one instance."""
        association = self.network.association
        assert association is not None
        sides, numbers = [], []
        for (_, matches, instances), kernels in ((key, key[0].linked), (reference, reference[0].linked)):
            match = matches.final[b]
            sides.append(association(kernels[b, match.kernels]))
            numbers.append(torch.tensor(instances[b], dtype=torch.int64, device=kernels.device)[match.instances])
        return (sides[0], sides[1]), numbers[0][:, None] == numbers[1]
