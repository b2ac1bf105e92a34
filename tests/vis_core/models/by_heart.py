"""A scene that tiny networks learn by heart, one of whose objects leaves; what the tests of several trainings share."""

import numpy as np
import torch
from torch import nn

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter

SIZE, LENGTH = (96, 160), 4


class TinyBackbone(nn.Sequential):
    """A pair of convolutions for each stride."""

    channels = (32, 48, 64, 64)

    def __init__(self):
        stages = []
        for stride, inputs, outputs in zip((4, 2, 2, 2), (3, *self.channels), self.channels):
            first = nn.Conv2d(inputs, outputs, 2 * stride - 1, stride, stride - 1)
            second = nn.Conv2d(outputs, outputs, 3, padding=1)
            layers = [(conv, nn.GroupNorm(8, outputs), nn.ReLU()) for conv in (first, second)]
            stages.append(nn.Sequential(*(layer for both in layers for layer in both)))
        super().__init__(*stages)

    def forward(self, images):
        maps = [images]
        for stage in self:
            maps.append(stage(maps[-1]))
        return maps[1:]


def leaving_scene(size=SIZE):
    """Four frames with three objects, of which the last one shows two."""
    return synthetic_video(1, length=LENGTH, size=size, objects=3, radius=(0.2, 0.28))


def clip_of(scene, order=tuple(range(LENGTH))):
    """A training clip of a scene's frames in some order."""
    masks = np.stack([scene.object_image == 1 + item for item in range(3)])
    assert masks[:, :3].any((2, 3)).all() and not masks[2, 3].any()  # one leaves
    order = list(order)
    return TrainingClip(
        images=scene.frames[order],
        masks=masks[:, order],
        labels=scene.labels,
        exhaustive=np.ones(len(CLASS_NAMES), bool),
        ignore_masks=np.zeros((0, len(order), *scene.size), bool),
        ignore_labels=np.zeros(0, np.int64),
    )


def learn(training, clips, rate):
    """Train on one clip after the other; returns the losses of the first and of the last step.

    The network is then ready to run.
    """
    optimizer = torch.optim.AdamW(training.parameters(), rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, len(clips))
    first, last = {}, {}
    for clip in clips:
        parts = training([clip], lambda x: x)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        last = {name: float(x.detach()) for name, x in parts.items()}
        first = first or last
    training.network.eval().requires_grad_(False)
    return first, last


def check_losses(first, last):
    """Every loss has fallen by half at least."""
    for name, loss in last.items():
        assert loss < 0.5 * first[name], (name, first[name], loss)


def check_tracks(segmenter, scene, folder, least_ap):
    """The three objects are found in every frame, as the same three tracks, until one of them leaves."""
    answers = list(segmenter.run(scene.frame(t) for t in range(LENGTH)))
    *seen, fewer = [set(x.track_ids[x.scores > 0].tolist()) for x in answers]
    assert seen == [{1, 2, 3}] * 3 and len(fewer) == 2 and fewer < seen[0]
    truth = write_youtube_vis([scene], folder)
    with ResultsWriter(folder / "results.json") as results:
        for instances in answers:
            results.add(1, instances.index, instances)
    scores = evaluate(str(truth), str(folder / "results.json")).summary
    assert scores["AP50"] > 0.99 and scores["AP"] > least_ap
