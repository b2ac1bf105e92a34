"""Pixel formats of ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage`` to uint8 ``[H, W, 3]`` RGB.

Names and meaning follow ``sensor_msgs/image_encodings.hpp``; colours without a name of their own (``8UC3``, ``16UC4``)
are taken as BGR, as ``cv_bridge`` writes them. YUV is ITU-R BT.601 in studio range, as OpenCV takes it.
Everything here comes from outside, so sizes are checked before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.video.headers import CutOffError, read_header
from vis_core.video.images import checked_header, decode
from vis_core.video.levels import Levelling, Pixels

Image = npt.NDArray[np.uint8]

MAX_PIXELS = 1 << 26
"""Largest image that is taken if nothing else is said, pixels (8192x8192): more is a broken header."""


class BadImageError(InputError):
    """An image message that cannot be used.

    Attributes:
        reason: one word of a small fixed set, to count by: ``size``, ``step``, ``encoding``, ``truncated``, ``decode``,
            ``range``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _PixelFormat:
    """How an image is stored.

    Attributes:
        channels: values of a pixel, in the first plane.
        to_rgb: takes the first plane, uint8, and the second.
        wide: values of 16 bits.
        even_width, even_height: what its halved colours need.
        second: rows of the second plane for each of the first, and its values in a row for each pixel.
    """

    channels: int
    to_rgb: Callable[..., Image]
    wide: bool = False
    even_width: bool = False
    even_height: bool = False
    second: tuple[float, int] = (0, 0)


def _converted(code: int) -> Callable[[Image], Image]:
    return lambda pixels: cv2.cvtColor(pixels, code)  # type: ignore[return-value]


def _halved(code: int) -> Callable[[Image, Image], Image]:
    """Colours of half the height and width."""
    return lambda luma, colours: cv2.cvtColorTwoPlane(luma, colours.reshape(len(colours), -1, 2), code)  # type: ignore[return-value]


def _beside(luma: Image, colours: Image) -> Image:
    """Colours of half the width: the same in one plane is YUYV."""
    return cv2.cvtColor(np.dstack((luma, colours)), cv2.COLOR_YUV2RGB_YUY2)  # type: ignore[return-value]


def _full(luma: Image, colours: Image) -> Image:
    """Colours of every pixel: each twice side by side is YUYV."""
    return np.ascontiguousarray(_beside(np.repeat(luma, 2, 1), colours)[:, ::2])


# ROS names a mosaic by the first two pixels of rows 0 and 1, OpenCV by those of row 1 from column 1 on.
_MOSAICS = {
    "bayer_rggb": _converted(cv2.COLOR_BayerBG2RGB),
    "bayer_bggr": _converted(cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg": _converted(cv2.COLOR_BayerGR2RGB),
    "bayer_grbg": _converted(cv2.COLOR_BayerGB2RGB),
}
_COLOURS: dict[str, tuple[int, Callable[[Image], Image]]] = {
    "rgb": (3, np.ascontiguousarray),
    "bgr": (3, _converted(cv2.COLOR_BGR2RGB)),
    "rgba": (4, _converted(cv2.COLOR_RGBA2RGB)),
    "bgra": (4, _converted(cv2.COLOR_BGRA2RGB)),
    "mono": (1, _converted(cv2.COLOR_GRAY2RGB)),
    **{name: (1, to_rgb) for name, to_rgb in _MOSAICS.items()},
}
_UNNAMED = {"UC1": "mono", "UC3": "bgr", "UC4": "bgra"}
_YUYV = _PixelFormat(2, _converted(cv2.COLOR_YUV2RGB_YUY2), even_width=True)
_UYVY = _PixelFormat(2, _converted(cv2.COLOR_YUV2RGB_UYVY), even_width=True)
_FORMATS = {
    **{f"{name}{bits}": _PixelFormat(*form, bits == 16) for bits in (8, 16) for name, form in _COLOURS.items()},
    **{f"{bits}{name}": _PixelFormat(*_COLOURS[n], bits == 16) for bits in (8, 16) for name, n in _UNNAMED.items()},
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "nv12": _PixelFormat(1, _halved(cv2.COLOR_YUV2RGB_NV12), even_width=True, even_height=True, second=(0.5, 1)),
    "nv21": _PixelFormat(1, _halved(cv2.COLOR_YUV2RGB_NV21), even_width=True, even_height=True, second=(0.5, 1)),
    "nv16": _PixelFormat(1, _beside, even_width=True, second=(1, 1)),
    "nv24": _PixelFormat(1, _full, second=(1, 2)),
}
ENCODINGS = tuple(_FORMATS)
"""Names of the raw encodings that are understood."""


def to_rgb(
    data: Any,
    height: int,
    width: int,
    step: int,
    encoding: str,
    big_endian: bool = False,
    levelling: Levelling | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """The pixels of a raw image; those of ``rgb8`` without padding are a view of ``data``, not a copy.

    Args:
        data: anything with the buffer protocol (``array.array``, ``bytes``, uint8 array), rows of ``step`` bytes.
        height, width: pixels.
        step: bytes from one row to the next, padding included; rows of a second plane keep it in proportion.
        encoding: one of `ENCODINGS`.
        big_endian: the first of two bytes of a value is the greater one.
        levelling: how 16 bits become 8; None: by their upper 8, if they use a tenth of what they can.
        max_pixels: of the largest image that is taken.

    Raises:
        BadImageError: unknown encoding, impossible size or step, not enough data, or values of 16 bits that need a
            range.
    """
    form = _FORMATS.get(encoding)
    if form is None:
        raise BadImageError("encoding", f"encoding {encoding!r} is none of {', '.join(ENCODINGS)}")
    _check_size(height, width, max_pixels)
    for name, length, even in (("width", width, form.even_width), ("height", height, form.even_height)):
        if even and length % 2:
            raise BadImageError("size", f"{encoding} needs an even {name}, got {length}")
    size = 2 if form.wide else 1
    row = width * form.channels * size
    if step < row:
        raise BadImageError("step", f"step {step} is less than {row}, a row of {width} pixels {encoding}")
    ratio, colours = form.second
    rows, second_step, second_row = round(height * ratio), step * max(colours, 1), width * colours
    values = np.frombuffer(data, np.uint8)
    # The last row's padding may be missing.
    needed = step * height + second_step * (rows - 1) + second_row if rows else step * (height - 1) + row
    if values.size < needed:
        raise BadImageError(
            "truncated", f"{values.size} bytes, {width}x{height} {encoding} of step {step} needs {needed}"
        )
    kind = np.dtype((">u2" if big_endian else "<u2") if form.wide else np.uint8)
    pixels: Any = np.ndarray((height, width, form.channels), kind, values, 0, (step, form.channels * size, size))
    pixels = pixels[..., 0] if form.channels == 1 else pixels
    if form.wide:
        pixels = _levelled(pixels, encoding, levelling)
    if rows:
        second = np.ndarray((rows, second_row), np.uint8, values, step * height, (second_step, 1))
        return _convert(form, encoding, pixels, second)
    return _convert(form, encoding, pixels)


def compressed_to_rgb(
    data: Any, encoding: str, levelling: Levelling | None = None, max_pixels: int = MAX_PIXELS
) -> Image:
    """The pixels of a JPEG or PNG file in memory; not turned by its metadata, as ``camera_info`` expects.

    Args:
        data: anything with the buffer protocol.
        encoding: ``CompressedImage.format``: ``jpeg``, ``png``, or as ``image_transport`` writes it, such as
            ``rgb8; jpeg compressed bgr8``; what follows ``compressed`` is the order of the channels in the file's place
            of blue, green, red.
        levelling: as of `to_rgb`.
        max_pixels: of the largest image that is taken.

    Raises:
        BadImageError: neither JPEG nor PNG, cut short, of an impossible size, broken, made to be read in several ways,
            or of 16 bits that need a range.
    """
    content = bytes(data)
    about = f"format {encoding!r}: {len(content)} bytes"
    if not content.startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n")):
        raise BadImageError("encoding", f"{about} that are neither JPEG nor PNG")
    try:
        header = read_header(BytesIO(content))
        _check_size(header.height, header.width, max_pixels)
        pixels: Any = decode(content, checked_header(content, max_pixels), cv2.IMREAD_UNCHANGED)
    except CutOffError as error:
        raise BadImageError("truncated", f"{about}, the end of the picture is missing: {error}") from error
    except BadImageError:
        raise
    except InputError as error:
        raise BadImageError("decode", f"{about}: {error}") from error
    if pixels.dtype != np.uint8:
        pixels = _levelled(pixels, encoding, levelling)
    stored = encoding.partition("compressed")[2].strip()
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        mosaic = stored.rstrip("0123456789")
        return _convert(_FORMATS[f"{mosaic}8" if mosaic in _MOSAICS else "mono8"], encoding, pixels)
    in_order = stored.startswith("rgb")
    return _convert(_FORMATS[("rgb" if in_order else "bgr") + ("8" if channels == 3 else "a8")], encoding, pixels)


def _levelled(pixels: Pixels, encoding: str, levelling: Levelling | None) -> Image:
    try:
        return (levelling or Levelling())(pixels)
    except InputError as error:
        raise BadImageError("range", f"{encoding}: {error}") from error


def _convert(form: _PixelFormat, encoding: str, *planes: Image) -> Image:
    try:
        return form.to_rgb(*planes)
    except cv2.error as error:
        height, width = planes[0].shape[:2]
        raise BadImageError("decode", f"{encoding} of {width}x{height}: {error.err}") from error


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height <= 0 or width <= 0:
        raise BadImageError("size", f"the image is empty, {width}x{height}")
    if height * width > max_pixels:
        raise BadImageError("size", f"{width}x{height} is more than {max_pixels} pixels")
