"""Depth images: pairing by stamps, units by encodings, and cameras from their infos."""

from types import SimpleNamespace

import numpy as np
import pytest

from vis_core.errors import InputError
from vis_ros.node.depth import DepthBuffer, camera_of, depth_metres

MS = 1_000_000


def header(stamp):
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="camera")


def image(values, encoding="16UC1", stamp=0, padding=0, big=False):
    kind = np.dtype(values.dtype).newbyteorder(">" if big else "<")
    rows = np.zeros((values.shape[0], values.shape[1] + padding), kind)
    rows[:, : values.shape[1]] = values
    return SimpleNamespace(
        header=header(stamp),
        height=values.shape[0],
        width=values.shape[1],
        step=rows.strides[0],
        encoding=encoding,
        is_bigendian=int(big),
        data=rows.tobytes(),
    )


def info(height=240, width=320, **changes):
    fields = {
        "k": [300.0, 0, 160, 0, 300, 120, 0, 0, 1],
        "d": [],
        "p": [290.0, 0, 160, 0, 0, 290, 120, 0, 0, 0, 1, 0],
        "distortion_model": "plumb_bob",
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(height=height, width=width, **{**fields, **changes})


def filled(stamps, slop=16 * MS):
    buffer = DepthBuffer(slop)
    buffer.add_info(info())
    for stamp in stamps:
        buffer.add(image(np.full((2, 3), stamp // MS, np.uint16), stamp=stamp))
    return buffer


def test_the_nearest_depth_image_within_the_slop_is_taken():
    buffer = filled([0, 33 * MS, 66 * MS])
    assert buffer.nearest(30 * MS)[0].header.stamp.nanosec == 33 * MS
    assert buffer.nearest(66 * MS)[0].header.stamp.nanosec == 66 * MS
    assert (buffer.counts.paired, buffer.counts.unpaired, buffer.counts.received) == (2, 0, 3)


def test_an_image_without_a_depth_image_is_counted_with_its_distance():
    buffer = filled([0, 33 * MS])
    assert buffer.nearest(100 * MS) is None
    assert buffer.counts.unpaired == 1 and buffer.counts.nearest == pytest.approx(-0.067)
    assert DepthBuffer(MS).nearest(0) is None


def test_without_camera_info_there_is_no_pair():
    buffer = DepthBuffer(MS)
    buffer.add(image(np.zeros((2, 2), np.uint16)))
    assert buffer.nearest(0) is None and buffer.counts.nearest == 0


def test_images_are_kept_for_as_long_as_an_answer_may_take_and_no_longer():
    buffer = filled([n * 33 * MS for n in range(200)])
    assert buffer.nearest(199 * 33 * MS - 1_900 * MS) is not None
    assert buffer.nearest(199 * 33 * MS - 2_100 * MS) is None


def test_time_that_goes_back_begins_anew():
    buffer = filled([5_000 * MS, 33 * MS])
    assert buffer.nearest(5_000 * MS) is None
    assert buffer.nearest(33 * MS) is not None


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
def test_the_encoding_decides_the_unit(big, padding):
    millimetres = np.array([[1500, 0], [65535, 1]], np.uint16)
    expected = [[1.5, np.nan], [65.535, 0.001]]
    assert np.allclose(depth_metres(image(millimetres, padding=padding, big=big)), expected, equal_nan=True)
    in_metres = np.array([[1.5, np.nan], [np.inf, 0.001]], np.float32)
    found = depth_metres(image(in_metres, "32FC1", padding=padding, big=big))
    assert np.allclose(found, [[1.5, np.nan], [np.nan, 0.001]], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoding": "rgb8"}, "'rgb8' is none of 16UC1"),
        ({"step": 2}, "rows of 2 bytes"),
        ({"step": 7}, "rows of 7 bytes"),
        ({"height": 0}, "3x0"),
        ({"data": b"1234"}, "4 bytes do not fill 2 rows"),
    ],
)
def test_a_broken_depth_image_is_refused_in_words(change, told):
    broken = image(np.zeros((2, 3), np.uint16))
    for name, value in change.items():
        setattr(broken, name, value)
    with pytest.raises(InputError, match=told):
        depth_metres(broken)


def test_a_camera_info_is_made_fit_for_the_size_of_the_depth_image():
    assert camera_of(info(), (240, 320), False).matrix[0, 0] == 300
    assert camera_of(info(), (240, 320), True).matrix[0, 0] == 290
    assert camera_of(info(), (120, 160), False).matrix[0, 0] == 150
    assert camera_of(info(binning_x=2, binning_y=2), (120, 160), False).matrix[0, 0] == 150
    with pytest.raises(InputError, match="no scale makes one of the other"):
        camera_of(info(), (200, 200), False)
