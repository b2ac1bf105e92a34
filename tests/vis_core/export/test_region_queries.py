"""TeViT and EfficientVIS, exported: windows of any length, at any size of image, each box pooled from its own level."""

import pytest
import torch
from torch import nn

from tests.vis_core.export.parity import assert_same_answers, exported_beside, on_its_pieces, video
from tests.vis_core.models import test_efficientvis_overfit as efficientvis
from tests.vis_core.models import test_tevit_overfit as tevit
from tests.vis_core.models.by_heart import SIZE, TinyBackbone
from vis_core.data.synthetic import CLASS_NAMES
from vis_core.errors import ExportError
from vis_core.export.onnx_graphs import traced
from vis_core.export.openvino_graphs import converted, write_openvino
from vis_core.models.efficientvis.model import EfficientVISModel
from vis_core.models.efficientvis.slots import Slots
from vis_core.models.tevit.model import TeViTModel
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn.graphs import Graph
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.roi_align import OPSET, box_levels, pyramid_roi_align
from vis_core.nn.runtimes import onnx_session, openvino_model
from vis_core.nn.winograd import use_winograd
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
# Of other sizes, and of a single frame; so large that a pixel on the edge of a random mask is no thousandth of it.
VIDEOS = ((0, 6, (384, 640)), (1, 3, (512, 384)), (2, 1, (256, 384)))


def prepared(network):
    """With boxes of all sizes and sure classes; packed and folded as a system runs it, none of which is traced."""
    network.eval().requires_grad_(False)
    nn.init.normal_(network.init_proposal_boxes.weight[:, :2], 0.5, 0.2)
    nn.init.uniform_(network.init_proposal_boxes.weight[:, 2:], 0.1, 0.9)
    for stage in network.head.stages():
        stage.mask_head.fold_norms()
        nn.init.normal_(stage.class_logits.weight, std=0.5)
        nn.init.zeros_(stage.class_logits.bias)
    pack_convolutions(network)
    use_winograd(network)
    return network


def tevit_system(backbone=None, runs="window"):
    network = tevit.tiny_network()
    if backbone is not None:
        torch.manual_seed(0)
        network = TeViTNetwork(backbone(), len(CLASS_NAMES), 5, tevit.DIMENSIONS)
        network.pyramid.initialise()
        network.head.initialise()
        for stage in network.head.stages():  # else rounding alone moves boxes, and what PyTorch says of masks with them
            stage.bboxes_delta.weight.data *= 0.1
    model = TeViTModel(prepared(network), CLASS_NAMES, SIZE, False, runs, 0.2, 0.1, max_instances=10)
    associator = OverlapAssociator(0.5, same_label=True, consecutive=True)
    return StreamSegmenter(model, associator, TrackLifecycle(30, 100), clip_length=3, stride=1)


def efficientvis_system():
    network = prepared(efficientvis.tiny_network())
    for stage in network.head.stages():
        nn.init.normal_(stage.temporal_attn.out_proj.weight, std=0.1)
    slots = Slots("confident", "last", max_lost_clips=1)
    model = EfficientVISModel(network, CLASS_NAMES, slots, SIZE, score_threshold=0.3, presence_threshold=0.1)
    return StreamSegmenter(model, slots, TrackLifecycle(None), clip_length=3, stride=1)


def tevit_without_messengers():
    return tevit_system(TinyBackbone)


def tevit_of(messengers):
    """With messengers that attend to each other, or none in the same backbone: ablations of the paper."""
    tokens = 0 if messengers == "none" else 4
    return lambda: tevit_system(lambda: MsgShifT(tokens, (64,) * 4, (1,) * 4, messengers, drop_path=0.0))


SYSTEMS = (tevit_system, tevit_without_messengers, efficientvis_system)


class Pooling(nn.Module):
    def forward(self, level4, level8, level16, level32, boxes, images):
        return pyramid_roi_align((level4, level8, level16, level32), boxes, images, 7)


@pytest.fixture(scope="module")
def pooling():
    """The inputs of `Pooling`, boxes of all levels and places, and its graph, in which their number is free."""
    random = torch.Generator().manual_seed(0)
    maps = {f"level{n}": torch.randn(2, 8, 96 // n, 160 // n, generator=random) for n in (4, 8, 16, 32)}
    places, sides = torch.rand(40, 2, generator=random), torch.rand(40, 2, generator=random)
    first = places * torch.tensor([220.0, 150]) - 30  # some lie outside, in part or all
    boxes = torch.cat((first, first + sides**3 * torch.tensor([900.0, 700])), 1)
    boxes[0, 2:] = boxes[0, :2]  # without extent
    inputs = maps | {"boxes": boxes, "images": torch.arange(40) % 2}
    sizes = {name: {0: "boxes"} for name in ("boxes", "images")}
    return inputs, traced("pooling", Graph(Pooling(), inputs, ("pooled",), sizes, opset=OPSET))


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_boxes_are_pooled_from_their_own_levels_also_where_a_level_has_none(pooling, form, tmp_path):
    inputs, model = pooling
    if form == "onnx":
        run = onnx_session(model.SerializeToString(), "cpu", 1)
    else:
        pytest.importorskip("openvino")
        write_openvino(tmp_path / "p", {"pooling": converted(model)}, {})
        run = openvino_model(tmp_path / "p/pooling.xml", "cpu", 1, "fp32")
    *maps, boxes, images = inputs.values()
    levels = box_levels(boxes)
    assert levels.unique().tolist() == [0, 1, 2, 3]
    for rows in (torch.arange(40), (levels == 1).nonzero()[:, 0], torch.tensor([7])):
        (found,) = run(*(x.numpy() for x in (*maps, boxes[rows], images[rows])))
        expected = pyramid_roi_align(maps, boxes[rows], images[rows], 7)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-5)


ABLATIONS = [pytest.param(tevit_of(x), marks=pytest.mark.slow, id=x) for x in ("attention", "none")]


@pytest.mark.parametrize("make", [*SYSTEMS, *ABLATIONS])
def test_the_pieces_that_are_exported_answer_as_the_whole(make):
    assert_same_answers(make(), on_its_pieces(make()), video(length=4))


@pytest.mark.slow
@pytest.mark.timeout(2400)  # PyTorch takes half a minute a graph whose sizes change
@pytest.mark.parametrize("make", SYSTEMS)
def test_it_answers_as_the_network_that_it_was_exported_from(make, tmp_path):
    pytest.importorskip("openvino")
    paths = tmp_path / "e.onnx", tmp_path / "e_openvino_model"
    plain, *exported = exported_beside(make, *paths, frames=video(*VIDEOS[0]))
    for other in exported:
        for arguments in VIDEOS:
            assert_same_answers(plain, other, video(*arguments))


def test_a_backbone_that_remembers_the_stream_is_refused_with_the_reason():
    with pytest.raises(ExportError, match=r"backbone=stream: cannot be exported, since .*; use backbone=window"):
        tevit_system(runs="stream").model.graphs()
