"""Headers of image files: what they state is what the decoder makes of them, or they are refused."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from tests.vis_core.video.image_files import exif_segment, picture, with_orientation
from vis_core.errors import InputError
from vis_core.video.headers import MAX_PIXELS, CutOffError, read_header
from vis_core.video.images import read_image

JPEG = cv2.imencode(".jpg", picture())[1].tobytes()
PNG = cv2.imencode(".png", picture())[1].tobytes()
FRAME = JPEG.index(b"\xff\xc0")
BEFORE, AFTER = JPEG[:FRAME], JPEG[FRAME:]
SMALL_FRAME = AFTER[:5] + struct.pack(">HH", 8, 8) + AFTER[9 : 2 + struct.unpack(">H", AFTER[2:4])[0]]


def header(data):
    return read_header(io.BytesIO(data))


def core_bmp() -> bytes:
    return b"BM" + bytes(8) + struct.pack("<IIHHHH", 26, 12, 4, 2, 1, 24) + bytes(24)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (JPEG, (48, 64)),
        (cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(), (48, 64)),
        (PNG, (48, 64)),
        (cv2.imencode(".bmp", picture())[1].tobytes(), (48, 64)),
        (cv2.imencode(".webp", picture())[1].tobytes(), (48, 64)),
        (cv2.imencode(".webp", picture(), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(), (48, 64)),
        (core_bmp(), (2, 4)),
    ],
)
def test_the_header_of_every_kind_of_image_states_its_true_size(data, size):
    assert header(data).size(turned=False) == size
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == size


# libjpeg passes over bytes that are no marker: fill bytes, zero bytes, rubbish; a header among them must not count.
_NOT_SEEN = b"\x00\xff\xe0" + struct.pack(">H", 2 + len(SMALL_FRAME)) + SMALL_FRAME


@pytest.mark.parametrize(
    "between",
    [b"\xff" * 7, bytes(5), bytes(3000), b"\xff\x00\xff", b"\xff\xff\x00\x00", b"rubbish", b"\xff\xd0", _NOT_SEEN],
)
def test_what_stands_between_the_segments_of_a_jpeg_is_passed_over_as_the_decoder_does(tmp_path, between):
    data = BEFORE + between + AFTER
    assert header(data).size(turned=False) == (48, 64)
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg").shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (BEFORE + SMALL_FRAME + AFTER, "states its size twice"),
        (BEFORE + AFTER[: len(SMALL_FRAME)] + SMALL_FRAME + AFTER[len(SMALL_FRAME) :], "states its size twice"),
        (JPEG[:2] + JPEG, "second beginning"),
        (JPEG[:2] + b"\xff\xd9" + JPEG[2:], "or its end"),
        (JPEG[:2] + b"\xff\xe0\x00\x00" + JPEG[2:], "segment of 0 bytes"),
        (JPEG[:2] + b"\xff\xe0\x00\x01" + JPEG[2:], "segment of 1 bytes"),
        (BEFORE + AFTER[len(SMALL_FRAME) :], "without a size"),
        (JPEG[:2] + b"\xff\xd0" * 20_000 + JPEG[2:], "segments before"),
        (JPEG[:2] + b"\xff\x00" * 20_000 + JPEG[2:], "rubbish"),
        (PNG[:33] + PNG[8:33] + PNG[33:], "two headers"),
        (PNG[:8] + PNG[33:], "does not begin with its header"),
        (b"RIFF\x00\x00\x00\x00WEBPEXIF" + bytes(20), "begins with b'EXIF'"),
        (b"GIF89a" + bytes(20), "not a JPEG"),
        (b"", "empty"),
    ],
)
def test_a_header_that_can_be_read_in_two_ways_or_in_none_is_refused(data, text):
    with pytest.raises(InputError, match=text):
        header(data)


@pytest.mark.parametrize(
    ("data", "end"),
    [(JPEG, FRAME), (PNG, 25), (cv2.imencode(".webp", picture())[1].tobytes(), 25), (core_bmp(), 22)],
)
def test_a_header_cut_off_anywhere_is_told_as_such(data, end):
    for length in range(12, end, 3):
        with pytest.raises(CutOffError):
            header(data[:length])


def test_pixels_of_another_size_than_the_header_states_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.png: decodes to 9x9 pixels, its header states 64x48"):
        read_image(tmp_path / "a.png")


def test_the_limit_of_pixels_is_an_argument(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(InputError, match="size 64x48 is not between 1 and 3071 pixels"):
        read_image(tmp_path / "a.png", max_pixels=64 * 48 - 1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, str(MAX_PIXELS)), ("1000", "1000"), ("64KB", "64KB"), ("8GB", str(MAX_PIXELS)), ("many", "many")],
)
def test_the_decoder_is_bounded_before_it_is_loaded_and_a_lower_bound_stays(given, kept):
    name = "OPENCV_IO_MAX_IMAGE_PIXELS"
    environment = {key: value for key, value in os.environ.items() if key != name}
    environment |= {} if given is None else {name: given}
    program = f"import sys, os, vis_core; print('cv2' in sys.modules, os.environ[{name!r}])"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", kept]


def test_the_decoder_itself_refuses_more_pixels_than_are_taken():
    program = (
        "import sys, vis_core, vis_ros.encodings, cv2, numpy as np\n"
        "try: cv2.imdecode(np.frombuffer(sys.stdin.buffer.read(), np.uint8), cv2.IMREAD_COLOR)\n"
        "except cv2.error: print('refused')\n"
    )
    environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "3000"}
    done = subprocess.run([sys.executable, "-c", program], input=PNG, env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [b"refused"]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_by_exif_as_opencv_turns_it_or_left_as_it_is_stored(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(JPEG, orientation))
    found = header(path.read_bytes())
    assert found.orientation == orientation
    stored, turned = read_image(path, turned=False), read_image(path)
    assert (stored.shape[:2], turned.shape[:2]) == (found.size(False), found.size(True))
    np.testing.assert_array_equal(turned[..., ::-1], cv2.imread(str(path)))
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    np.testing.assert_array_equal(stored[..., ::-1], cv2.imread(str(path), flags))


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_found_in_png_and_webp_and_in_either_byte_order(order):
    exif = exif_segment(6, order)[10:]
    assert header(PNG[:33] + _chunk(b"eXIf", exif) + PNG[33:]).orientation == 6
    assert header(PNG[:-12] + _chunk(b"eXIf", exif) + PNG[-12:]).orientation == 6
    webp = cv2.imencode(".webp", picture())[1].tobytes()
    extended = b"VP8X" + struct.pack("<II", 10, 8) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    content = extended + webp[12:] + b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    turned = header(b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content)
    assert (turned.size(True), turned.size(False)) == ((64, 48), (48, 64))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(value):
    assert header(with_orientation(JPEG, value)).orientation == 1


def test_the_first_exif_segment_counts_and_damaged_ones_turn_nothing():
    assert header(with_orientation(with_orientation(JPEG, 3), 6)).orientation == 6
    segment = exif_segment(6)
    for length in range(10, len(segment) - 6, 3):
        cut = segment[:2] + struct.pack(">H", length - 2) + segment[4:length]
        assert header(JPEG[:2] + cut + JPEG[2:]).orientation == 1
