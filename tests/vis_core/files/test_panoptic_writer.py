"""Panoptic images as they are written: things over a map of all classes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vis_core import masks
from vis_core.errors import InputError
from vis_core.files.panoptic_images import decode_panoptic, encode_panoptic, read_panoptic
from vis_core.files.panoptic_writer import PanopticWriter
from vis_core.structures import Instances, TrackState

SIZE = (4, 6)


def box(y, x, height, width):
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return masks.encode(mask)


def instances(index, rows):
    """Rows of track id, label, mask, state."""
    count = len(rows)
    ids, labels, found, states = zip(*rows, strict=True) if rows else ((), (), (), ())
    zeros = np.zeros(count)
    return Instances(0, index, SIZE, ids, labels, zeros, zeros, np.zeros((count, 4)), found, states, *(zeros,) * 3)


def test_things_are_painted_over_the_map_with_class_and_track_id(tmp_path):
    semantic = np.full(SIZE, 0, np.uint8)
    semantic[0], semantic[3] = 255, 13  # the last row looks like a thing that no track has
    rows = [
        (300, 1, box(0, 0, 2, 2), TrackState.TRACKED),
        (7, 0, box(1, 1, 2, 2), TrackState.NEW),
        (9, 0, box(0, 4, 0, 0), TrackState.LOST),
    ]
    writer = PanopticWriter(tmp_path, "walk", (11, 13))
    path = writer.add(5, semantic, instances(5, rows))
    assert path == tmp_path / "walk" / "000005.png" and [*path.parent.iterdir()] == [path]
    expected = semantic.astype(np.int32) << 16
    expected[1:3, 1:3] = 11 << 16 | 7
    expected[0:2, 0:2] = 13 << 16 | 300  # the better one, which comes first, has the pixel of both
    np.testing.assert_array_equal(read_panoptic(path), expected)
    blue, green, red = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[0, 0].tolist()
    assert (red, green * 256 + blue) == (13, 300)


def test_a_frame_without_things_has_the_map_alone(tmp_path):
    semantic = np.arange(24, dtype=np.uint8).reshape(SIZE)
    path = PanopticWriter(tmp_path, "a", ()).add(0, semantic, instances(0, []))
    np.testing.assert_array_equal(read_panoptic(path), semantic.astype(np.int32) << 16)


@pytest.mark.parametrize(
    ("row", "semantic", "text"),
    [
        ((65536, 0), np.zeros(SIZE, np.uint8), "track id 65536 is not between 1 and 65535"),
        ((0, 0), np.zeros(SIZE, np.uint8), "track id 0 is not between"),
        ((1, 2), np.zeros(SIZE, np.uint8), "label 2 is not between 0 and 1"),
        ((1, 0), np.zeros((4, 5), np.uint8), r"map of classes is uint8 \(4, 5\), but the frame's is uint8 \(4, 6\)"),
        ((1, 0), np.zeros(SIZE, np.int64), "map of classes is int64"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, row, semantic, text):
    found = instances(0, [(*row, box(0, 0, 1, 1), TrackState.NEW)])
    with pytest.raises(InputError, match=text):
        PanopticWriter(tmp_path, "a", (11, 13)).add(0, semantic, found)
    assert not (tmp_path / "a").exists()


def test_every_class_and_number_comes_back():
    classes, numbers = (np.arange(65536) % 256).astype(np.uint8), np.arange(65536).astype(np.uint16)
    image = decode_panoptic(encode_panoptic(classes.reshape(256, 256), numbers.reshape(256, 256)))
    np.testing.assert_array_equal(image.ravel() >> 16, classes)
    np.testing.assert_array_equal(image.ravel() & 0xFFFF, numbers)
