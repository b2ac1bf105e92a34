"""Panoptic images, in KITTI-STEP's form: PNGs whose red is the class, and green and blue the number of an instance.

A pixel is 24 bits: class (8), instance number (16, green * 256 + blue). Class 255 is void. Numbers are of things; that
of stuff is 0, and a thing's 0 is one that is not told apart. Needs OpenCV, which is imported when the first image is
read or made. Source: M. Weber et al., STEP: Segmenting and Tracking Every Pixel, NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, MissingDependencyError

VOID = 255
NUMBER_BITS = 16
MAX_NUMBER = 2**NUMBER_BITS - 1
MAX_PIXELS = 100_000_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}


def decode_panoptic(data: bytes) -> npt.NDArray[np.int32]:
    """Class and instance number of each pixel, ``class << 16 | number``, int32 ``[H, W]``.

    Args:
        data: a PNG.

    Raises:
        InputError: no PNG, not RGB with 8 bits a channel, over `MAX_PIXELS`, or damaged.
    """
    if not data.startswith(_SIGNATURE) or len(data) < 33:
        raise InputError("empty" if not data else "not a PNG")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if (bits, colour) != (8, 2):
        raise InputError(f"mode {_COLOURS.get(colour, colour)} of {bits} bits, but a panoptic PNG is RGB of 8 bits")
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"size {height} x {width} is not between 1 and {MAX_PIXELS} pixels")
    cv2 = _opencv()
    image = None
    if b"IEND" in data[-64:]:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise InputError(f"does not decode: {error.err or error}") from error
    if image is None or image.dtype != np.uint8 or image.shape[:2] != (height, width):
        raise InputError("does not decode: damaged or cut off")
    channels = image.astype(np.int32)
    return np.asarray(channels[..., 2] << NUMBER_BITS | channels[..., 1] << 8 | channels[..., 0])


def read_panoptic(path: Path) -> npt.NDArray[np.int32]:
    """As `decode_panoptic`, of a file; the text of the error does not name it.

    Raises:
        InputError: the file cannot be read, or is not such an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error
    return decode_panoptic(data)


def encode_panoptic(classes: npt.NDArray[np.uint8], numbers: npt.NDArray[np.uint16]) -> bytes:
    """A panoptic image as a PNG.

    Args:
        classes: uint8 ``[H, W]``; 255 is void.
        numbers: of instances, uint16 ``[H, W]``.
    """
    image = np.stack((numbers & 0xFF, numbers >> 8, classes), axis=-1).astype(np.uint8)
    _, png = _opencv().imencode(".png", image)
    return png.tobytes()


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("panoptic PNGs need OpenCV; pip install opencv-python-headless") from error
    return cv2
