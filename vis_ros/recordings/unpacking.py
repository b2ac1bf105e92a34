"""Decompression of what recordings hold, which takes no more room than is due."""

from __future__ import annotations

import shutil
from pathlib import Path

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.reader import zstd  # type: ignore[attr-defined]

from vis_core.errors import InputError

LARGEST = 512 << 20
"""Bytes of a message or a chunk, unpacked: five images of 33 megapixels."""
_LARGEST_RATIO, _SMALL = 100, 1 << 30
_MAX_FRAMES = 1000
_PIECE = 1 << 20

FORMATS = ("", "lz4", "zstd")


def unpack(data: bytes, compression: str, size: int | None = None) -> bytes:
    """A message or a chunk, unpacked.

    Args:
        data: as it is stored.
        compression: one of `FORMATS`.
        size: bytes that it should have; None: that is not said.

    Raises:
        ReaderError: it is torn, or of another size.
        InputError: it is, or is said to be, larger than `LARGEST`.
    """
    if size is not None and size > LARGEST:
        raise InputError(f"a chunk is said to have {size} bytes, and {LARGEST} are the most that is unpacked")
    most = LARGEST if size is None else size
    if compression == "zstd":
        raw = _unpack_zstd(data, most)
    elif compression == "lz4":
        raw = bytes(LZ4FrameDecompressor().decompress(data, max_length=most + 1))
    else:
        raw = data
    if size is None and len(raw) > most:
        raise InputError(f"a message has more than {most} bytes, the most that is unpacked")
    if size is not None and len(raw) != size:
        found = f"more than {size}" if len(raw) > size else str(len(raw))
        raise ReaderError(f"a chunk is said to have {size} bytes, and has {found}")
    return raw


def unpack_file(file: Path, target: Path) -> None:
    """Unpack a file that is compressed as a whole.

    Raises:
        InputError: there is no room for it, or it grows a hundredfold, as no images do.
    """
    free = shutil.disk_usage(target.parent).free - _PIECE
    most = max(_LARGEST_RATIO * file.stat().st_size, _SMALL)
    written = 0
    with zstd.open(file, "rb") as source, target.open("wb") as out:
        while piece := source.read(_PIECE):
            written += len(piece)
            if written > min(free, most):
                room = f"of which {target.parent} has no more" if written > free else f"{_LARGEST_RATIO} times its size"
                raise InputError(
                    f"{file}: takes more than {written - len(piece)} bytes unpacked, {room}; set TMPDIR to a place "
                    f"with room, or unpack it yourself (`zstd -d {file}`) and name what comes of it"
                )
            out.write(piece)


def _unpack_zstd(data: bytes, most: int) -> bytes:
    raw = b""
    for _ in range(_MAX_FRAMES):
        decompressor = zstd.ZstdDecompressor()
        raw += decompressor.decompress(data, most + 1 - len(raw))
        if len(raw) > most:
            break
        if not decompressor.eof:
            raise ReaderError("compressed data end too early")
        data = decompressor.unused_data
        if not data:
            break
    else:
        raise ReaderError(f"compressed data have more than {_MAX_FRAMES} frames")
    return raw
