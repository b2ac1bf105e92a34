"""Encodings of 16 bits and of several planes: OpenCV's conversions of known pictures are what is expected."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from vis_core.video.levels import Levelling
from vis_ros.encodings import BadImageError, compressed_to_rgb, to_rgb

HEIGHT, WIDTH = 6, 8
_RANDOM = np.random.default_rng(0)
RGB = cv2.GaussianBlur(_RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (5, 5), 2)
DEEP = _RANDOM.integers(0, 1 << 16, (HEIGHT, WIDTH, 4), np.uint16)
ALPHA = np.full((HEIGHT, WIDTH, 1), 7, np.uint16)


def _padded(plane: np.ndarray, step: int) -> bytes:
    """The rows of a plane of bytes, filled up with rubbish."""
    rows = plane.reshape(len(plane), -1)
    return np.hstack((rows, np.full((len(rows), step - rows.shape[1]), 99, np.uint8))).tobytes()


def _words(values: np.ndarray, big: bool) -> np.ndarray:
    return np.ascontiguousarray(values, ">u2" if big else "<u2").view(np.uint8).reshape(HEIGHT, -1)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 2, 7])
@pytest.mark.parametrize(
    ("encoding", "stored", "expected"),
    [
        ("mono16", DEEP[..., :1], DEEP[..., [0, 0, 0]]),
        ("16UC1", DEEP[..., :1], DEEP[..., [0, 0, 0]]),
        ("rgb16", DEEP[..., :3], DEEP[..., :3]),
        ("bgr16", DEEP[..., :3], DEEP[..., [2, 1, 0]]),
        ("16UC3", DEEP[..., :3], DEEP[..., [2, 1, 0]]),
        ("rgba16", DEEP, DEEP[..., :3]),
        ("bgra16", DEEP, DEEP[..., [2, 1, 0]]),
        ("16UC4", DEEP, DEEP[..., [2, 1, 0]]),
    ],
)
def test_sixteen_bits_in_either_byte_order_become_their_upper_eight(encoding, stored, expected, padding, big):
    rows = _words(stored, big)
    step = rows.shape[1] + padding
    pixels = to_rgb(_padded(rows, step), HEIGHT, WIDTH, step, encoding, big)
    np.testing.assert_array_equal(pixels, expected >> 8)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("rggb", cv2.COLOR_BayerBG2RGB),
        ("bggr", cv2.COLOR_BayerRG2RGB),
        ("gbrg", cv2.COLOR_BayerGR2RGB),
        ("grbg", cv2.COLOR_BayerGB2RGB),
    ],
)
def test_mosaics_of_sixteen_bits_are_those_of_opencv(pattern, code, big):
    mosaic = np.ascontiguousarray(DEEP[..., 0])
    pixels = to_rgb(_words(mosaic, big).tobytes(), HEIGHT, WIDTH, WIDTH * 2, f"bayer_{pattern}16", big)
    expected = cv2.cvtColor(mosaic, code) / 256
    np.testing.assert_allclose(pixels, expected, atol=1.01)


def test_a_wide_mosaic_gives_back_the_colour_it_was_made_of():
    colour = {"r": 4000, "g": 2000, "b": 1000}
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        mosaic = np.empty((HEIGHT, WIDTH), np.uint16)
        for position, letter in enumerate(pattern):
            mosaic[position // 2 :: 2, position % 2 :: 2] = colour[letter]
        data = _words(mosaic, False).tobytes()
        pixels = to_rgb(data, HEIGHT, WIDTH, WIDTH * 2, f"bayer_{pattern}16", levelling=Levelling("0,4095"))
        np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8([250, 125, 62]), pixels.shape))


def _yuv420() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma, and the colours of half the size, of the picture, as OpenCV makes them."""
    planes = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    quarter = HEIGHT * WIDTH // 4
    rest = planes[HEIGHT:].ravel()
    shape = (HEIGHT // 2, WIDTH // 2)
    return planes[:HEIGHT], rest[:quarter].reshape(shape), rest[quarter:].reshape(shape)


@pytest.mark.parametrize("padding", [0, 2, 5])
@pytest.mark.parametrize(("encoding", "order"), [("nv12", "uv"), ("nv21", "vu")])
def test_planes_with_colours_of_half_the_size_are_those_of_opencv(encoding, order, padding):
    luma, u, v = _yuv420()
    colours = np.dstack((u, v) if order == "uv" else (v, u)).reshape(HEIGHT // 2, WIDTH)
    step = WIDTH + padding
    pixels = to_rgb(_padded(luma, step) + _padded(colours, step), HEIGHT, WIDTH, step, encoding)
    expected = cv2.cvtColor(cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420), cv2.COLOR_YUV2RGB_I420)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("padding", [0, 3])
def test_planes_with_colours_of_half_the_width_or_of_all_pixels_are_as_the_same_in_one_plane(padding):
    luma, u, v = _yuv420()
    u, v = np.repeat(u, 2, 0), np.repeat(v, 2, 0)
    packed = np.dstack((luma, np.dstack((u, v)).reshape(HEIGHT, WIDTH)))
    expected = cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_YUY2)
    step = WIDTH + padding
    halved = np.dstack((u, v)).reshape(HEIGHT, WIDTH)
    data = _padded(luma, step) + _padded(halved, step)
    np.testing.assert_array_equal(to_rgb(data, HEIGHT, WIDTH, step, "nv16"), expected)
    full = np.dstack((np.repeat(u, 2, 1), np.repeat(v, 2, 1)))
    data = _padded(luma, step) + _padded(full, 2 * step)
    np.testing.assert_array_equal(to_rgb(data, HEIGHT, WIDTH, step, "nv24"), expected)


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv16", "nv24"])
def test_a_plane_that_is_cut_short_is_refused(encoding):
    whole = {"nv12": 1.5, "nv21": 1.5, "nv16": 2, "nv24": 3}[encoding] * HEIGHT * WIDTH
    data = _RANDOM.integers(0, 256, int(whole), np.uint8).tobytes()
    assert to_rgb(data, HEIGHT, WIDTH, WIDTH, encoding).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(BadImageError, match=f"{int(whole)}") as caught:
        to_rgb(data[:-1], HEIGHT, WIDTH, WIDTH, encoding)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    ("encoding", "height", "width"), [("nv12", 5, 8), ("nv21", 6, 7), ("nv16", 6, 7), ("yuyv", 6, 7), ("uyvy", 5, 7)]
)
def test_halved_colours_need_even_sides(encoding, height, width):
    with pytest.raises(BadImageError, match="even") as caught:
        to_rgb(bytes(400), height, width, 20, encoding)
    assert caught.value.reason == "size"


def test_four_channels_without_a_name_are_bgra():
    stored = np.dstack((RGB[..., ::-1], ALPHA.astype(np.uint8)))
    np.testing.assert_array_equal(to_rgb(stored.tobytes(), HEIGHT, WIDTH, WIDTH * 4, "8UC4"), RGB)


def test_an_unknown_encoding_is_named_with_all_that_are_taken():
    with pytest.raises(BadImageError, match=r"'32FC1' is none of rgb8, .*mono16, .*16UC1, .*nv12") as caught:
        to_rgb(bytes(400), 6, 8, 32, "32FC1")
    assert caught.value.reason == "encoding"


THERMAL = np.linspace(7000, 9000, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_values_that_their_upper_bits_would_hide_need_a_range(encoding):
    arguments = (THERMAL.tobytes(), HEIGHT, WIDTH, WIDTH * 2, encoding)
    with pytest.raises(BadImageError, match=r"7000 to 9000 .* auto or 7000,9000") as caught:
        to_rgb(*arguments)
    assert caught.value.reason == "range"
    pixels = to_rgb(*arguments, levelling=Levelling("7000,9000"))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(np.unique(to_rgb(*arguments, levelling=Levelling("auto")))) > 40


def test_a_png_of_sixteen_bits_is_taken_by_the_same_range():
    data = cv2.imencode(".png", THERMAL)[1].tobytes()
    with pytest.raises(BadImageError) as caught:
        compressed_to_rgb(data, "16UC1; png compressed ")
    assert caught.value.reason == "range"
    pixels = compressed_to_rgb(data, "16UC1; png compressed ", Levelling("7000,9000"))
    raw = to_rgb(THERMAL.tobytes(), HEIGHT, WIDTH, WIDTH * 2, "mono16", levelling=Levelling("7000,9000"))
    np.testing.assert_array_equal(pixels, raw)
    colours = np.ascontiguousarray(DEEP[..., :3])
    pixels = compressed_to_rgb(cv2.imencode(".png", colours)[1].tobytes(), "bgr16; png compressed bgr16")
    np.testing.assert_array_equal(pixels, colours[..., ::-1] >> 8)


def test_the_limit_of_pixels_is_an_argument():
    for call in (
        lambda: to_rgb(RGB.tobytes(), HEIGHT, WIDTH, WIDTH * 3, "rgb8", max_pixels=47),
        lambda: compressed_to_rgb(cv2.imencode(".png", RGB)[1].tobytes(), "png", max_pixels=47),
    ):
        with pytest.raises(BadImageError, match="8x6 is more than 47 pixels") as caught:
            call()
        assert caught.value.reason == "size"


def test_a_jpeg_that_could_be_read_in_two_ways_is_refused():
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    frame = data.index(b"\xff\xc0")
    end = frame + 2 + struct.unpack(">H", data[frame + 2 : frame + 4])[0]
    with pytest.raises(BadImageError, match="states its size twice") as caught:
        compressed_to_rgb(data[:end] + data[frame:], "jpeg")
    assert caught.value.reason == "decode"
    filled = data[:frame] + b"\xff\xff\xff" + bytes(4) + data[frame:]
    np.testing.assert_array_equal(compressed_to_rgb(filled, "jpeg"), compressed_to_rgb(data, "jpeg"))


def test_a_compressed_image_is_not_turned_by_its_metadata():
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    np.testing.assert_array_equal(compressed_to_rgb(turned, "jpeg"), compressed_to_rgb(data, "jpeg"))
