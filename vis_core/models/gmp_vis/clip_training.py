"""VisTR in training, in the form that GMP-VIS asks for: slots are instances, and embeddings tell who is who."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vis_core.checkpoints import load_fitting
from vis_core.data.clips import TrainingClip
from vis_core.errors import OptionError
from vis_core.models.gmp_vis import clip_losses as losses
from vis_core.models.gmp_vis.clip_losses import GIOU_WEIGHT, L1_WEIGHT, Said, Taught
from vis_core.models.gmp_vis.clip_network import ClipNetwork, ClipStates
from vis_core.models.gmp_vis.graph_losses import Graph, matching_losses
from vis_core.models.gmp_vis.online_losses import mask_losses
from vis_core.nn.backbones import resnet
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.region_losses import Match, Targets
from vis_core.system.trainable import AllReduceSum, Trainable


@dataclass(frozen=True, eq=False)
class ClipAnswers:
    """What the network says of a clip, and what it is to say.

    Attributes:
        states: of the transformer.
        said: of each layer that is taught; the last one is the network's.
        adapted: what the mask head adds, of the frames.
        images: normalised ``[T, 3, H, W]``.
        targets: what it is to say.
    """

    states: ClipStates
    said: Sequence[Said]
    adapted: Sequence[Tensor]
    images: Tensor
    targets: Targets


class ClipTraining(Trainable):
    """The network with its losses.

    Args:
        network: whose parameters learn, but for those of `frozen` and for parts that no loss reaches.
        frozen: modules that do not learn.
        published_quirks: train as the code of GMP-VIS does: slots and instances are assigned by `published_match`, the
            frames that teach a slot may be another instance's, and there are neither losses of earlier layers nor of
            graphs, so that embeddings stay as they are.
        permutation_weight: of the loss of the relaxed matching of two frames.
        contrastive_weight: of the contrastive loss of its embeddings.
        edge_weight: what edges weigh in that matching.
    """

    network: ClipNetwork

    def __init__(
        self,
        network: ClipNetwork,
        frozen: Sequence[nn.Module] = (),
        published_quirks: bool = False,
        permutation_weight: float = 1.0,
        contrastive_weight: float = 1.0,
        edge_weight: float = 1.0,
    ) -> None:
        embeds = not published_quirks and (permutation_weight > 0 or contrastive_weight > 0)
        unreached = [network.cross_graph, network.fc] + ([] if embeds else [network.proposal2matching])
        super().__init__(network, IMAGENET_MEAN, IMAGENET_STD, (*frozen, *unreached))
        self._published_quirks, self._embeds = published_quirks, embeds
        self._permutation_weight, self._contrastive_weight = permutation_weight, contrastive_weight
        self._edge_weight = edge_weight

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        return self.losses(self.answers(clips), all_reduce_sum)

    def answers(self, clips: Sequence[TrainingClip]) -> list[ClipAnswers]:
        """What the network says of each of several clips.

        Raises:
            OptionError: a clip does not have as many frames as the network has queries for.
        """
        network, length = self.network, len(clips[0].images)
        if length != network.clip_length:
            raise OptionError(
                f"clip.frames: clips have {length} frames, but the network has queries for {network.clip_length}: let "
                "options.clip_length be the same number"
            )
        images = torch.from_numpy(np.concatenate([clip.images for clip in clips])).to(self.mean.device)
        images = self.normalised(images).contiguous(memory_format=torch.channels_last)
        maps = network.maps(images)
        parts = zip(*(x.split(length) for x in (images, network.tokens(maps[3]), *network.adapted(maps))))
        found = []
        for clip, (of_clip, tokens, *adapted) in zip(clips, parts):
            states = network.states(tokens)
            layers = states.queries[-1:] if self._published_quirks else states.queries
            said = [Said(*pair) for pair in zip(network.logits(layers), network.boxes(layers))]
            targets = Targets.of(
                clip.labels, clip.masks, clip.exhaustive, clip.ignore_masks, clip.ignore_labels, images.device
            )
            found.append(ClipAnswers(states, said, adapted, of_clip, targets))
        return found

    def losses(self, clips: Sequence[ClipAnswers], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        """The weighed losses of clips, by part; those of boxes and masks for each instance and frame."""
        rows = float(sum(clip.targets.present.numel() for clip in clips))
        sums = all_reduce_sum(torch.tensor([rows, 1.0], device=self.mean.device))
        divisor = (sums[0] / sums[1]).clamp(min=1)
        parts: dict[str, Tensor] = {}
        matches: list[Match] = []
        for layer in range(len(clips[0].said)):
            matches = [self.match(clip, layer) for clip in clips]
            last = layer == len(clips[0].said) - 1
            for name, loss in self._detection(clips, layer, matches, divisor, all_reduce_sum).items():
                name = name if last else f"auxiliary_{name}"
                parts[name] = parts.get(name, 0) + loss
        focal, dice = torch.stack([self._mask_losses(*pair) for pair in zip(clips, matches)]).sum(0) / divisor
        parts |= {"mask": focal, "dice": dice}
        return parts | self._graph_losses(clips, matches, all_reduce_sum) if self._embeds else parts

    def match(self, clip: ClipAnswers, layer: int) -> Match:
        """Which slot is which instance in what a layer says."""
        if not self._published_quirks:
            return losses.match(clip.said[layer], clip.targets)
        embeddings = self.network.embeddings(clip.states)
        assert embeddings is not None
        crops = losses.crops(clip.images, clip.targets)
        return losses.published_match(embeddings, crops, self.network.cross_graph)

    def _taught(self, match: Match, clip: ClipAnswers) -> Taught:
        return Taught.of(match, clip.targets, self._published_quirks)

    def _detection(
        self,
        clips: Sequence[ClipAnswers],
        layer: int,
        matches: Sequence[Match],
        divisor: Tensor,
        all_reduce_sum: AllReduceSum,
    ) -> dict[str, Tensor]:
        """The weighed losses of classes and boxes of one layer."""
        classes, boxes = [], []
        for clip, match in zip(clips, matches):
            taught, said = self._taught(match, clip), clip.said[layer]
            classes.append(torch.stack(losses.class_loss(said, taught, match, clip.targets)))
            boxes.append(torch.stack(losses.box_losses(said, taught, clip.targets)))
        entropy, weight = torch.stack(classes).sum(0)
        weights = all_reduce_sum(torch.stack((weight, torch.ones_like(weight))))
        l1, giou = torch.stack(boxes).sum(0) / divisor
        return {"class": entropy * weights[1] / weights[0], "l1": L1_WEIGHT * l1, "giou": GIOU_WEIGHT * giou}

    def _mask_losses(self, clip: ClipAnswers, match: Match) -> Tensor:
        """Sums of the focal and of the dice losses of a clip's masks, ``[2]``."""
        slots = match.queries.tolist()
        # Without an instance the masks of a slot that none asks for: every parameter has gradients all the same.
        logits = self.network.masks(clip.states, clip.adapted, slots or [0])
        if not slots:
            return (0 * logits.sum()).expand(2)
        taught = self._taught(match, clip)
        chosen = logits[torch.searchsorted(match.queries, taught.slots), taught.frames]
        return torch.stack(mask_losses(chosen, clip.targets.masks[taught.instances, taught.frames]))

    def _graph_losses(
        self, clips: Sequence[ClipAnswers], matches: Sequence[Match], all_reduce_sum: AllReduceSum
    ) -> dict[str, Tensor]:
        """The weighed losses of who is who in two frames of a clip, means over the clips that have two with instances.

        Which frames is drawn by PyTorch's own generator.
        """
        total = self.mean.new_zeros(2)
        count = 0.0
        for clip, match in zip(clips, matches):
            embeddings = self.network.embeddings(clip.states)
            assert embeddings is not None
            total = total + 0 * embeddings.sum()
            frames = clip.targets.present[match.instances].any(0).nonzero()[:, 0]
            if len(frames) > 1:
                first, second = frames[torch.randperm(len(frames))[:2].to(frames.device)].sort().values.tolist()
                sides = [self._graph(embeddings[t], match, clip.targets, t) for t in (first, second)]
                with torch.autocast(total.device.type, enabled=False):
                    total = total + torch.stack(matching_losses(sides[0], sides[1], self._edge_weight))
                count += 1
        sums = all_reduce_sum(total.new_tensor([count, 1.0]))
        permutation, contrastive = total * sums[1] / sums[0].clamp(min=1)
        return {
            "permutation": self._permutation_weight * permutation,
            "contrastive": self._contrastive_weight * contrastive,
        }

    @staticmethod
    def _graph(embeddings: Tensor, match: Match, targets: Targets, t: int) -> Graph:
        """The instances that frame t shows, with the embeddings ``[N, E]`` of their slots in it."""
        there = targets.present[match.instances, t]
        numbers = match.instances[there]
        boxes = targets.boxes[numbers, t]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / targets.sides[:2].norm()
        return Graph(embeddings[match.queries[there]], centres, numbers)


def start_from(network: ClipNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Fill what of a network tensors fit; of the queries those of the first frames.

    Args:
        network: initialised.
        tensors: see `trainable`.

    Raises:
        CheckpointError: nothing fits, or a tensor holds NaN or infinity.
    """
    if resnet.is_torchvision(tensors):
        tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors).items()}
    queries = tensors.get("query_embed.weight")
    if queries is not None and len(queries) > len(network.query_embed.weight):
        tensors = {**tensors, "query_embed.weight": queries[: len(network.query_embed.weight)]}
    load_fitting(network, tensors, "vistr")
