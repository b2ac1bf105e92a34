"""Video K-Net, exported: clips of any length, and frames that look back; at any size of image."""

import pytest
import torch

from tests.vis_core.export.parity import assert_same_answers, exported_beside, video
from tests.vis_core.models.recorded_video_knet import SmallBackbone
from tests.vis_core.models.test_video_knet_online import frames_like, small_network, stream
from vis_core.models.video_knet.clip import VideoKNetModel
from vis_core.models.video_knet.network import ClipNetwork, Sizes
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # PyTorch takes half a minute a graph whose sizes change


def prepared(network):
    """As a system runs it: packed, by Winograd's form, its finest level as one; none of which is traced."""
    pack_convolutions(network)
    use_winograd(network)
    network.join_finest_level()
    return network


def clip_system():
    torch.manual_seed(0)
    network = ClipNetwork(SmallBackbone(), "fpn", 3, Sizes(kernels=8, width=32, heads=8, hidden=64))
    network.initialise()
    for key, x in network.state_dict().items():
        if key.endswith(("fc_cls.weight", "fc_mask.weight", "fc_mask.bias")):
            x.normal_(0, 0.3)
    network = prepared(network.eval().requires_grad_(False))
    model = VideoKNetModel(network, ("a", "b", "c"), (96, 160), False, 0.0, 50)
    return StreamSegmenter(model, OverlapAssociator(0.3), TrackLifecycle(30), 3, 1)


def test_clips_are_answered_as_by_the_network_that_they_were_exported_from(tmp_path):
    plain, exported = exported_beside(clip_system, tmp_path / "clip.onnx")
    assert_same_answers(plain, exported, video(size=(96, 160)))
    assert_same_answers(plain, exported, video(1, 3, (128, 96)))


@pytest.mark.parametrize("options", [{"linking": "update", "fusion": True}, {"stuff": 0, "linking": None}])
def test_frames_are_answered_as_by_the_network_that_they_were_exported_from(options, tmp_path):
    plain, exported = exported_beside(
        lambda: stream(prepared(small_network(**options)), score_threshold=0.0), tmp_path / "online.onnx"
    )
    assert_same_answers(plain, exported, frames_like(6))
    assert_same_answers(plain, exported, frames_like(3, (96, 70)))  # another size, and a stream that begins anew
