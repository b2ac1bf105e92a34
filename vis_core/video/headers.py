"""The header of an image file: kind, size, depth and EXIF orientation, read as the decoders read it.

Where a file could be read in two ways, it is refused. The decoders themselves are bounded, too.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from vis_core.errors import InputError

MAX_PIXELS = 100_000_000
"""Largest image that is read from a file."""

_BOUND = "OPENCV_IO_MAX_IMAGE_PIXELS"
_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_ORIENTATION = 0x0112
_STEPS = 10_000  # segments, chunks or tags of a header
_EXIF_BYTES = 1 << 20


class CutOffError(InputError):
    """An image file that ends too early."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image states.

    Attributes:
        kind: ``jpeg``, ``png``, ``bmp`` or ``webp``.
        width, height: of the stored pixels.
        depth: bits of a value, 8 or 16.
        orientation: of EXIF: 1 = as stored, 3 = to be turned by 180 degrees, 6 clockwise, 8 counterclockwise; 2, 4, 5
            and 7 mirror, too.
        begin: where a JPEG's picture begins.
    """

    kind: str
    width: int
    height: int
    depth: int = 8
    orientation: int = 1
    begin: int = 0

    def size(self, turned: bool) -> tuple[int, int]:
        """Height and width, as stored or as turned by EXIF."""
        if turned and self.orientation >= 5:
            return self.width, self.height
        return self.height, self.width


def bound_decoder() -> None:
    """Let OpenCV refuse what is over `MAX_PIXELS`, unless the environment bounds it more.

    It reads this when it is loaded. Whatever a header is made to look like, the decoder takes no more memory then.
    """
    given = os.environ.get(_BOUND, "").strip()
    unit = _UNITS.get(given[-2:].upper(), 1)
    digits = given if unit == 1 else given[:-2]
    if not given or (digits.isdecimal() and int(digits) * unit > MAX_PIXELS):
        os.environ[_BOUND] = str(MAX_PIXELS)


def read_header(file: BinaryIO) -> ImageHeader:
    """The header of an image file, at its beginning.

    Raises:
        InputError: not a JPEG, PNG, BMP or WebP, or one that decoders may read otherwise.
        CutOffError: it ends within its header.
    """
    start = file.read(12)
    try:
        if start[:2] == b"\xff\xd8":
            return _of_jpeg(file)
        if start[:8] == b"\x89PNG\r\n\x1a\n":
            return _of_png(file)
        if start[:2] == b"BM":
            return _of_bmp(file)
        if start[:4] == b"RIFF" and start[8:] == b"WEBP":
            return _of_webp(file)
    except struct.error:
        raise CutOffError("cut off within its header") from None
    raise InputError("not a JPEG, PNG, BMP or WebP image" if start else "empty")


def _of_jpeg(file: BinaryIO) -> ImageHeader:
    """The segments up to the first scan; what stands between them is passed over as libjpeg does."""
    frame: tuple[int, int, int] | None = None
    orientation: int | None = None
    file.seek(2)
    most = _STEPS
    for _ in range(_STEPS):
        marker, passed = _next_marker(file, most)
        most -= passed
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # they have no length
            continue
        if marker in (0xD8, 0xD9):
            raise InputError("a JPEG with a second beginning, or its end, before its picture")
        length = _unpack(">H", file)[0] - 2
        if length < 0:
            raise InputError(f"a JPEG with a segment of {length + 2} bytes")
        begin = file.tell()
        if marker == 0xDA:
            if frame is None:
                raise InputError("a JPEG without a size before its picture")
            depth, height, width = frame
            return ImageHeader("jpeg", width, height, 8 if depth <= 8 else 16, orientation or 1, begin + length)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame is not None:
                raise InputError("a JPEG that states its size twice")
            frame = _unpack(">BHH", file)
        elif marker == 0xE1 and orientation is None:
            content = file.read(length)
            if content[:6] == b"Exif\0\0":
                orientation = _orientation(content[6:])
        file.seek(begin + length)
    raise InputError(f"a JPEG with more than {_STEPS} segments before its picture")


def _next_marker(file: BinaryIO, most: int) -> tuple[int, int]:
    """The next marker of a JPEG, and how many bytes are passed over that are none: fill bytes, zero bytes, rubbish."""
    marker, before = False, -2
    while before < most:
        byte = file.read(1)
        if not byte:
            raise CutOffError("cut off within its header")
        if marker and byte not in (b"\xff", b"\0"):
            return byte[0], max(before + 1, 0)
        marker = byte == b"\xff"
        before += 1
    raise InputError("a JPEG with rubbish between its segments")


def _of_png(file: BinaryIO) -> ImageHeader:
    file.seek(8)
    length, name, width, height, depth = _unpack(">I4sIIB", file)
    if (length, name) != (13, b"IHDR"):
        raise InputError("a PNG that does not begin with its header")
    file.seek(33)
    orientation: int | None = None
    for _ in range(_STEPS):
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        length, name = struct.unpack(">I4s", chunk)
        begin = file.tell()
        if name == b"IHDR":
            raise InputError("a PNG with two headers")
        if name == b"eXIf" and orientation is None:
            orientation = _orientation(file.read(min(length, _EXIF_BYTES)))
        if name == b"IEND" or orientation is not None:
            break
        file.seek(begin + length + 4)
    return ImageHeader("png", width, height, 16 if depth == 16 else 8, orientation or 1)


def _of_bmp(file: BinaryIO) -> ImageHeader:
    file.seek(14)
    (header,) = _unpack("<I", file)
    width, height = _unpack("<hh", file) if header == 12 else _unpack("<ii", file)
    return ImageHeader("bmp", width, abs(height))  # a negative height: rows from the top


def _of_webp(file: BinaryIO) -> ImageHeader:
    file.seek(12)
    size: tuple[int, int] | None = None
    for _ in range(_STEPS):
        try:
            name, length = _unpack("<4sI", file)
        except struct.error:
            if size is None:
                raise
            break
        begin = file.tell()
        if size is None:
            size, more = _size_of_webp(name, file)
            if not more:
                break
        elif name == b"EXIF":
            content = file.read(min(length, _EXIF_BYTES)).removeprefix(b"Exif\0\0")
            return ImageHeader("webp", *size, orientation=_orientation(content))
        file.seek(begin + length + length % 2)
    assert size is not None
    return ImageHeader("webp", *size)


def _size_of_webp(name: bytes, file: BinaryIO) -> tuple[tuple[int, int], bool]:
    """Width and height of the first chunk, and whether other chunks may follow it."""
    if name == b"VP8X":
        width, height = _unpack("<4x3s3s", file)
        return (1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")), True
    if name == b"VP8L":
        (bits,) = _unpack("<xI", file)
        return (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), False
    if name == b"VP8 ":
        width, height = _unpack("<6xHH", file)
        return (width & 0x3FFF, height & 0x3FFF), False
    raise InputError(f"a WebP that begins with {name!r}")


def _orientation(exif: bytes) -> int:
    """Of EXIF, from its byte order on; 1 where it states none that is known."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        for entry in range(count):
            tag, kind, values, value = struct.unpack_from(order + "HHIH", exif, first + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if (kind, values) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        pass  # cut off: it states none
    return 1


def _unpack(form: str, file: BinaryIO) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
