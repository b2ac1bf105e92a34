"""A tiny TeViT learns a synthetic scene by heart, and finds its objects again in windows that overlap."""

import numpy as np
import pytest
import torch

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.tevit.model import TeViTModel
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.models.tevit.training import TeViTTraining
from vis_core.nn.region_queries import Dimensions
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

STEPS, SIZE, QUERIES = 150, (96, 160), 5
DIMENSIONS = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=2)


def tiny_network():
    torch.manual_seed(0)
    backbone = MsgShifT(tokens=4, widths=(64, 64, 64, 64), depths=(1, 1, 1, 1), drop_path=0.0)
    network = TeViTNetwork(backbone, len(CLASS_NAMES), QUERIES, DIMENSIONS)
    network.initialise()
    for stage in network.head.stages():
        stage.bboxes_delta.weight.data *= 0.1  # so narrow a layer would begin with boxes far from the picture
    return network


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(tmp_path):
    scene = synthetic_video(1, length=4, size=SIZE, objects=3, radius=(0.2, 0.28))
    masks = np.stack([scene.object_image == 1 + item for item in range(3)])
    assert masks[:, :3].any((2, 3)).all() and not masks[2, 3].any()  # one leaves
    network = tiny_network()
    training = TeViTTraining(network)
    optimizer = torch.optim.AdamW(training.parameters(), 2e-3, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    random = np.random.default_rng(0)  # frames come in any order
    first, last = {}, {}
    for _ in range(STEPS):
        order = random.permutation(4)
        clip = TrainingClip(
            images=scene.frames[order],
            masks=masks[:, order],
            labels=scene.labels,
            exhaustive=np.ones(len(CLASS_NAMES), bool),
            ignore_masks=np.zeros((0, *scene.object_image.shape), bool),
            ignore_labels=np.zeros(0, np.int64),
        )
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
    model = TeViTModel(network, CLASS_NAMES, SIZE, False, "window", 0.3, 0.3, max_instances=10)
    associator = OverlapAssociator(0.5, same_label=True, consecutive=True)
    segmenter = StreamSegmenter(model, associator, TrackLifecycle(30, 100), clip_length=2, stride=1)
    answers = list(segmenter.run(scene.frame(t) for t in range(len(scene))))
    *seen, fewer = [set(x.track_ids[x.scores > 0].tolist()) for x in answers]
    assert seen == [{1, 2, 3}] * 3 and len(fewer) == 2 and fewer < seen[0]
    truth = write_youtube_vis([scene], tmp_path)
    with ResultsWriter(tmp_path / "results.json") as results:
        for instances in answers:
            results.add(1, instances.index, instances)
    scores = evaluate(str(truth), str(tmp_path / "results.json")).summary
    assert scores["AP50"] > 0.99 and scores["AP"] > 0.7
