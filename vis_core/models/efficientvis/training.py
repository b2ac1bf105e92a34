"""EfficientVIS in training: a batch of pairs of successive clips, and losses after every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vis_core.checkpoints import load_fitting
from vis_core.data.clips import TrainingClip
from vis_core.errors import OptionError
from vis_core.models.efficientvis import losses
from vis_core.models.efficientvis.choices import CARRIES
from vis_core.models.efficientvis.losses import Losses, TaughtClip
from vis_core.models.efficientvis.network import (
    EfficientVISNetwork,
)
from vis_core.nn.backbones import resnet
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.region_losses import Match, Targets, match_stages
from vis_core.nn.region_queries import StageOutputs
from vis_core.nn.roi_align import Level
from vis_core.system.trainable import AllReduceSum, Trainable

_PARTS = {"class": "classes", "l1": "l1", "giou": "giou", "dice": "dice", "mask": "mask"}


class EfficientVISTraining(Trainable):
    """The network with its losses.

    Args:
        network: whose parameters learn, but for those of `frozen` and those that its options leave out.
        frozen: modules that do not learn.
        successive_clips: what a clip of the data is: one clip of all its frames, or two, of its first and its second
            half, of which the second is one frame shorter if their number is odd (and not there if that is 1). Two want
            successive frames in their order (`vis_core.data.frame_draws`).
        correspondence: the second clip begins with the first one's queries, which stay with their instances; or it is
            a clip by itself.
        carry: which queries it begins with: those of the first clip that were given an instance, the others being the
            learned ones (confident), or all of the first clip's. Best as the network will run: taught with all of them
            and run with the confident ones, the others may find an instance a second time.
    """

    network: EfficientVISNetwork

    def __init__(
        self,
        network: EfficientVISNetwork,
        frozen: Sequence[nn.Module] = (),
        successive_clips: int = 2,
        correspondence: bool = True,
        carry: str = "confident",
    ) -> None:
        if carry not in CARRIES:
            raise OptionError(f"efficientvis: carry {carry!r} is none of {', '.join(CARRIES)}")
        super().__init__(network, IMAGENET_MEAN, IMAGENET_STD, (*frozen, *_unused(network)))
        self._successive_clips, self._correspondence, self._carry = successive_clips, correspondence, carry

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        maps = self.network.maps(self.padded_images(clips))
        # A level that no box is pooled from is taught nothing, but every process of a group must have gradients.
        nothing = torch.stack([0 * level[..., 0, 0].float().sum() for level in maps]).sum()
        parts = {f"{before}{name}": nothing for before in ("", "auxiliary_") for name in _PARTS}
        for *earlier, last in self.losses(maps, clips, all_reduce_sum):
            for name, attribute in _PARTS.items():
                parts[name] = parts[name] + getattr(last, attribute)
                for stage in earlier:
                    parts[f"auxiliary_{name}"] = parts[f"auxiliary_{name}"] + getattr(stage, attribute)
        return parts

    def losses(
        self, maps: Sequence[Tensor], clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum
    ) -> list[list[Losses]]:
        """The weighed losses of each stage, of the first and of the second clips.

        Args:
            maps: of each level, those of all frames of all clips.
            clips: of one size and number of frames.
            all_reduce_sum: see `Trainable`.
        """
        frames = len(clips[0].images)
        taught = []
        for b, clip in enumerate(clips):
            parts = [slice(b * frames + run.start, b * frames + run.stop) for run in self.runs(frames)]
            taught.append(self.taught([[level[part] for level in maps] for part in parts], self.targets(clip)))
        return [losses.clip_losses(batch, all_reduce_sum) for batch in zip(*taught)]

    def runs(self, frames: int) -> list[slice]:
        """The frames of each of the successive clips."""
        if self._successive_clips == 1 or frames == 1:
            return [slice(0, frames)]
        first = (frames + 1) // 2
        return [slice(0, first), slice(first, frames)]

    def targets(self, clip: TrainingClip) -> list[Targets]:
        """What each of the successive clips is to give: the same instances, in its own frames."""
        whole = Targets.of(
            clip.labels, clip.masks, clip.exhaustive, clip.ignore_masks, clip.ignore_labels, self.mean.device
        )
        return [whole.of_frames(run) for run in self.runs(len(clip.images))]

    def taught(self, maps: Sequence[Sequence[Level]], targets: Sequence[Targets]) -> list[TaughtClip]:
        """What the network says of successive clips, and which instance each query is to be.

        Args:
            maps: of each clip, the levels as the network takes them.
            targets: of each clip, of the same instances.
        """
        learned, boxes = self.network.learned(targets[0].size)
        queries, held = learned, None
        clips = []
        for levels, wanted in zip(maps, targets):
            frames = wanted.present.shape[1]
            outputs = self.network.head(levels, queries.expand(frames, -1, -1), boxes.expand(frames, -1, -1))
            matches = match_stages(outputs, wanted, held)
            masks = [
                stage.masks(levels, out, match.queries)
                for stage, out, match in zip(self.network.head.stages(), outputs, matches)
            ]
            clips.append(TaughtClip(wanted, outputs, matches, masks))
            if self._correspondence:
                held = matches[-1]
                queries = carried_queries(outputs[-1], held, learned, self._carry)
        return clips


def carried_queries(out: StageOutputs, match: Match, learned: Tensor, carry: str) -> Tensor:
    """The queries ``[N, C]`` that the next clip begins with: their mean over the clip, with gradient.

    Args:
        out: of the last stage.
        match: of the last stage.
        learned: ``[N, C]``, that any clip begins with.
        carry: one of `choices.CARRIES`.
    """
    carried = out.queries.mean(0)
    if carry == "all":
        return carried
    matched = torch.zeros(len(learned), dtype=torch.bool, device=learned.device)
    matched[match.queries] = True
    return torch.where(matched[:, None], carried, learned)


def _unused(network: EfficientVISNetwork) -> list[nn.Module]:
    """What the network's options leave out: data-parallel training wants a gradient of all that learns."""
    unused: list[nn.Module] = []
    for stage in network.head.stages():
        if stage.attention in ("spatial", "joint"):
            unused.append(stage.temporal_attn)
        if stage.attention == "temporal":
            unused.append(stage.self_attn)
    return unused


def start_from(network: EfficientVISNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Fill what of a network tensors fit; of another number of proposals the first ones are taken.

    Args:
        network: initialised.
        tensors: see `trainable`.

    Raises:
        CheckpointError: nothing fits, or a tensor holds NaN or infinity.
    """
    if resnet.is_torchvision(tensors):
        tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors).items()}
    load_fitting(network, network.fitted_proposals(tensors), "efficientvis")
