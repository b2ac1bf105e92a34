"""Annotated items: what each pixel shows."""

from __future__ import annotations

import numpy as np

from tests.vis_core.data.annotated import BOXES, SIZE, changed, coco, rectangle, run_lengths
from vis_core.data.annotation_files import read_annotations


def test_where_masks_overlap_the_smaller_is_in_front_and_crowds_are_apart(tmp_path):
    def change(content):
        boxes = (20, 20, 10, 10), (10, 10, 30, 30), (0, 0, 60, 60)
        for annotation, box in zip(content["annotations"], boxes):
            annotation["segmentation"] = run_lengths(rectangle(SIZE, box))

    path = changed(coco(tmp_path, {"boxes": [*BOXES, ("red", (0, 0, 5, 5))], "crowds": (2,)}), change)
    objects, crowds = read_annotations(path).items[0].object_images(0)
    assert objects.dtype == np.uint8
    assert objects[25, 25] == 1 and objects[15, 15] == 2 and objects[5, 5] == 0
    assert np.array_equal(crowds == 3, rectangle(SIZE, (0, 0, 60, 60)))


def test_more_objects_than_a_byte_counts_have_numbers_of_their_own(tmp_path):
    boxes = [("red", (4 * (i % 20), 4 * (i // 20), 3, 3)) for i in range(300)]
    objects, _ = read_annotations(coco(tmp_path, {"boxes": boxes})).items[0].object_images(0)
    assert objects.dtype == np.uint16 and np.array_equal(np.unique(objects), np.arange(301))
