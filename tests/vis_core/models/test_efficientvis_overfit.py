"""A tiny EfficientVIS learns a synthetic scene by heart, and its queries find their objects again, clip after clip."""

import numpy as np
import pytest
import torch
from torch import nn

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.efficientvis.model import EfficientVISModel
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.slots import Slots
from vis_core.models.efficientvis.training import EfficientVISTraining
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.region_queries import Dimensions
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle

STEPS, SIZE, QUERIES = 150, (96, 160), 5
DIMENSIONS = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=2)


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


def tiny_network():
    torch.manual_seed(0)
    network = EfficientVISNetwork(None, len(CLASS_NAMES), QUERIES, DIMENSIONS)
    network.backbone, network.pyramid = TinyBackbone(), FeaturePyramid(TinyBackbone.channels, DIMENSIONS.width)
    network.initialise()
    for stage in network.head.stages():
        stage.bboxes_delta.weight.data *= 0.1  # so narrow a layer would begin with boxes far from the picture
    return network


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(tmp_path):
    scene = synthetic_video(1, length=4, size=SIZE, objects=3, radius=(0.2, 0.28))
    masks = np.stack([scene.object_image == 1 + item for item in range(3)])
    assert masks[:, :3].any((2, 3)).all() and not masks[2, 3].any()  # one leaves
    clip = TrainingClip(
        images=scene.frames,
        masks=masks,
        labels=scene.labels,
        exhaustive=np.ones(len(CLASS_NAMES), bool),
        ignore_masks=np.zeros((0, *scene.object_image.shape), bool),
        ignore_labels=np.zeros(0, np.int64),
    )
    network = tiny_network()
    training = EfficientVISTraining(network)
    optimizer = torch.optim.AdamW(training.parameters(), 2e-3, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
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
    slots = Slots("confident", "learned", max_lost_clips=1)
    model = EfficientVISModel(network, CLASS_NAMES, slots, SIZE, score_threshold=0.3, presence_threshold=0.3)
    segmenter = StreamSegmenter(model, slots, TrackLifecycle(None), clip_length=2, stride=2)
    answers = list(segmenter.run(scene.frame(t) for t in range(len(scene))))
    *seen, fewer = [set(x.track_ids[x.scores > 0].tolist()) for x in answers]
    assert seen == [{1, 2, 3}] * 3 and len(fewer) == 2 and fewer < seen[0]
    truth = write_youtube_vis([scene], tmp_path)
    with ResultsWriter(tmp_path / "results.json") as results:
        for instances in answers:
            results.add(1, instances.index, instances)
    scores = evaluate(str(truth), str(tmp_path / "results.json")).summary
    assert scores["AP50"] > 0.99 and scores["AP"] > 0.6
