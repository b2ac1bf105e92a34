"""Video files whose containers claim what an ordinary writer's do not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.vis_core.video.image_files import picture


def write_video(path: Path, count: int, codec: str, fps: float = 10) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (160, 120))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV has no encoder for {codec} in {path.suffix}")
    for i in range(count):
        writer.write(np.roll(picture(0, (120, 160)), 3 * i, 1))
    writer.release()


def matroska(times: Sequence[int], live: bool = False, fps: float = 25, codec: bytes = b"V_MJPEG") -> bytes:
    """Motion JPEG shown at these times, ms; live: sizes are unknown, as a recorder that streams leaves them."""

    def element(kind: str, body: bytes, sized: bool = True) -> bytes:
        return bytes.fromhex(kind) + ((1 << 56 | len(body)).to_bytes(8, "big") if sized else b"\xff") + body

    def number(kind: str, value: int) -> bytes:
        return element(kind, value.to_bytes(4, "big"))

    header = element("1a45dfa3", element("4282", b"matroska") + number("4287", 4) + number("4285", 2))
    duration = b"" if live else element("4489", struct.pack(">d", times[-1] + 1))
    info = element("1549a966", number("2ad7b1", 1_000_000) + duration)
    size = element("e0", number("b0", 160) + number("ba", 120))
    entry = number("d7", 1) + number("73c5", 1) + number("83", 1) + element("86", codec) + size
    entry += number("23e383", round(1e9 / fps))
    blocks = b""
    for i, at in enumerate(times):
        image = np.roll(picture(0, (120, 160)), 3 * i, 1)
        blocks += element("a3", b"\x81" + struct.pack(">hB", at, 0x80) + cv2.imencode(".jpg", image)[1].tobytes())
    cluster = element("1f43b675", number("e7", 0) + blocks, not live)
    return header + element("18538067", info + element("1654ae6b", element("ae", entry)) + cluster, not live)


def trimmed(mp4: bytes, first: float, count: float, fps: float) -> bytes:
    """An MP4 whose edit list shows ``count`` frames from ``first`` on; it must have a list of one edit already."""
    at = mp4.index(b"elst") + 12
    scale = struct.unpack_from(">I", mp4, mp4.index(b"mdhd") + 16)[0]
    edit = struct.pack(">II", round(1000 * count / fps), round(scale * first / fps))
    return mp4[:at] + edit + mp4[at + 8 :]


def tables_first(mp4: bytes) -> bytes:
    """An MP4 with its tables before the frames, as for the web; they must be at its end."""
    start = mp4.index(b"moov") - 4
    tables = bytearray(mp4[start:])
    at = tables.index(b"stco") + 12
    offsets = struct.iter_unpack(">I", tables[at : at + 4 * struct.unpack_from(">I", tables, at - 4)[0]])
    for i, (offset,) in enumerate(list(offsets)):
        struct.pack_into(">I", tables, at + 4 * i, offset + len(tables))
    first = mp4.index(b"ftyp") - 4 + struct.unpack_from(">I", mp4)[0]
    # The offsets count from the file's start, and only what stands behind `ftyp` moves.
    return mp4[:first] + bytes(tables) + mp4[first:start]


def with_empty_chunks(avi: bytes, which: Sequence[int]) -> bytes:
    """An AVI in which these chunks hold nothing, which says "as before"; JUNK fills their place."""
    data, at = bytearray(avi), avi.index(b"movi") + 4
    entries = avi.index(b"idx1") + 8
    for i in range(max(which) + 1):
        while data[at : at + 4] != b"00dc":
            at += 8 + struct.unpack_from("<I", data, at + 4)[0]
        size = struct.unpack_from("<I", data, at + 4)[0]
        size += size % 2
        if i in which:
            struct.pack_into("<I4sI", data, at + 4, 0, b"JUNK", size - 8)
            struct.pack_into("<I", data, entries + 16 * i + 12, 0)
        at += 8 + size
    return bytes(data)
