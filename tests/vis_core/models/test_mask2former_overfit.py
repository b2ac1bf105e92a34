"""A tiny Mask2Former-VIS and a tiny MinVIS learn a synthetic scene by heart, and find its tracks again."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.vis_core.models.made_of_networks import mask2former_vis, minvis
from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION
from vis_core.data.sources import open_sources
from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.training import Mask2FormerVISTraining

STEPS, BATCH, SIZE = 150, 2, (96, 160)


class TinyBackbone(nn.Module):
    """A convolution for each stride."""

    channels = (32, 48, 64, 64)

    def __init__(self):
        super().__init__()
        inputs = (3, *self.channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 7 if i == 0 else 3, 4 if i == 0 else 2, 3 if i == 0 else 1),
                nn.GroupNorm(8, b),
                nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=1),
                nn.GroupNorm(8, b),
                nn.ReLU(),
            )
            for i, (a, b) in enumerate(zip(inputs, self.channels))
        )

    def forward(self, images):
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps


@pytest.mark.slow
@pytest.mark.parametrize("space_time", [True, False], ids=["mask2former-vis", "minvis"])
def test_a_short_training_learns_one_scene_by_heart(space_time, tmp_path):
    torch.manual_seed(0)
    scene = synthetic_video(1, length=4, size=SIZE, objects=3, radius=(0.2, 0.28))
    truth = write_youtube_vis([scene], tmp_path)
    annotated = read_annotations(truth, class_names=CLASS_NAMES)
    (source,) = open_sources([annotated], 2, SIZE, NO_AUGMENTATION)
    network = Mask2FormerVISNetwork(TinyBackbone(), 3, 8, 64, 2, 3, (128, 128))
    network.initialise()
    training = Mask2FormerVISTraining(network, space_time, points=1024, labels_from_visible_frame=True)
    optimizer = torch.optim.AdamW(training.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    first, last = {}, {}
    for step in range(STEPS):
        clips = [source.clip(0, np.random.default_rng([step, i])) for i in range(BATCH)]
        parts = training(clips, lambda x: x)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        first = first or {name: float(x.detach()) for name, x in parts.items()}
        last = {name: float(x.detach()) for name, x in parts.items()}
    for name, loss in last.items():
        assert loss < 0.5 * first[name], (name, first[name], loss)

    network.eval().requires_grad_(False)
    segmenter = mask2former_vis(network, CLASS_NAMES, clip_length=3) if space_time else minvis(network, CLASS_NAMES)
    with ResultsWriter(tmp_path / "results.json") as results:
        for t in range(len(scene)):
            for instances in segmenter.step(scene.frame(t)):
                results.add(1, instances.index, instances)
        for instances in segmenter.flush():
            results.add(1, instances.index, instances)
    scores = evaluate(str(truth), str(tmp_path / "results.json")).summary
    assert scores["AP50"] > 0.99 and scores["AP"] > 0.6
