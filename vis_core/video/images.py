"""Reading one image file of any origin, safely: bounded by its header before anything is decoded; and writing one."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.atomic import atomic_write
from vis_core.video.headers import MAX_PIXELS as MAX_PIXELS
from vis_core.video.headers import CutOffError, ImageHeader, read_header
from vis_core.video.levels import Levelling

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

_HEAD_BYTES = 1 << 16  # of a JPEG, read at once: sets of a hundred thousand images are looked through

# To be turned by EXIF: quarter turns clockwise, after a mirroring of left and right.
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (1, False), 7: (1, True), 8: (3, False)}


def read_image(
    path: str | Path, turned: bool = True, levelling: Levelling | None = None, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """The image as uint8 ``[H, W, 3]`` RGB; grey is repeated, alpha is left away.

    Args:
        path: of the file.
        turned: upright by its EXIF orientation, as viewers show it; else as it is stored.
        levelling: how 16 bits become 8; None: by their upper 8, if they use a tenth of what they can.
        max_pixels: of the largest image that is read.

    Raises:
        InputError: no such file, not a JPEG, PNG, BMP or WebP, too large, or damaged as far as the decoder tells.
    """
    pixels = read_pixels(path, turned, max_pixels)
    try:
        return (levelling or Levelling())(pixels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_pixels(
    path: str | Path, turned: bool = True, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """As `read_image`, uint8 or uint16 as stored."""
    path = Path(path)
    most = 8 * max_pixels
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.stat().st_size > most:
            raise InputError(f"{path}: {path.stat().st_size} bytes, at most {most} are read")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        header = checked_header(data, max_pixels)
        image: Any = decode(data, header, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return _turned(image, header.orientation) if turned else image


def header_of(path: str | Path) -> ImageHeader:
    """The header of an image file; no more of the file is read.

    Raises:
        InputError: as of `read_image`.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head.startswith(b"\xff\xd8"):
                with suppress(CutOffError):
                    return read_header(BytesIO(head))
            file.seek(0)
            return read_header(file)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def checked_header(data: bytes, max_pixels: int) -> ImageHeader:
    """The header of an image whose size can be taken, and whose end is there.

    Raises:
        InputError: its header is damaged or ambiguous, or its size is not between 1 and ``max_pixels``.
        CutOffError: its end is missing: decoders would fill the picture with grey.
    """
    header = read_header(BytesIO(data))
    width, height = header.width, header.height
    if width <= 0 or height <= 0 or width * height > max_pixels:
        raise InputError(f"size {width}x{height} is not between 1 and {max_pixels} pixels")
    # In a scan every other 0xFF is followed by 0, so this is the end of the picture itself.
    if header.kind == "jpeg" and data.find(b"\xff\xd9", header.begin) < 0:
        raise CutOffError("cut off: a JPEG without its end")
    if header.kind == "png" and data.rfind(b"IEND") < 0:
        raise CutOffError("cut off: a PNG without its end")
    return header


def decode(data: bytes, header: ImageHeader, flags: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The pixels of an image file, as OpenCV orders them, checked against their header.

    Args:
        data: of the file.
        header: of `checked_header`.
        flags: of ``cv2.imdecode``, of those that turn nothing.

    Raises:
        InputError: it does not decode, or to another size.
    """
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"does not decode: {error.err or error}") from error
    if image is None:
        raise InputError("does not decode: damaged or cut off")
    if image.shape[:2] != header.size(turned=False):
        stated, found = f"{header.width}x{header.height}", f"{image.shape[1]}x{image.shape[0]}"
        raise InputError(f"decodes to {found} pixels, its header states {stated}")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{image.dtype} pixels, only 8 and 16 bits a channel are read")
    return image  # type: ignore[no-any-return]


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


def _turned(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The image as a viewer shows one of this orientation."""
    turns, mirrored = _TURNS.get(orientation, (0, False))
    if mirrored:
        image = cv2.flip(image, 1)
    return image if turns == 0 else cv2.rotate(image, turns - 1)  # ROTATE_90_CLOCKWISE, _180, _90_COUNTERCLOCKWISE
