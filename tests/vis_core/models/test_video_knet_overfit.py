"""Tiny Video K-Nets learn a synthetic scene by heart, and then follow its objects."""

import numpy as np
import pytest
import torch
from torch import nn

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.video_knet.clip import VideoKNetModel
from vis_core.models.video_knet.network import ClipNetwork, OnlineNetwork, Sizes
from vis_core.models.video_knet.online import VideoKNetOnlineModel
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.training import ClipTraining
from vis_core.models.video_knet.vocabulary import numbered_stuff
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

STEPS, SIZE, LENGTH = 150, (96, 160), 4
SIZES = Sizes(kernels=8, width=64, heads=4, hidden=128)


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


def clip_of(scene):
    masks = np.stack([scene.object_image == 1 + item for item in range(3)])
    assert masks[:, :3].any((2, 3)).all() and not masks[2, 3].any()  # one leaves
    return TrainingClip(
        images=scene.frames,
        masks=masks,
        labels=scene.labels,
        exhaustive=np.ones(len(CLASS_NAMES), bool),
        ignore_masks=np.zeros((0, *masks.shape[1:]), bool),
        ignore_labels=np.zeros(0, np.int64),
    )


def clip_system():
    network = ClipNetwork(TinyBackbone(), "fpn", len(CLASS_NAMES), SIZES)
    model = VideoKNetModel(network, CLASS_NAMES, SIZE, False, 0.3, 50)
    return ClipTraining(network), StreamSegmenter(model, OverlapAssociator(0.3), TrackLifecycle(), 3, 1)


def online_system():
    network = OnlineNetwork(TinyBackbone(), "fpn", len(CLASS_NAMES), sizes=SIZES)
    model = VideoKNetOnlineModel(network, CLASS_NAMES, numbered_stuff(CLASS_NAMES, 0))
    return OnlineTraining(network), StreamSegmenter(model, QuasiDenseAssociator(), TrackLifecycle(5, None))


@pytest.mark.slow
@pytest.mark.parametrize("system", [clip_system, online_system])
def test_a_short_training_learns_one_scene_by_heart(system, tmp_path):
    scene = synthetic_video(1, length=LENGTH, size=SIZE, objects=3, radius=(0.2, 0.28))
    torch.manual_seed(0)
    training, segmenter = system()
    network = training.network
    network.initialise()
    clip = clip_of(scene)
    optimizer = torch.optim.AdamW(training.parameters(), 1e-3, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, STEPS)
    first, last = {}, {}
    for _ in range(STEPS):
        parts = training([clip], lambda x: x)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        last = {name: float(x.detach()) for name, x in parts.items()}
        first = first or last
    for name, loss in last.items():
        assert loss < 0.5 * first[name], (name, first[name], loss)

    network.eval().requires_grad_(False)
    answers = list(segmenter.run(scene.frame(t) for t in range(LENGTH)))
    *seen, fewer = [set(x.track_ids[x.scores > 0].tolist()) for x in answers]
    assert seen == [{1, 2, 3}] * 3 and len(fewer) == 2 and fewer < seen[0]
    truth = write_youtube_vis([scene], tmp_path)
    with ResultsWriter(tmp_path / "results.json") as results:
        for instances in answers:
            results.add(1, instances.index, instances)
    scores = evaluate(str(truth), str(tmp_path / "results.json")).summary
    assert scores["AP50"] > 0.99 and scores["AP"] > 0.6
