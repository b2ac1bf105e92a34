"""Video K-Net's clip system in training: a batch of short clips, losses of every stage of the frames and the clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.checkpoints import load_fitting
from vis_core.data.clips import TrainingClip
from vis_core.models.video_knet import losses
from vis_core.models.video_knet.kernels import StageOutputs
from vis_core.models.video_knet.losses import Match, Predictions, Targets, soft_masks
from vis_core.models.video_knet.network import (
    STAGES,
    ClipNetwork,
    FrameNetwork,
    first_outputs,
)
from vis_core.models.video_knet.semantic_pyramid import doubled
from vis_core.nn.backbones import resnet
from vis_core.nn.backbones.resnet import FrozenBatchNorm, ResNet
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.system.trainable import AllReduceSum, Trainable

_MULTIPLE_OF = 32
_TARGET_STRIDE = 4


class KNetTraining(Trainable):
    """What the training of both systems has in common.

    The norms of a ResNet keep their statistics; their scale and shift are taught, but for those of stem and res2, which
    are frozen.

    Args:
        network: whose other parameters learn.
    """

    network: FrameNetwork
    target_stride: int

    def __init__(self, network: FrameNetwork) -> None:
        frozen: list[nn.Module] = []
        if isinstance(network.backbone, ResNet):
            teach_norms(network.backbone)
            frozen = [network.backbone.stem, network.backbone.get_submodule("res2")]
        super().__init__(network, IMAGENET_MEAN, IMAGENET_STD, frozen)

    def images(self, clips: Sequence[TrainingClip]) -> Tensor:
        """Normalised images ``[B * T, 3, h, w]``, padded with zeros to a multiple of 32."""
        images = torch.from_numpy(np.concatenate([clip.images for clip in clips])).to(self.mean.device)
        height, width = images.shape[1:3]
        padded = F.pad(self.normalised(images), (0, -width % _MULTIPLE_OF, 0, -height % _MULTIPLE_OF))
        return padded.contiguous(memory_format=torch.channels_last)

    def targets(self, clip: TrainingClip, frames: slice) -> Targets:
        """What some frames of a clip, taken as one image, are to give: the instances that they show."""
        shown = np.any(clip.masks[:, frames], axis=(1, 2, 3))
        size = clip.images.shape[1:3]
        padded = (size[0] + -size[0] % _MULTIPLE_OF, size[1] + -size[1] % _MULTIPLE_OF)
        device = self.mean.device
        masks, ignored = (
            soft_masks(torch.from_numpy(np.ascontiguousarray(x)).to(device), padded, self.target_stride).flatten(1, 2)
            for x in (clip.masks[shown, frames], clip.ignore_masks[:, frames])
        )
        return Targets(
            labels=torch.from_numpy(clip.labels[shown]).to(device),
            masks=masks,
            open_classes=torch.from_numpy(~clip.exhaustive).to(device),
            ignore_masks=ignored,
            ignore_labels=torch.from_numpy(clip.ignore_labels).to(device),
        )

    def predicted(self, out: StageOutputs) -> Predictions:
        """What a stage says, its masks at the size of the targets."""
        return Predictions(out.logits, doubled(out.masks, 8 // self.target_stride))


@dataclass(frozen=True, eq=False)
class ClipPredictions:
    """What the network says of B clips of T frames.

    Attributes:
        initial: of the initial head, of each frame.
        semantic: logits of the classes of pixels ``[B * T, K, h, w]``.
        frames: of the frames' stages, of each frame.
        clips: of the clips' stages, of each clip, its frames one below the other.
    """

    initial: Predictions
    semantic: Tensor
    frames: list[Predictions]
    clips: list[Predictions]


@dataclass(frozen=True, eq=False)
class ClipMatches:
    """Of the initial head and each stage, the matches of each frame or clip."""

    initial: list[Match]
    frames: list[list[Match]]
    clips: list[list[Match]]


class ClipTraining(KNetTraining):
    """The clip system's network with its losses.

    Args:
        network: see `KNetTraining`.
    """

    network: ClipNetwork
    target_stride = _TARGET_STRIDE

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        length = len(clips[0].images)
        frames = [self.targets(clip, slice(t, t + 1)) for clip in clips for t in range(length)]
        whole = [self.targets(clip, slice(0, length)) for clip in clips]
        found = self.predictions(self.images(clips), length)
        return summed(self.losses(found, frames, whole, self.matches(found, frames, whole), all_reduce_sum))

    def predictions(self, images: Tensor, length: int) -> ClipPredictions:
        """What the network says of images ``[B * T, 3, h, w]`` of clips of T frames, and the clips' kernels."""
        network = self.network
        initial = network.initial_head(network.maps(images), semantic=True)
        out, stages = first_outputs(initial), []
        for number in range(STAGES):
            out = network.stage(number, initial.features, out, classes=True)
            stages.append(out)
        clips = []
        for b in range(0, len(images), length):
            part = slice(b, b + length)
            frames = [
                network.frame_kernels(initial.features[part], StageOutputs(None, out.masks[part], out.kernels[part]))
            ]
            whole = network.clip(frames, every=True)
            kernels = network.frames_of_clip(frames, whole[-1])
            clips.append([*whole, StageOutputs(None, network.clip_masks(frames, kernels), kernels)])
        return ClipPredictions(
            initial=self.predicted(first_outputs(initial)),
            semantic=doubled(initial.semantic, 8 // self.target_stride),
            frames=[self.predicted(stage) for stage in stages],
            clips=[self._of_clips(stage) for stage in zip(*clips)],
        )

    def _of_clips(self, clips: Sequence[StageOutputs]) -> Predictions:
        """What a stage says of each clip, its frames one below the other."""
        parts = [self.predicted(out) for out in clips]
        masks = torch.stack([part.masks.transpose(0, 1).flatten(1, 2) for part in parts])
        named = [part.logits for part in parts if part.logits is not None]
        return Predictions(torch.cat(named) if named else None, masks)

    def matches(self, found: ClipPredictions, frames: Sequence[Targets], clips: Sequence[Targets]) -> ClipMatches:
        """Frames are matched by what enters a stage, clips by what leaves it; the last stage has those before it."""
        kernels = self.network.sizes.kernels
        entering = [found.initial, *found.frames[:-1]]
        own = [losses.match(stage, clips, kernels, clamped=False) for stage in found.clips[:-1]]
        of_frames = [losses.match(stage, frames, kernels, clamped=False) for stage in entering]
        return ClipMatches(of_frames[0], of_frames, [*own, own[-1]])

    def losses(
        self,
        found: ClipPredictions,
        frames: Sequence[Targets],
        clips: Sequence[Targets],
        matches: ClipMatches,
        all_reduce_sum: AllReduceSum,
    ) -> dict[str, Tensor]:
        """The weighed losses by part and stage, such as ``frame_class_0``.

        Args:
            found: of the batch.
            frames: targets of each frame.
            clips: targets of each clip.
            matches: of `matches`.
            all_reduce_sum: see `Trainable`.
        """
        kernels = self.network.sizes.kernels
        mask, dice = losses.mask_losses(found.initial, frames, matches.initial, kernels, all_reduce_sum)
        semantic = losses.semantic_loss(found.semantic, frames, matches.initial, all_reduce_sum)
        parts = {"initial_mask": mask, "initial_dice": dice, "initial_semantic": semantic}
        for name, stages, targets, matched in (
            ("frame", found.frames, frames, matches.frames),
            ("clip", found.clips, clips, matches.clips),
        ):
            for number, (stage, match) in enumerate(zip(stages, matched)):
                parts |= stage_losses(f"{name}_{{}}_{number}", stage, targets, match, kernels, all_reduce_sum)
        return parts


def stage_losses(
    name: str,
    stage: Predictions,
    targets: Sequence[Targets],
    matches: Sequence[Match],
    things: int,
    all_reduce_sum: AllReduceSum,
) -> dict[str, Tensor]:
    """The weighed losses of a stage, under its name with the part's in it; see `losses.class_loss`."""
    mask, dice = losses.mask_losses(stage, targets, matches, things, all_reduce_sum)
    parts = {name.format("mask"): mask, name.format("dice"): dice}
    if stage.logits is not None:
        parts[name.format("class")] = losses.class_loss(stage, targets, matches, things, all_reduce_sum)
    return parts


def summed(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses by part, those of several stages and frames, whose numbers end the names, in one."""
    sums: dict[str, Tensor] = {}
    for name, loss in parts.items():
        part = name.rstrip("_0123456789")
        sums[part] = sums[part] + loss if part in sums else loss
    return sums


def teach_norms(network: nn.Module) -> None:
    """Let scale and shift of the frozen norms of a network learn; their statistics stay."""
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm):
            for name in ("weight", "bias"):
                value = getattr(module, name)
                delattr(module, name)
                setattr(module, name, nn.Parameter(value))


def start_from(network: FrameNetwork, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill what of a network fits: a Video K-Net or K-Net of any classes, or a ResNet with torchvision's keys.

    Raises:
        CheckpointError: nothing fits, or a tensor holds NaN or infinity.
    """
    if resnet.is_torchvision(tensors):
        tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors).items()}
    load_fitting(network, {key: x for key, x in tensors.items() if key != "thing_classes"}, source)
