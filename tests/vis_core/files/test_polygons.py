"""Polygons of all forms: what is sound is kept whatever stands beside it, and one verdict holds for every reader."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.vis_core.data.annotated import BOXES, SIZE, changed, coco, findings_of, masks_of, rectangle
from vis_core.errors import InputError
from vis_core.evaluation import read_ground_truth

SQUARE = [5, 5, 25, 5, 25, 25, 5, 25]
PAIRS = [[5, 5], [25, 5], [25, 25], [5, 25]]
NAN = float("nan")
RUNS = [305, *[20, 40] * 19, 20, 3335]  # the same square


def told(path, segmentation):
    """What inspect and train find in a file with this mask, and what evaluate warns of in it or refuses."""
    path = changed(path, lambda c: c["annotations"][0].update(segmentation=segmentation))
    annotated, findings = findings_of(path)
    try:
        truth = read_ground_truth(path)
    except InputError as error:
        return annotated, findings, str(error), None
    return annotated, findings, "\n".join(truth.warnings), truth.tracks[1][0]


@pytest.fixture
def sample(tmp_path):
    return coco(tmp_path, {"boxes": BOXES})


@pytest.mark.parametrize(
    ("segmentation", "kind", "text"),
    [
        (
            [SQUARE, [1, 2, 3, 4]],
            "polygon without area",
            "polygon 1 has 4 numbers; give x and y of three points or more",
        ),
        ([[1, 2], SQUARE], "polygon without area", "polygon 0 has 2 numbers"),
        ([[], SQUARE], "polygon without area", "polygon 0 has 0 numbers"),
        ([SQUARE, [1, 1, 9, 9, 5, 5]], "polygon without area", "all points of polygon 1 lie on a line"),
        ([SQUARE, [7.3] * 6], "polygon without area", "all points of polygon 1 lie on a line"),
        ([SQUARE, [90, 5, 99, 5, 99, 9]], "polygon without area", "polygon 1 lies outside the image of 80x60"),
        (PAIRS, "polygon of [x, y] pairs", "points are [x, y] pairs, COCO has them in one flat list; taken as that"),
        ([PAIRS], "polygon of [x, y] pairs", "points are [x, y] pairs"),
        ([SQUARE, PAIRS], "polygon of [x, y] pairs", "points are [x, y] pairs"),
        (SQUARE, "polygon of one flat list", "one flat list, COCO has a list of such lists; taken as one polygon"),
        (
            {"size": [60, 80], "counts": [float(r) for r in RUNS]},
            "counts written as floats",
            "counts hold whole floats",
        ),
    ],
)
def test_what_is_sound_in_a_mask_is_kept_and_the_rest_told(sample, segmentation, kind, text):
    annotated, findings, warnings, track = told(sample, segmentation)
    assert findings[kind].count == 1 and text in findings[kind].examples[0]
    assert np.array_equal(masks_of(annotated.items[0])[0], rectangle(SIZE, (5, 5, 20, 20)))
    assert text in warnings and track.areas[0] == 400


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        ([[1, 2, 3, 4]], "polygon 0 has 4 numbers; give x and y of three points or more"),
        ([[1, 2], [3, 4]], "polygon 0 has 2 numbers"),
        ([SQUARE, [1, 2, 3]], "polygon 1 has 3 numbers"),
        ([SQUARE[:7]], "polygon 0 has 7 numbers; give x and y of three points or more"),
        ([[90, 5, 99, 5, 99, 9]], "polygon 0 lies outside the image of 80x60"),
        ([[5, 5, 25, NAN, 25, 25]], "polygon 0 holds NaN; give pixels"),
        ([[5, 5, 25, "7", 25, 25]], 'polygon 0 holds "7"; give pixels'),
        ([[[5, 5], [25, "7"], [25, 25]]], 'polygon 0 holds "7"; give pixels'),
        ([[5, 5, 25, None, 25, 25]], "polygon 0 holds null; give pixels"),
        ([[5, 5, 25, True, 25, 25]], "polygon 0 holds true; give pixels"),
        ([[5, 5, 25, 1e300, 25, 25]], "polygon 0 holds 1e+300; give pixels"),
        ([SQUARE, 7], "segmentation[1] 7 is not a polygon"),
        ([7, SQUARE], "segmentation[0] 7 is not a polygon"),
        ([{"x": 1, "y": 2}] * 3, "segmentation[0] an object of 2 keys is not a polygon; give [x0, y0, x1, y1, ...]"),
        ([[0.1, 0.1, 0.3, 0.1, 0.3, 0.3]], "the polygons lie between 0 and 1: are they parts of the width and height?"),
        (json.dumps([SQUARE]), "give run lengths or polygons (not its text) or null"),
        ({"size": [60, 80], "counts": json.dumps(RUNS)}, "it is the text of a list: give the list itself"),
        ({"size": [60, 80], "counts": "[4800]"}, "it is the text of a list: give the list itself"),
        ({"size": [60, 80], "counts": str(b"abc")}, "it is Python's text of bytes: write counts.decode()"),
        ({"size": [60, 80], "counts": "305 20 3335 20"}, "runs as numbers are given as a list"),
        ({"size": [60, 80], "counts": [*RUNS[:-1], 3335.5]}, "counts hold 3335.5; runs are integers"),
        ({"size": [60, 80], "counts": [*RUNS[:-1], None]}, "counts hold null; runs are integers"),
        ({"size": [60, 80], "counts": [str(run) for run in RUNS]}, 'counts hold "305"; runs are integers'),
    ],
)
def test_a_mask_that_cannot_be_used_is_named_alike(sample, segmentation, text):
    annotated, findings, refusal, track = told(sample, segmentation)
    assert [*findings] == ["mask skipped"] and text in findings["mask skipped"].examples[0]
    assert len(annotated.items[0].annotations) == 1
    assert track is None and text in refusal and "annotations[0]" in refusal


def test_a_mask_of_nothing_but_a_line_is_empty(sample):
    annotated, findings, warnings, track = told(sample, [[1, 1, 9, 9, 5, 5]])
    assert "the mask is empty" in findings["polygon without area"].examples[0]
    assert len(annotated.items[0].annotations) == 1
    assert "the mask is empty" in warnings and track.areas[0] == 0


def test_lists_of_nothing_are_no_mask(sample):
    annotated, findings, warnings, track = told(sample, [[], []])
    assert [*findings] == ["annotation that is never visible"] and len(annotated.items[0].annotations) == 1
    assert "no frame has a mask" in warnings and track.masks == (None,)


def test_a_polygon_that_crosses_itself_is_a_mask(sample):
    crossing = [5, 5, 25, 25, 25, 5, 5, 25]
    annotated, findings, _, _ = told(sample, [crossing])
    assert not findings
    expected = coco_mask.decode(coco_mask.frPyObjects([[float(v) for v in crossing]], *SIZE))[..., 0]
    assert expected.sum() > 150 and np.array_equal(masks_of(annotated.items[0])[0], expected)
