"""Boxes and areas against masks: mistakes of a whole file are named by their cause, and sound files raise no alarm."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.vis_core.data.annotated import run_lengths
from vis_core.data.faults import Faults
from vis_core.files.redundancy import Redundancy
from vis_core.files.segmentations import SegmentationReader

SIZES = ((60, 80), (90, 50), (48, 48), (120, 160))
WIDE = ((60, 80), (120, 160))


def blob(size, rng):
    """A convex mask somewhere in an image."""
    height, width = size
    ys, xs = np.mgrid[:height, :width]
    y, x = rng.uniform(0.2, 0.8, 2) * size
    b, a = rng.uniform(0.08, 0.3, 2) * size
    return ((ys - y) / b) ** 2 + ((xs - x) / a) ** 2 <= 1


def tight(mask):
    ys, xs = np.nonzero(mask)
    return [float(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]


def sample(count=12, sizes=SIZES, seed=0):
    """Annotations of images, right in all, with the size of each and its mask."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        size = sizes[number % len(sizes)]
        mask = blob(size, rng)
        annotation = {"segmentation": run_lengths(mask), "bbox": tight(mask), "area": int(mask.sum())}
        made.append((annotation, size, mask))
    return made


def by_rows(mask):
    """Run lengths of a mask as who forgets the order of columns writes them."""
    flat = np.concatenate(([0], mask.ravel().astype(int), [2]))
    edges = np.flatnonzero(np.diff(flat))
    runs = np.diff(edges, prepend=0).tolist()
    return {"size": list(mask.shape), "counts": runs}


def compared(annotations, **options):
    """The findings by kind, and the refusal."""
    faults = Faults(frames=False)
    reader, redundancy = SegmentationReader(faults, polygons=True), Redundancy(faults, **options)
    for index, (annotation, size, _) in enumerate(annotations):
        place = f"annotations[{index}]"
        segmentations = annotation.get("segmentations", [annotation.get("segmentation")])
        masks, areas = reader.add_track(segmentations, size, place, index)
        redundancy.add(annotation, segmentations, masks, areas, size, place)
    reader.finish()
    refusal = redundancy.finish()
    return {found.kind: found for found in faults.findings()}, refusal


def with_boxes(annotations, change):
    for annotation, size, _ in annotations:
        annotation["bbox"] = [float(v) for v in change(*annotation["bbox"], *size)]
    return annotations


def test_a_sound_file_raises_no_alarm():
    assert compared(sample(60)) == ({}, "")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda x, y, w, h, H, W: (x, y, x + w, y + h), "the boxes look written as x1, y1, x2, y2"),
        (lambda x, y, w, h, H, W: (x, y, x + w - 1, y + h - 1), "the boxes look written as x1, y1, x2, y2"),
        (lambda x, y, w, h, H, W: (y, x, y + h, x + w), "the boxes look written as y1, x1, y2, x2"),
        (lambda x, y, w, h, H, W: (y, x, h, w), "x and y look swapped"),
        (lambda x, y, w, h, H, W: (x + w / 2, y + h / 2, w, h), "written as centre x, centre y, width, height"),
        (lambda x, y, w, h, H, W: (x / W, y / H, w / W, h / H), "the boxes look in parts of the image (0 to 1)"),
        (
            lambda x, y, w, h, H, W: np.round(((x + w / 2) / W, (y + h / 2) / H, w / W, h / H), 3),
            "written as centre x, centre y, width, height and in parts of the image (0 to 1)",
        ),
        (lambda x, y, w, h, H, W: (100 * x / W, 100 * y / H, 100 * w / W, 100 * h / H), "in percent of the image"),
        (lambda x, y, w, h, H, W: (x / 2, y / 2, w / 2, h / 2), "scaled by 0.5 in x and 0.5 in y"),
        (
            lambda x, y, w, h, H, W: (x * 640 / W, y * 384 / H, w * 640 / W, h * 384 / H),
            "in pixels of images of 640x384",
        ),
    ],
)
def test_boxes_that_are_written_otherwise_are_named_by_their_cause(change, cause):
    findings, refusal = compared(with_boxes(sample(), change))
    (kind,) = findings
    assert kind.startswith("bbox unlike the mask: ") and cause in kind and not refusal
    assert findings[kind].count >= 9  # a few fit within the tolerance all the same
    assert cause in findings[kind].examples[0] and f"({findings[kind].count} of 12 boxes)" in findings[kind].examples[0]


def test_boxes_counted_from_one_are_told_though_they_are_near():
    findings, refusal = compared(with_boxes(sample(), lambda x, y, w, h, H, W: (x + 1, y + 1, w, h)))
    assert findings["bbox counted from 1"].count == 12 and len(findings) == 1 and not refusal


@pytest.mark.parametrize("sizes", [SIZES, WIDE, WIDE[:1]])
@pytest.mark.parametrize("count", [1, 12])
def test_run_lengths_taken_row_by_row_are_refused_with_a_way_out(sizes, count):
    annotations = sample(count, sizes)
    for annotation, _, mask in annotations:
        annotation["segmentation"] = by_rows(mask)
    _, refusal = compared(annotations)
    wide = sum(size[0] != size[1] for _, size, _ in annotations)
    assert refusal.startswith(f"{wide} of {wide} masks contradict their boxes: the run lengths look taken row by row")
    assert "annotations[0]: bbox [" in refusal
    assert "pycocotools.mask.encode(numpy.asfortranarray(mask))" in refusal and "take bbox out of the file" in refusal


def test_compressed_run_lengths_row_by_row_are_refused_too():
    annotations = sample(12, WIDE)
    for annotation, size, mask in annotations:
        text = coco_mask.encode(np.asfortranarray(mask.T, np.uint8))["counts"].decode()
        annotation["segmentation"] = {"size": list(size), "counts": text}
    assert "12 of 12 masks contradict their boxes: the run lengths look taken row by row" in compared(annotations)[1]


def test_height_and_width_swapped_are_refused():
    annotations = [(annotation, size[::-1], mask) for annotation, size, mask in sample(12, WIDE)]
    for annotation, size, _ in annotations:
        annotation["segmentation"]["size"] = list(size)
    _, refusal = compared(annotations)
    assert "masks contradict their boxes: height and width of the images look swapped" in refusal


def test_in_square_images_both_readings_of_swapped_axes_are_told():
    annotations = sample(12, ((64, 64),))
    for annotation, _, mask in annotations:
        annotation["segmentation"] = by_rows(mask)
    findings, refusal = compared(annotations)
    (kind,) = findings
    assert "x and y look swapped in the boxes, or run lengths taken row by row" in kind and not refusal


def test_a_part_of_the_masks_row_by_row_is_told_and_not_refused():
    annotations = sample(12, WIDE)
    for annotation, _, mask in annotations[:3]:
        annotation["segmentation"] = by_rows(mask)
    findings, refusal = compared(annotations)
    (kind,) = findings
    assert "run lengths look taken row by row" in kind and findings[kind].count == 3 and not refusal


def test_boxes_of_the_whole_image_fit_any_reading_and_refuse_nothing():
    findings, refusal = compared(with_boxes(sample(12, WIDE), lambda x, y, w, h, H, W: (0, 0, W, H)))
    assert [*findings] == ["bbox unlike the mask"] and not refusal


def test_a_few_boxes_of_others_are_told_with_their_values():
    annotations = sample()
    annotations[3][0]["bbox"], annotations[7][0]["bbox"] = [1, 2, 3, 4], [-9.5, 7, 60, 70]
    findings, refusal = compared(annotations)
    (found,) = findings.values()
    box = [int(v) for v in tight(annotations[3][2])]
    assert found.kind == "bbox unlike the mask" and found.count == 2 and not refusal
    assert found.examples[0] == f"annotations[3]: bbox [1, 2, 3, 4], but the mask's box is {box}"


@pytest.mark.parametrize(
    "box",
    ["7", [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, None], {}, [1.0, 2.0, 3.0, float("nan")], [10**400, 1, 2, 3], 7, True],
)
def test_a_box_that_is_none_is_told_and_not_compared(box):
    annotations = sample()
    annotations[2][0]["bbox"] = box
    findings, _ = compared(annotations)
    assert [*findings] == ["bbox not compared"] and "annotations[2]: bbox" in findings["bbox not compared"].examples[0]


def test_numbers_of_any_size_are_compared():
    annotations = sample()
    annotations[2][0].update(bbox=[1e308, -1e308, 1e308, 1e308], area=1e308)
    assert [*compared(annotations)[0]] == ["area unlike the mask", "bbox unlike the mask"]


@pytest.mark.parametrize("box", [None, [], [0, 0, 0, 0], [0.0] * 4])
def test_boxes_that_say_nothing_do_not_count(box):
    assert compared([({**annotation, "bbox": box}, size, mask) for annotation, size, mask in sample()]) == ({}, "")


def test_crowds_and_faulty_masks_do_not_count():
    annotations = with_boxes(sample(), lambda x, y, w, h, H, W: (y, x, h, w))
    for annotation, _, _ in annotations[:-1]:
        annotation.update(iscrowd=1, area=1)
    annotations[-1][0]["segmentation"] = {"size": list(annotations[-1][1]), "counts": "~"}
    findings, _ = compared(annotations)
    assert [*findings] == ["mask skipped"]


def test_frames_of_a_video_are_compared_each():
    (first, size, mask), (other, _, _) = sample(2, ((60, 80),))
    video = {
        "segmentations": [first["segmentation"], None, other["segmentation"]],
        "bboxes": [first["bbox"], [3, 3, 9, 9], first["bbox"]],
        "areas": [first["area"], None, 5 * other["area"]],
    }
    findings, _ = compared([(video, size, mask)])
    assert [(found.kind, found.count) for found in findings.values()] == [
        ("areas unlike the mask", 1),
        ("bboxes unlike the mask", 1),
    ]
    findings, _ = compared([({**video, "bboxes": [first["bbox"]], "areas": 7}, size, mask)])
    assert [*findings] == ["bboxes not compared", "areas not compared"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda area, w, h, H, W: w * h, "the areas look like width x height of the boxes"),
        (lambda area, w, h, H, W: area / (H * W), "the areas look like parts of the image, not pixels"),
        (lambda area, w, h, H, W: 4 * area, "the areas look scaled by 4"),
    ],
)
def test_areas_of_something_else_are_named_by_their_cause(change, cause):
    annotations = [entry for entry in sample(40) if entry[2].sum() > 100]
    for annotation, size, _ in annotations:
        annotation["area"] = change(annotation["area"], *annotation["bbox"][2:], *size)
    findings, refusal = compared(annotations, areas_decide=True)
    (kind,) = findings
    assert kind == f"area unlike the mask: {cause}" and findings[kind].count == len(annotations) and not refusal
    assert findings[kind].examples[0].endswith(f"{cause}; areas decides the size range")


def test_polygons_with_their_own_boxes_and_areas_raise_no_alarm():
    rng = np.random.default_rng(1)
    annotations = []
    for number in range(200):
        size = SIZES[number % 4]
        middle = rng.uniform(0.1, 0.9, 2) * size[::-1]
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        reach = rng.uniform(1, 30, 9)
        points = (middle + np.stack((np.cos(angles), np.sin(angles)), 1) * reach[:, None]).clip(0, size[::-1])
        x, y = points.T
        low, high = points.min(0), points.max(0)
        area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        box = [*low, *(high - low)]
        annotation = {"segmentation": [points.ravel().tolist()], "bbox": [round(v, 2) for v in box], "area": area}
        annotations.append((annotation, size, None))
    findings, refusal = compared(annotations)
    assert not refusal and not findings


@pytest.mark.parametrize("nothing", [None, []])
def test_areas_where_nothing_is_marked_are_told(nothing):
    annotations = sample(3)
    annotations[1][0].update(segmentation=nothing, area=500)
    findings, refusal = compared(annotations)
    assert findings["area unlike the mask"].examples == ("annotations[1]: area says 500, the mask has 0 pixels",)
    assert len(findings) == 1 and not refusal


def test_boxes_drawn_by_hand_raise_no_alarm():
    rng = np.random.default_rng(2)
    annotations = with_boxes(sample(60), lambda x, y, w, h, H, W: np.array((x, y, w, h)) + rng.uniform(-0.9, 0.9, 4))
    assert compared(annotations) == ({}, "")


def test_predicted_boxes_may_lie_beside_their_masks_and_are_told_only_as_a_whole():
    rng = np.random.default_rng(3)
    annotations = with_boxes(
        sample(60), lambda x, y, w, h, H, W: np.array((x, y, w, h)) + 0.1 * np.array((w, h, w, h)) * rng.normal(size=4)
    )
    annotations[0][0]["bbox"] = [1, 2, 3, 4]
    assert compared(annotations, predicted=True) == ({}, "")
    corners = with_boxes(annotations, lambda x, y, w, h, H, W: (x, y, x + w, y + h))
    (kind,) = compared(corners, predicted=True)[0]
    assert "the boxes look written as x1, y1, x2, y2" in kind


def test_predictions_row_by_row_are_refused():
    rng = np.random.default_rng(4)
    annotations = with_boxes(
        sample(20, WIDE), lambda x, y, w, h, H, W: np.array((x, y, w, h)) + 0.05 * w * rng.normal(size=4)
    )
    for annotation, _, mask in annotations:
        annotation["segmentation"] = by_rows(mask)
    assert "the run lengths look taken row by row" in compared(annotations, predicted=True)[1]


def test_areas_of_polygons_whose_parts_overlap_raise_no_alarm():
    parts = [[5, 5, 45, 5, 45, 45, 5, 45], [10, 10, 50, 10, 50, 50, 10, 50]]
    annotation = {"segmentation": parts, "bbox": [5, 5, 45, 45], "area": 3200}
    assert compared([(annotation, (60, 80), None)]) == ({}, "")
    assert [*compared([({**annotation, "area": 6000}, (60, 80), None)])[0]] == ["area unlike the mask"]
