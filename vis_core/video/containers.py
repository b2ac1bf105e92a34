"""What the tables and the layout of a container say of its frames, without decoding: MP4/MOV, AVI, Matroska/WebM, FLV.

A container's totals are no truth: an edit list hides samples, an AVI counts chunks that hold nothing, Matroska states a
duration and no count. So the entries themselves are counted.

Sources: ISO/IEC 14496-12; Microsoft's AVI RIFF reference; RFC 9559 (Matroska), RFC 8794 (EBML), RFC 6386 (VP8);
Adobe Flash Video File Format Specification 10.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

_MOST_TABLES = 256 * 2**20
_MOST_SAMPLES = 10_000_000
_MOST_EMPTY_VOP = 8  # bytes; in so few MPEG-4 says "as before", and no picture comes of it
_EBML, _SEGMENT, _CLUSTER, _TRACKS, _TRACK = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_AROUND = (0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469)  # seek head, info, cues, tags, ...
_TRACK_NUMBER, _TRACK_TYPE, _CODEC, _GROUP, _BLOCK, _SIMPLE_BLOCK = 0xD7, 0x83, 0x86, 0xA0, 0xA1, 0xA3
_OPENED = (_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _GROUP)


class Contents(NamedTuple):
    """What a file holds by its entries.

    Attributes:
        frames: of the first video track; None where the file does not tell.
        least: how many frames come out of it at least, if none is damaged; None likewise.
        cut_off: the file breaks off within its frames.
    """

    frames: int | None
    least: int | None
    cut_off: bool


UNKNOWN = Contents(None, None, False)


def read_contents(path: Path) -> Contents:
    """What the file holds; `UNKNOWN` of another kind, or where its tables make no sense."""
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(12)
            if start[:4] == b"RIFF" and start[8:] == b"AVI ":
                return _of_avi(file)
            if start.startswith(_EBML.to_bytes(4, "big")):
                return _of_matroska(file)
            if start.startswith(b"FLV\1"):
                return _of_flv(file)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                return _of_mp4(file)
    except (OSError, ValueError, LookupError, struct.error):
        pass  # whoever decodes the file says what is wrong with it
    return UNKNOWN


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _of_mp4(file: BinaryIO) -> Contents:
    end, at, moov, fragmented, cut_off = _size(file), 0, b"", False, False
    while at + 8 <= end:
        file.seek(at)
        size, kind, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        size = large if size == 1 else size or end - at
        if size < 8:
            break  # no box: whatever stands behind the last one
        cut_off = at + size > end and kind in (b"mdat", b"moof")
        fragmented |= kind == b"moof"
        if kind == b"moov" and size <= min(_MOST_TABLES, end - at):
            file.seek(at + 8)
            moov = file.read(size - 8)
        at += size
    movie = dict(_boxes(moov))
    tracks = [dict(_boxes(body)) for kind, body in _boxes(moov) if kind == b"trak"]
    for track in tracks:
        media = dict(_boxes(track[b"mdia"]))
        if media[b"hdlr"][8:12] == b"vide" and not fragmented and b"mvex" not in movie:
            frames = _shown_samples(track, media, _timescale(movie[b"mvhd"]))
            return Contents(frames, frames, cut_off)
    return Contents(None, None, cut_off)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _timescale(header: bytes) -> int:
    """Ticks per second, of mvhd or mdhd."""
    return max(1, struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


def _runs(table: bytes) -> npt.NDArray[np.int64]:
    """The values of a table of runs (stts, ctts), one a sample."""
    (count,) = struct.unpack_from(">I", table, 4)
    entries = np.frombuffer(table, ">u4", 2 * count, 8).reshape(-1, 2)
    if entries[:, 0].sum(dtype=np.uint64) > _MOST_SAMPLES:
        raise ValueError("too many samples")
    return np.repeat(entries[:, 1].astype(np.int32).astype(np.int64), entries[:, 0])


def _shown_samples(track: dict[bytes, bytes], media: dict[bytes, bytes], movie_scale: int) -> int:
    """How many samples the track's edit list shows; all, where it has none."""
    tables = dict(_boxes(dict(_boxes(media[b"minf"]))[b"stbl"]))
    lasting = _runs(tables[b"stts"])
    edits = dict(_boxes(track.get(b"edts", b""))).get(b"elst")
    if edits is None or edits[4:8] == bytes(4):
        return len(lasting)
    times = np.cumsum(lasting) - lasting
    if b"ctts" in tables:
        times += _runs(tables[b"ctts"])[: len(times)]
    scale, long = _timescale(media[b"mdhd"]) / movie_scale, edits[0] == 1
    shown = 0
    for i in range(struct.unpack_from(">I", edits, 4)[0]):
        duration, start = struct.unpack_from(">Qq" if long else ">Ii", edits, 8 + (20 if long else 12) * i)
        if start >= 0:  # else nothing is shown for a while
            # A tick of the movie less: its clock is the coarser one, and the duration rounded to it.
            end = start + (duration - 1) * scale if duration else np.inf
            shown += int(((times >= start) & (times < end)).sum())
    return shown


def _of_avi(file: BinaryIO) -> Contents:
    end, at, riff_end = _size(file), 0, 0
    kinds: list[bytes] = []  # of the streams
    stated, frames, empty, sound, name = 0, 0, 0, True, b""
    while at + 8 <= end:
        file.seek(at)
        last, head = name, file.read(12).ljust(12, b"\0")
        name, size = struct.unpack_from("<4sI", head)
        if name == b"RIFF":
            riff_end = at + 8 + (size or end)
        elif at >= riff_end:
            name = last
            break  # whatever stands behind the end
        if name in (b"RIFF", b"LIST") and head[8:] in (b"AVI ", b"AVIX", b"hdrl", b"strl", b"movi", b"rec "):
            at += 12
            continue
        sound = all(32 <= letter < 127 for letter in name) and at + 8 + size <= end + 1
        if not sound:
            break
        if name == b"strh":
            kinds.append(head[8:])
            if head[8:] == b"vids" and kinds.count(b"vids") == 1:
                file.seek(at + 40)
                (stated,) = struct.unpack("<I", file.read(4))
        elif b"vids" in kinds and name[:2] == b"%02d" % kinds.index(b"vids") and name[2:] in (b"dc", b"db"):
            frames += size > 0
            empty += size == 1 or (1 < size <= _MOST_EMPTY_VOP and head[8:] == b"\0\0\1\xb6")
        at += 8 + size + size % 2
    cut_off = riff_end > end + 1 and name != b"idx1"
    if cut_off or not sound:
        return Contents(stated, stated, cut_off)
    return Contents(frames, frames - empty, False)


def _of_flv(file: BinaryIO) -> Contents:
    """Tags are not counted, since some hold no frame; where the last one ends is told."""
    end, at = _size(file), 13
    while at + 11 <= end:
        file.seek(at)
        head = file.read(4)
        if head[0] & 0x1F not in (8, 9, 18):  # audio, video, script
            return Contents(None, None, any(head))
        at += 11 + int.from_bytes(head[1:], "big") + 4
    return Contents(None, None, at - 4 > end)  # the size that follows the last tag may lack


def _of_matroska(file: BinaryIO) -> Contents:
    end, at, frames = _size(file), 0, 0
    segment_end, within_frames = 0, False
    tracks: list[dict[int, bytes]] = []
    while at < end and not 0 < segment_end <= at:
        file.seek(at)
        head = file.read(32).ljust(32, b"\0")
        try:
            kind, sized = _number(head, 0, marked=True)
            size, after = _number(head, sized)
        except ValueError:
            return Contents(None, None, True)
        at += after
        unknown = size == (1 << 7 * (after - sized)) - 1  # all ones: of a live recording
        if kind >= 0x10000000:  # of the upper levels
            within_frames = kind not in _AROUND
        if kind == _SEGMENT and not unknown:
            segment_end = at + size
        if kind == _TRACK:
            tracks.append({})
        if kind in _OPENED:
            continue
        if at + size > end or unknown:
            return Contents(None, None, within_frames)
        if kind in (_TRACK_NUMBER, _TRACK_TYPE, _CODEC) and tracks:
            tracks[-1].setdefault(kind, head[after : after + size])
        if kind in (_BLOCK, _SIMPLE_BLOCK):
            frames += _is_shown(head[after:], tracks)
        at += size
    cut_off = segment_end > end and within_frames
    return Contents(None, None, True) if cut_off else Contents(frames, frames, False)


def _is_shown(block: bytes, tracks: list[dict[int, bytes]]) -> bool:
    """Whether a block is of the first video track and shows a picture."""
    video = next((track for track in tracks if int.from_bytes(track.get(_TRACK_TYPE, b""), "big") == 1), {})
    number, at = _number(block, 0)
    if number != int.from_bytes(video.get(_TRACK_NUMBER, b""), "big"):
        return False
    # VP8 has frames that only serve as references.
    return video.get(_CODEC) != b"V_VP8" or bool(block[at + 3] & 0x10)


def _length(first: int) -> int:
    """Bytes of an EBML number, by its first."""
    if not first:
        raise ValueError("no EBML number")
    return 9 - first.bit_length()


def _number(data: bytes, at: int, marked: bool = False) -> tuple[int, int]:
    """An EBML number, with the bit that marks its length or without, and where it ends."""
    length = _length(data[at])
    value = int.from_bytes(data[at : at + length], "big")
    return value if marked else value & (1 << 7 * length) - 1, at + length
