"""Reading one image file of any origin, safely: bounded by its header before anything is decoded; and writing one."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.atomic import atomic_write

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_PIXELS = 100_000_000
_MAX_BYTES = 4 * MAX_PIXELS


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """The image as uint8 ``[H, W, 3]`` RGB, upright by its EXIF orientation.

    Grey is repeated, 16 bits become 8, alpha is left away.

    Raises:
        InputError: no such file, not a JPEG, PNG, BMP or WebP, over `MAX_PIXELS`, or damaged as far as the decoder
            tells.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, at most {_MAX_BYTES} are read")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        return decode_image(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """As `read_image`, from the bytes of a file."""
    width, height = _size_of_header(data)
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise InputError(f"size {width}x{height} is not between 1 and {MAX_PIXELS} pixels")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"does not decode: {error.err or error}") from error
    if image is None:
        raise InputError("does not decode: damaged or cut off")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write an image as its name's ending says, a JPEG in quality 95; its folder is made if it is not there.

    Args:
        path: of the file.
        image: uint8 ``[H, W, 3]`` RGB.

    Raises:
        InputError: OpenCV does not encode it.
        OSError: the file cannot be written.
    """
    kind = path.suffix.lower()
    # Of another kind, OpenCV warns of an option that it does not know.
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind in (".jpg", ".jpeg") else []
    try:
        encoded, data = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV writes no image of this kind; try .png or .jpg") from error
    if not encoded:
        raise InputError(f"{path}: OpenCV does not encode an image of shape {image.shape}")
    with atomic_write(path) as partial:
        partial.write_bytes(data.tobytes())


def _size_of_header(data: bytes) -> tuple[int, int]:
    """Width and height that a file's header states."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _size_of_jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _pair(struct.unpack_from(">II", data, 16))
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return width, abs(height)  # a negative height: rows from the top
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _size_of_webp(data)
    except (struct.error, IndexError):
        raise InputError("cut off within its header") from None
    raise InputError("empty" if not data else "not a JPEG, PNG, BMP or WebP image")


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    size = (0, 0)
    at = 2
    while True:
        at = data.index(b"\xff", at) if b"\xff" in data[at : at + 1024] else len(data)
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker == 0xDA:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 4)
            size = (width, height)
        at += 1 if marker == 0x01 or 0xD0 <= marker <= 0xD7 else 1 + struct.unpack_from(">H", data, at + 1)[0]
    if data.find(b"\xff\xd9", at) < 0:  # decoders fill what is missing with grey and call it an image
        raise InputError("cut off: a JPEG without its end")
    return size


def _size_of_webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _pair(values: tuple[int, int]) -> tuple[int, int]:
    return values[0], values[1]
