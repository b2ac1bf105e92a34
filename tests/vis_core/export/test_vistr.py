"""VisTR, exported: windows of the length that its weights fix, at sizes of images that are a multiple of nothing."""

import pytest
from torch import nn

from tests.vis_core.export.parity import assert_same_answers, exported_beside, video
from tests.vis_core.models.gmp_vis.small_clip import small_network
from vis_core.models.gmp_vis.clip import VisTRModel, WholePixels
from vis_core.models.gmp_vis.linking import ClipAssociator
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # PyTorch takes half a minute a graph whose sizes change


def vistr_system():
    network = small_network(6, matching=True).eval().requires_grad_(False)
    nn.init.normal_(network.class_embed.weight, std=0.4)
    model = VisTRModel(network, ("a", "b", "c"), WholePixels(64), 0.1, True)
    model.score_threshold = model.presence_threshold = 0.0
    return StreamSegmenter(model, ClipAssociator(0.1, 6), TrackLifecycle(30, 100), 6, 2)


def test_vistr_answers_as_the_network_that_it_was_exported_from(tmp_path):
    plain, exported = exported_beside(vistr_system, tmp_path / "v.onnx")
    assert_same_answers(plain, exported, video(length=9))
    assert_same_answers(plain, exported, video(1, 3, (64, 81)))
