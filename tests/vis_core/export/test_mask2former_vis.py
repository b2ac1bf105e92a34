"""Mask2Former-VIS and MinVIS, exported: the same answers at any size of image, from the first frame of a window on."""

import pytest
import torch
from torch import nn

from tests.vis_core.export.parity import assert_same_answers, exported_beside, video
from tests.vis_core.models.by_heart import TinyBackbone
from tests.vis_core.models.made_of_networks import mask2former_vis, minvis
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.nn.deformable_attention import MultiScaleDeformableAttention

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # PyTorch takes half a minute a graph whose sizes change
NAMES = ("a", "b", "c")


def tiny_network():
    torch.manual_seed(2)  # some others amplify rounding: PyTorch differs by 1e-4 between one thread and two
    network = Mask2FormerVISNetwork(TinyBackbone(), 3, 8, 64, 1, 3, (64, 64))
    network.initialise()
    for module in network.modules():
        if isinstance(module, MultiScaleDeformableAttention):
            nn.init.normal_(module.sampling_offsets.weight, std=0.1)
    return network.eval().requires_grad_(False)


def test_minvis_answers_as_the_network_that_it_was_exported_from(tmp_path):
    plain, exported = exported_beside(lambda: minvis(tiny_network(), NAMES, score_threshold=0), tmp_path / "m.onnx")
    assert_same_answers(plain, exported, video(size=(96, 160)))
    assert_same_answers(plain, exported, video(1, 3, (128, 96)))


def test_mask2former_vis_answers_as_the_network_that_it_was_exported_from(tmp_path):
    plain, exported = exported_beside(
        lambda: mask2former_vis(tiny_network(), NAMES, clip_length=3, score_threshold=0), tmp_path / "m.onnx"
    )
    assert_same_answers(plain, exported, video(size=(96, 160)))
    assert_same_answers(plain, exported, video(1, 3, (128, 96)))
