"""TeViT in training: a batch of clips whose frames come in any order, and losses after every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vis_core.checkpoints import load_fitting
from vis_core.data.clips import TrainingClip
from vis_core.models.tevit import losses, published, pvt
from vis_core.models.tevit.losses import Losses, Positives, TaughtClip
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn import queryinst
from vis_core.nn.backbones import resnet
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.region_losses import Targets, match_stages
from vis_core.system.trainable import AllReduceSum, Trainable

_PARTS = {"class": "classes", "l1": "l1", "giou": "giou", "dice": "dice"}


class TeViTTraining(Trainable):
    """The network with its losses.

    Args:
        network: whose parameters learn, but for those of `frozen`.
        frozen: modules that do not learn.
    """

    network: TeViTNetwork

    def __init__(self, network: TeViTNetwork, frozen: Sequence[nn.Module] = ()) -> None:
        super().__init__(network, IMAGENET_MEAN, IMAGENET_STD, frozen)

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        levels = self.levels(clips)
        *earlier, last = self.losses(levels, [self.targets(clip) for clip in clips], all_reduce_sum)
        # A level that no box is pooled from is taught nothing, but has gradients all the same.
        nothing = torch.stack([0 * level[..., 0, 0].float().sum() for level in levels]).sum()
        parts = {name: nothing + getattr(last, attribute) for name, attribute in _PARTS.items()}
        for name, attribute in _PARTS.items():
            parts[f"auxiliary_{name}"] = torch.stack([nothing, *(getattr(stage, attribute) for stage in earlier)]).sum()
        return parts

    def levels(self, clips: Sequence[TrainingClip]) -> list[Tensor]:
        """The pyramid of all frames of clips of one size and number of frames."""
        maps = self.network.backbone_maps(self.padded_images(clips), len(clips[0].images))
        return self.network.levels(maps)

    def targets(self, clip: TrainingClip) -> Targets:
        """What a clip is to give."""
        arrays = (clip.labels, clip.masks, clip.exhaustive, clip.ignore_masks, clip.ignore_labels)
        return Targets.of(*arrays, self.mean.device)

    def losses(
        self, levels: Sequence[Tensor], targets: Sequence[Targets], all_reduce_sum: AllReduceSum
    ) -> list[Losses]:
        """The weighed losses of each stage.

        Args:
            levels: of all frames of all clips.
            targets: of each clip.
            all_reduce_sum: see `Trainable`.
        """
        frames = targets[0].present.shape[1]
        parts = zip(*(level.split(frames) for level in levels))
        clips = [self.taught(part, wanted) for part, wanted in zip(parts, targets)]
        return losses.batch_losses(clips, self.masks(levels, clips), all_reduce_sum)

    def taught(self, levels: Sequence[Tensor], targets: Targets) -> TaughtClip:
        """What the network says of a clip, and which instance each query is to be.

        Args:
            levels: of the frames of the clip.
            targets: of the clip.
        """
        queries, boxes = self.network.learned(targets.size)
        # All frames have the same queries: their first look at one another is one frame's.
        outputs = self.network.head(levels, queries[None], boxes.expand(len(levels[0]), -1, -1))
        matches = match_stages(outputs, targets, smallest_probability=losses.SMALLEST_PROBABILITY)
        return TaughtClip(targets, outputs, matches, [Positives.of(match, targets) for match in matches])

    def masks(self, levels: Sequence[Tensor], clips: Sequence[TaughtClip]) -> list[Tensor]:
        """Mask logits ``[P, K, 28, 28]`` of the positives of each stage, clip by clip.

        Those of all clips are made together: the norms take their statistics from all of them.

        Args:
            levels: of all frames of all clips.
            clips: in that order.
        """
        made = []
        for s, stage in enumerate(self.network.head.stages()):
            frames, boxes, attended = [], [], []
            for c, clip in enumerate(clips):
                in_clip, queries, _ = clip.positives[s]
                frames.append(in_clip + c * len(clip.outputs[s].boxes))
                boxes.append(clip.outputs[s].boxes[in_clip, queries])
                attended.append(clip.outputs[s].attended[in_clip, queries])
            if sum(map(len, frames)):
                made.append(stage.single_masks(levels, *map(torch.cat, (frames, boxes, attended))))
            else:  # a norm without anything to take statistics from; its parameters have gradients all the same
                nothing = torch.stack([0 * p.float().sum() for p in stage.mask_head.parameters()]).sum()
                made.append(nothing.expand(0, self.network.classes, 28, 28))
        return made

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """As the published configurations tell them apart.

        The backbone, its norms and messenger tokens included, but for Swin's bias tables; the heads, and their norms
        but for those of the mask heads' convolutions and of the layers before classes and boxes.
        """
        groups: dict[str, list[nn.Parameter]] = {"backbone": [], "bias_tables": [], "heads": [], "head_norms": []}
        for name, p in self.network.named_parameters():
            if not p.requires_grad:
                continue
            if name.endswith("relative_position_bias_table"):
                groups["bias_tables"].append(p)
            elif name.startswith("backbone."):
                groups["backbone"].append(p)
            else:
                groups["head_norms" if ".norm" in name and ".convs." not in name else "heads"].append(p)
        return groups


def start_from(network: TeViTNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Fill what of a network tensors fit; of another number of proposals the first ones are taken.

    Args:
        network: initialised.
        tensors: see `trainable`.

    Raises:
        CheckpointError: nothing fits, or a tensor holds NaN or infinity.
    """
    if queryinst.is_queryinst(tensors):  # one with a Swin, under its authors' keys, is not taken for TeViT's
        tensors = published.convert(tensors)
    elif pvt.is_pvt(tensors):
        tensors = _of_backbone(pvt.from_pvt(tensors))
    elif resnet.is_torchvision(tensors):
        tensors = _of_backbone(resnet.from_torchvision(tensors))
    elif "patch_embed.proj.weight" in tensors:
        tensors = _of_backbone(tensors)
    load_fitting(network, network.fitted_proposals(tensors), "tevit")


def _of_backbone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{key}": x for key, x in tensors.items()}
