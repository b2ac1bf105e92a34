"""Pixel formats of ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage`` to uint8 ``[H, W, 3]`` RGB.

Names and meaning follow ``sensor_msgs/image_encodings.hpp``; ``8UC3`` is taken as BGR, as ``cv_bridge`` writes it.
Everything here comes from outside, so sizes are checked before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError

Image = npt.NDArray[np.uint8]

MAX_PIXELS = 1 << 26
"""Largest image that is taken, pixels (8192x8192): more is a broken header."""


class BadImageError(InputError):
    """An image message that cannot be used.

    Attributes:
        reason: one word of a small fixed set, to count by: ``size``, ``step``, ``encoding``, ``truncated``, ``decode``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _PixelFormat:
    channels: int
    to_rgb: Callable[[Image], Image]
    even_width: bool = False


def _converted(code: int) -> Callable[[Image], Image]:
    return lambda pixels: cv2.cvtColor(pixels, code)  # type: ignore[return-value]


# ROS names a mosaic by the first two pixels of rows 0 and 1, OpenCV by those of row 1 from column 1 on.
_BAYER = {
    "bayer_rggb8": _PixelFormat(1, _converted(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": _PixelFormat(1, _converted(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": _PixelFormat(1, _converted(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": _PixelFormat(1, _converted(cv2.COLOR_BayerGB2RGB)),
}
_RGB = _PixelFormat(3, np.ascontiguousarray)
_BGR = _PixelFormat(3, _converted(cv2.COLOR_BGR2RGB))
_GREY = _PixelFormat(1, _converted(cv2.COLOR_GRAY2RGB))
_YUYV = _PixelFormat(2, _converted(cv2.COLOR_YUV2RGB_YUY2), even_width=True)
_UYVY = _PixelFormat(2, _converted(cv2.COLOR_YUV2RGB_UYVY), even_width=True)
_FORMATS = {
    "rgb8": _RGB,
    "bgr8": _BGR,
    "8UC3": _BGR,
    "rgba8": _PixelFormat(4, _converted(cv2.COLOR_RGBA2RGB)),
    "bgra8": _PixelFormat(4, _converted(cv2.COLOR_BGRA2RGB)),
    "mono8": _GREY,
    "8UC1": _GREY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    **_BAYER,
}
ENCODINGS = tuple(_FORMATS)
"""Names of the raw encodings that are understood."""


def to_rgb(data: Any, height: int, width: int, step: int, encoding: str) -> Image:
    """The pixels of a raw image; those of ``rgb8`` without padding are a view of ``data``, not a copy.

    Args:
        data: anything with the buffer protocol (``array.array``, ``bytes``, uint8 array), rows of ``step`` bytes.
        height, width: pixels.
        step: bytes from one row to the next, padding included.
        encoding: one of `ENCODINGS`.

    Raises:
        BadImageError: unknown encoding, impossible size or step, or not enough data.
    """
    pixel_format = _FORMATS.get(encoding)
    if pixel_format is None:
        raise BadImageError("encoding", f"encoding {encoding!r} is none of {', '.join(ENCODINGS)}")
    _check_size(height, width)
    if pixel_format.even_width and width % 2:
        raise BadImageError("size", f"{encoding} needs an even width, got {width}")
    channels = pixel_format.channels
    if step < width * channels:
        raise BadImageError("step", f"step {step} is less than {width * channels}, a row of {width} pixels {encoding}")
    values = np.frombuffer(data, np.uint8)
    needed = step * (height - 1) + width * channels  # the last row's padding may be missing
    if values.size < needed:
        raise BadImageError(
            "truncated", f"{values.size} bytes, {width}x{height} {encoding} of step {step} needs {needed}"
        )
    shape, strides = ((height, width), (step, 1)) if channels == 1 else ((height, width, channels), (step, channels, 1))
    pixels: Image = np.ndarray(shape, np.uint8, values, strides=strides)
    return _convert(pixel_format, pixels, encoding)


def compressed_to_rgb(data: Any, encoding: str) -> Image:
    """The pixels of a JPEG or PNG file in memory; not turned by its metadata, as ``camera_info`` expects.

    Args:
        data: anything with the buffer protocol.
        encoding: ``CompressedImage.format``: ``jpeg``, ``png``, or as ``image_transport`` writes it, such as
            ``rgb8; jpeg compressed bgr8``; what follows ``compressed`` is the order of the channels in the file's place
            of blue, green, red.

    Raises:
        BadImageError: neither JPEG nor PNG, cut short, of an impossible size, not 8 bits a channel, or broken.
    """
    content = bytes(data)
    if content.startswith(b"\xff\xd8"):
        size, complete = _examine_jpeg(content)
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        size, complete = _examine_png(content)
    else:
        raise BadImageError("encoding", f"format {encoding!r}: {len(content)} bytes that are neither JPEG nor PNG")
    if size is None or not complete:
        raise BadImageError(
            "truncated", f"format {encoding!r}: {len(content)} bytes, the end of the picture is missing"
        )
    _check_size(*size)
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadImageError("decode", f"format {encoding!r}: {error.err}") from error
    if pixels is None:
        raise BadImageError("decode", f"format {encoding!r}: {len(content)} bytes that do not decode")
    if pixels.dtype != np.uint8:
        raise BadImageError("encoding", f"format {encoding!r}: {pixels.dtype} pixels, only 8 bits a channel are images")
    stored = encoding.partition("compressed")[2].strip()
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return _convert(_BAYER.get(stored, _GREY), pixels, encoding)
    in_order = stored.startswith("rgb")
    return _convert(_FORMATS[("rgb" if in_order else "bgr") + ("8" if channels == 3 else "a8")], pixels, encoding)


def _convert(pixel_format: _PixelFormat, pixels: Image, encoding: str) -> Image:
    try:
        return pixel_format.to_rgb(pixels)
    except cv2.error as error:
        height, width = pixels.shape[:2]
        raise BadImageError("decode", f"{encoding} of {width}x{height}: {error.err}") from error


def _check_size(height: int, width: int) -> None:
    if height <= 0 or width <= 0:
        raise BadImageError("size", f"the image is empty, {width}x{height}")
    if height * width > MAX_PIXELS:
        raise BadImageError("size", f"{width}x{height} is more than {MAX_PIXELS} pixels")


def _examine_jpeg(content: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Height and width of the frame header, and whether the scan ends: libjpeg fills a missing end with grey."""
    size: tuple[int, int] | None = None
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # fill byte, or a marker without a length
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= len(content):
            size = int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 7 : at + 9], "big")
        if marker == 0xDA:  # in a scan every other 0xFF is followed by 0, so this is the end of the picture itself
            return size, content.find(b"\xff\xd9", at + 2 + length) >= 0
        at += 2 + length
    return size, False


def _examine_png(content: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Height and width of the header, and whether the end chunk is there."""
    if len(content) < 24:
        return None, False
    size = int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")
    return size, content.rfind(b"IEND") >= 0
