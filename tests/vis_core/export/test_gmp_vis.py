"""GMP-VIS, exported: at sizes that are a multiple of nothing, with and without a memory of tracks."""

import pytest
from torch import nn

from tests.vis_core.export.parity import assert_same_answers, exported_beside, on_its_pieces, video
from tests.vis_core.models.gmp_vis.test_online_model import segmenter, sure_network
from vis_core.nn.deformable_attention import MultiScaleDeformableAttention

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
VIDEOS = ((0, 4), (1, 3, (75, 50)))  # of other sizes; each is a stream that begins anew


def online_system(temporal=True):
    network = sure_network(temporal)
    layers = [network.mask_head.conv_offset, *([network.matching.aggregation.attention.out_proj] if temporal else ())]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.3)
    for module in network.modules():
        if isinstance(module, MultiScaleDeformableAttention):
            nn.init.normal_(module.sampling_offsets.weight, std=0.1)
    return segmenter(network, score_threshold=0.0)


@pytest.mark.parametrize("temporal", [True, False])
def test_the_pieces_that_are_exported_answer_as_the_whole(temporal):
    assert_same_answers(online_system(temporal), on_its_pieces(online_system(temporal)), video(length=3))


@pytest.mark.slow
@pytest.mark.timeout(2400)  # PyTorch takes half a minute a graph whose sizes change
def test_it_answers_as_the_network_that_it_was_exported_from(tmp_path):
    pytest.importorskip("openvino")
    plain, *exported = exported_beside(online_system, tmp_path / "g.onnx", tmp_path / "g_openvino_model")
    for other in exported:
        for arguments in VIDEOS:
            assert_same_answers(plain, other, video(*arguments))
