from __future__ import annotations

import os
from array import array
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.video.levels import Levelling
from vis_ros import encodings
from vis_ros.encodings import BadImageError, compressed_to_rgb, to_rgb

HEIGHT, WIDTH = 6, 8
_RANDOM = np.random.default_rng(0)
RGB = _RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = _RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
ALPHA = np.full((HEIGHT, WIDTH, 1), 7, np.uint8)


def _bytes(pixels: np.ndarray, padding: int) -> tuple[bytes, int]:
    """The rows of an image, each followed by so many bytes of rubbish, and the step."""
    rows = pixels.reshape(HEIGHT, -1)
    padded = np.concatenate((rows, np.full((HEIGHT, padding), 99, np.uint8)), axis=1)
    return padded.tobytes(), padded.shape[1]


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize(
    ("encoding", "stored", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("8UC3", RGB[..., ::-1], RGB),
        ("rgba8", np.concatenate((RGB, ALPHA), 2), RGB),
        ("bgra8", np.concatenate((RGB[..., ::-1], ALPHA), 2), RGB),
        ("mono8", GREY, np.repeat(GREY[..., None], 3, 2)),
        ("8UC1", GREY, np.repeat(GREY[..., None], 3, 2)),
    ],
)
@pytest.mark.parametrize(
    "container", [bytes, lambda data: array("B", data), lambda data: np.frombuffer(data, np.uint8)]
)
def test_plain_encodings_give_the_exact_pixels_at_any_step(encoding, stored, expected, padding, container):
    data, step = _bytes(np.ascontiguousarray(stored), padding)
    pixels = to_rgb(container(data), HEIGHT, WIDTH, step, encoding)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_mosaics_give_back_the_colour_they_were_made_of(pattern, padding):
    colour = {"r": 200, "g": 120, "b": 40}
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for position, letter in enumerate(pattern):
        mosaic[position // 2 :: 2, position % 2 :: 2] = colour[letter]
    data, step = _bytes(mosaic, padding)
    pixels = to_rgb(data, HEIGHT, WIDTH, step, f"bayer_{pattern}8")
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8([200, 120, 40]), pixels.shape))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv"), ("yuv422", "uyvy"), ("uyvy", "uyvy")],
)
def test_yuv422_gives_back_the_colour_it_was_made_of(encoding, order, padding):
    # ITU-R BT.601, studio range: this is (180, 60, 90) within a rounding step.
    red, green, blue = 180, 60, 90
    luma = 16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256
    u = 128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256
    v = 128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256
    values = {"yuyv": [luma, u, luma, v], "uyvy": [u, luma, v, luma]}[order]
    row = np.tile(np.round(values).astype(np.uint8), WIDTH // 2)
    data, step = _bytes(np.tile(row, (HEIGHT, 1)), padding)
    pixels = to_rgb(data, HEIGHT, WIDTH, step, encoding)
    np.testing.assert_allclose(pixels.astype(int), np.broadcast_to([red, green, blue], pixels.shape), atol=2)


def test_rgb8_without_padding_is_not_copied():
    data = array("B", RGB.tobytes())
    pixels = to_rgb(data, HEIGHT, WIDTH, WIDTH * 3, "rgb8")
    data[0] = pixels[0, 0, 0] ^ 255
    assert pixels[0, 0, 0] == data[0]


def test_the_padding_of_the_last_row_may_be_missing():
    data, step = _bytes(RGB, 10)
    np.testing.assert_array_equal(to_rgb(data[:-10], HEIGHT, WIDTH, step, "rgb8"), RGB)


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"encoding": "32FC1"}, "encoding", "32FC1"),
        ({"encoding": ""}, "encoding", "''"),
        ({"step": WIDTH * 3 - 1}, "step", "24"),
        ({"step": 0}, "step", "step 0"),
        ({"data": RGB.tobytes()[:-1]}, "truncated", "143"),
        ({"data": b""}, "truncated", "0 bytes"),
        ({"height": 0}, "size", "8x0"),
        ({"width": 0}, "size", "0x6"),
        ({"height": 65536, "width": 65536, "step": 65536 * 3}, "size", "65536x65536"),
        ({"height": 2**32 - 1, "width": 1, "step": 3}, "size", "1x4294967295"),
        ({"encoding": "yuv422_yuy2", "width": 7}, "size", "even"),
    ],
)
def test_a_broken_image_is_refused_with_a_reason_that_names_the_value(changes, reason, named):
    arguments = {"data": RGB.tobytes(), "height": HEIGHT, "width": WIDTH, "step": WIDTH * 3, "encoding": "rgb8"}
    with pytest.raises(BadImageError, match=named) as caught:
        to_rgb(**{**arguments, **changes})
    assert caught.value.reason == reason


def test_every_named_encoding_is_understood():
    data = _RANDOM.integers(0, 256, HEIGHT * WIDTH * 32, np.uint8).tobytes()
    for encoding in encodings.ENCODINGS:
        assert to_rgb(data, HEIGHT, WIDTH, WIDTH * 8, encoding).shape == (HEIGHT, WIDTH, 3)


SMOOTH = cv2.resize(RGB[:2, :2], (64, 48), interpolation=cv2.INTER_LINEAR)


def _file(kind: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(kind, pixels)[1].tobytes()


@pytest.mark.parametrize("encoding", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8", ""])
def test_jpeg_is_decoded_whatever_the_format_text(encoding):
    pixels = compressed_to_rgb(array("B", _file(".jpg", SMOOTH[..., ::-1])), encoding)
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 4


def test_a_jpeg_written_from_rgb_order_is_read_in_rgb_order():
    pixels = compressed_to_rgb(_file(".jpg", SMOOTH), "rgb8; jpeg compressed rgb8")
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 4


def test_a_progressive_jpeg_is_decoded():
    content = cv2.imencode(".jpg", SMOOTH[..., ::-1], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert np.abs(compressed_to_rgb(content, "jpeg").astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize("encoding", ["png", "rgb8; png compressed bgr8", "bgr8; png compressed "])
def test_png_is_decoded_exactly(encoding):
    np.testing.assert_array_equal(compressed_to_rgb(_file(".png", SMOOTH[..., ::-1]), encoding), SMOOTH)


def test_png_with_transparency_is_decoded_without_it():
    stored = np.dstack((SMOOTH[..., ::-1], np.full(SMOOTH.shape[:2], 9, np.uint8)))
    np.testing.assert_array_equal(compressed_to_rgb(_file(".png", stored), "bgra8; png compressed bgra8"), SMOOTH)


def test_grey_files_become_rgb():
    pixels = compressed_to_rgb(_file(".png", SMOOTH[..., 0]), "mono8; png compressed ")
    np.testing.assert_array_equal(pixels, np.repeat(SMOOTH[..., :1], 3, 2))


def test_a_compressed_mosaic_is_demosaiced():
    mosaic = np.empty((48, 64), np.uint8)
    mosaic[0::2, 0::2], mosaic[0::2, 1::2], mosaic[1::2, 0::2], mosaic[1::2, 1::2] = 200, 120, 120, 40
    pixels = compressed_to_rgb(_file(".png", mosaic), "bayer_rggb8; png compressed bayer_rggb8")
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8([200, 120, 40]), pixels.shape))


def _jpeg_of_claimed_size(height: int, width: int) -> bytes:
    content = bytearray(_file(".jpg", SMOOTH))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


JPEG, PNG = _file(".jpg", RGB), _file(".png", RGB)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "encoding"),
        (b"GIF89a" + bytes(50), "encoding"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-2], "truncated"),
        (JPEG[:2], "truncated"),
        (b"\xff\xd8" + b"\x00" * 100, "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:20], "truncated"),
        (_jpeg_of_claimed_size(65500, 65500), "size"),
        (_jpeg_of_claimed_size(0, 64), "size"),
        (PNG[:16] + b"\xff\xff\xff\xff" * 2 + PNG[24:], "size"),
        (PNG[:40] + bytes(len(PNG) - 60) + PNG[-20:], "decode"),
        (_file(".png", np.zeros((4, 4), np.uint16)), "range"),
    ],
)
def test_a_broken_file_is_refused_with_a_reason(content, reason):
    with pytest.raises(BadImageError) as caught:
        compressed_to_rgb(content, "jpeg")
    assert caught.value.reason == reason


_SIZES = st.integers(0, 12) | st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(
    data=st.binary(max_size=600),
    height=_SIZES,
    width=_SIZES,
    step=_SIZES,
    encoding=st.sampled_from(encodings.ENCODINGS) | st.text(max_size=8),
)
def test_whatever_a_raw_message_claims_it_is_an_image_or_a_bad_one(data, height, width, step, encoding):
    try:
        pixels = to_rgb(data, height, width, step, encoding)
    except BadImageError:
        return
    assert (pixels.shape, pixels.dtype) == ((height, width, 3), np.uint8)


@settings(deadline=None)
@given(
    source=st.sampled_from([JPEG, PNG]),
    at=st.floats(0, 1, exclude_max=True),
    noise=st.binary(max_size=8),
    cut=st.booleans(),
)
def test_whatever_a_damaged_file_holds_it_is_an_image_or_a_bad_one(source, at, noise, cut):
    position = int(at * len(source))
    damaged = source[:position] + noise + (b"" if cut else source[position + len(noise) :])
    try:
        pixels = compressed_to_rgb(damaged, "rgb8; jpeg compressed bgr8")
    except BadImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


def _resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_memory_of_a_large_image_goes_back():
    size = (6000, 8000)
    content = cv2.imencode(".jpg", np.zeros((*size, 3), np.uint8))[1].tobytes()
    raw = np.zeros((*size, 3), np.uint8)
    wide = np.full(size, 40000, np.uint16)
    to_rgb(bytes(12), 2, 2, 6, "bgr8")  # what OpenCV takes once is no part of it
    before = _resident()
    for _ in range(2):
        assert compressed_to_rgb(content, "jpeg").shape == (*size, 3)
        assert to_rgb(raw, *size, size[1] * 3, "bgr8").shape == (*size, 3)
        assert to_rgb(wide, *size, size[1] * 2, "mono16", levelling=Levelling("0,50000")).shape == (*size, 3)
    assert _resident() - before < size[0] * size[1] // 2
