"""The base of EfficientVIS is right: Sparse R-CNN of the same modules gives the published code's numbers."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.recorded_efficientvis import Case, as_recorded
from vis_core.models.efficientvis import published
from vis_core.models.efficientvis.sparse_rcnn import Batch, SparseRCNN
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.region_queries import pooled


@pytest.fixture(scope="module")
def tensors(shared, fill):
    arrays = fill(shared / "parity" / "sparse_rcnn" / "manifest.json")
    assert published.recognise(arrays.keys())
    return published.convert({key: torch.from_numpy(x) for key, x in arrays.items()})


@torch.inference_mode()
def test_images_of_two_sizes_give_the_recorded_numbers_at_every_step(tensors, shared):
    case = Case(shared, "case_1_two_images", "sparse_rcnn")
    resize = case.record["resize"]
    system = SparseRCNN(tensors, resize["shortest"], resize["longest"])
    images = [case.inputs[f"image{j}"] for j in range(2)]
    batch = system.batch(images)
    for j, image in enumerate(images):
        resized = system.transform.resize(image)
        np.testing.assert_array_equal(resized, case.expected[f"resized{j}"])
        assert batch.sizes[j] == tuple(resized.shape[:2])

    backbone = system.network.backbone(batch.images)
    case.check("res2", backbone[0][:, ::32, ::4, ::4])
    case.check("res5", backbone[3][:, ::128])
    levels = system.network.maps(batch.images)
    for i, (level, step) in enumerate(zip(levels, (4, 2, 1, 1))):
        case.check(f"p{i + 2}", level[:, ::16, ::step, ::step])

    outputs = system.stages(levels, batch)
    case.check("pred_boxes", torch.stack([out.boxes for out in outputs]))
    case.check("class_logits", torch.stack([out.logits for out in outputs])[:, :, ::4, ::4])
    case.check("object_features", torch.stack([out.queries for out in outputs])[:, :, ::4, ::8])

    queries, boxes = (torch.stack(x) for x in zip(*map(system.network.learned, batch.sizes)))
    first = system.network.head.stages()[0]
    regions = pooled(levels, boxes, 7)
    case.check("roi_stage0", as_recorded(regions, 7).flatten(0, 1)[::20, ::32])
    case.check("roi_stage5", as_recorded(pooled(levels, outputs[4].boxes, 7), 7).flatten(0, 1)[::20, ::32])
    found = first.inst_interact(first.attend(queries), regions, temporal=False)
    case.check("dynamic_conv_stage0", first.inst_interact.as_query(found)[:, ::4, ::8])


def test_the_detections_in_images_of_two_sizes_are_the_recorded_ones(tensors, shared):
    case = Case(shared, "case_1_two_images", "sparse_rcnn")
    system = SparseRCNN(tensors, case.record["resize"]["shortest"], case.record["resize"]["longest"])
    for j, found in enumerate(system([case.inputs[f"image{j}"] for j in range(2)])):
        case.check(f"image{j}/scores", found.scores)
        # Scores that rounding alone tells apart come in any order.
        case.check(f"image{j}/labels", found.labels[order := in_recorded_order(case, j, found)])
        case.check(f"image{j}/boxes", found.boxes[order])


def in_recorded_order(case, j, found):
    """For each recorded detection the row of its label whose score and box are nearest."""
    wanted = [torch.from_numpy(case.expected[f"image{j}/{key}"]) for key in ("scores", "labels", "boxes")]
    far = (found.scores - wanted[0][:, None]).abs() * 1e4 + (found.labels != wanted[1][:, None]) * 1e6
    order = (far + (found.boxes - wanted[2][:, None]).abs().amax(2)).argmin(1)
    assert sorted(order.tolist()) == list(range(len(order)))
    return order


def test_a_box_outside_its_image_is_dropped(tensors):
    class Out:
        logits = torch.tensor([[[3.0, -9.0], [2.0, 1.0], [-9.0, -8.0]]])
        boxes = torch.tensor([[[-30.0, 0, -10, 10], [10, 10, 50, 90], [0, 0, 9, 9]]])

    batch = Batch(torch.zeros(0), [(64, 32)], [(128, 64)])
    (found,) = SparseRCNN.detections(None, Out, batch)
    assert found.labels.tolist() == [0, 1]  # the same box under two labels
    torch.testing.assert_close(found.boxes, torch.tensor([[20.0, 20, 64, 128]] * 2))


def test_the_depth_is_that_of_the_file(tensors):
    deep = {f"backbone.{key}": x for key, x in ResNet(101).state_dict().items()}
    with_101 = {**{key: x for key, x in tensors.items() if not key.startswith("backbone.")}, **deep}
    assert SparseRCNN(with_101).network.backbone.depth == 101
