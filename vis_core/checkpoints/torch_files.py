"""Weight files of torch (zip archives, and the format before 1.6) and pickled dicts of NumPy arrays."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from torch import Tensor

from vis_core.checkpoints.pickles import Other, Storage, StoredArray, StoredTensor, load_pickle
from vis_core.errors import CheckpointError, printable

_NESTED = ("model", "state_dict", "model_state_dict")
_LEGACY = 0x1950A86A20F9469CFC6C
_LARGEST_PICKLE = 64 << 20
_LARGEST_DIRECTORY = 16 << 20
_LARGEST_DIMENSION = 1 << 40
_READ = """
    float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz int64 int32 int16 int8
    uint8 bool
"""
PLAIN = frozenset(getattr(torch, name) for name in _READ.split() if hasattr(torch, name))
"""Types of values that weights may have."""
_Places = Mapping[str, tuple[int, int]]


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Tensors of a pickled weight file by key, on the CPU; of what lies beside them nothing is made.

    Raises:
        CheckpointError: torn, no weights by name, or it would execute code.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = file.read(16)
            file.seek(0)
            if start.startswith(b"PK"):
                content, places = _read_archive(path, size)
            else:
                content, places = _read_stream(file, size, start)
        return _Values(path, size, places).tensors(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


class _ShortReader(BufferedReader):
    """A file of which no more is read at a time than a directory of an archive may have."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _LARGEST_DIRECTORY:
            raise CheckpointError(f"its directory has {size} bytes, and {_LARGEST_DIRECTORY} are the most that is read")
        return super().read(size)


def _read_archive(path: Path, size: int) -> tuple[Any, _Places]:
    """The content of a zip archive as ``torch.save`` writes it, and where its storages lie.

    The archive's records are stored as they are, never compressed: so none is larger than the file.
    """
    with _ShortReader(FileIO(path)) as file:
        try:
            with ZipFile(file) as archive:
                entries = archive.infolist()
        except (BadZipFile, OSError, ValueError, OverflowError, struct.error, NotImplementedError) as error:
            raise CheckpointError(f"not a sound torch file: {printable(error, 100)}") from error
        found = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        if not found or found[0].count("/") != 1:
            raise CheckpointError("not a torch file: an archive without data.pkl; was it unpacked and packed again?")
        folder = found[0].removesuffix("data.pkl")
        if any(entry.filename.startswith((f"{folder}code/", f"{folder}constants.pkl")) for entry in entries):
            raise CheckpointError("is a TorchScript program, not weights; save its state_dict()")
        records: dict[str, tuple[int, int]] = {}
        for entry in entries:
            if entry.filename in records:
                raise CheckpointError(f"not a sound torch file: two records {printable(repr(entry.filename), 100)}")
            records[entry.filename] = _place(file, entry, size)
        start, length = records.get(f"{folder}byteorder", (0, 0))
        file.seek(start)
        order = file.read(min(length, 16)).decode("latin1")
        if length and order != sys.byteorder:
            raise CheckpointError(
                f"its bytes are in the order {printable(order)}, of another machine; save it anew here"
            )
        start, length = records[found[0]]
        if length > _LARGEST_PICKLE:
            raise CheckpointError(f"its data.pkl has {length} bytes, and {_LARGEST_PICKLE} are the most that is read")
        file.seek(start)
        content = load_pickle(file, length)
    prefix = f"{folder}data/"
    return content, {key.removeprefix(prefix): at for key, at in records.items() if key.startswith(prefix)}


def _place(file: BinaryIO, entry: ZipInfo, size: int) -> tuple[int, int]:
    """Where a record of an archive lies: first byte and number of bytes."""
    name = printable(repr(entry.filename), 100)
    if entry.compress_type != ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise CheckpointError(f"record {name} is compressed, as torch never writes it; unpack it and save it anew")
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise CheckpointError(f"torn: record {name} is not where it should be")
    start = entry.header_offset + 30 + sum(struct.unpack_from("<HH", header, 26))
    if start + entry.file_size > size:
        raise CheckpointError(f"torn: record {name} goes past the end of the file")
    return start, entry.file_size


def _read_stream(file: BinaryIO, size: int, start: bytes) -> tuple[Any, _Places]:
    """The content of a file of torch before 1.6, and where its storages lie; or that of a plain pickle."""
    if start.startswith(b"version https://"):
        raise CheckpointError("only names a file that Git LFS keeps; `git lfs pull` fetches it")
    if start.lstrip()[:1] == b"<":
        raise CheckpointError("is a web page, not weights; was it downloaded to its end, by the right address?")
    content = load_pickle(file, size)
    if content != _LEGACY or isinstance(content, float):
        return content, {}
    for _ in ("version", "sizes of types on the machine that wrote it"):
        told = load_pickle(file, size)
    if isinstance(told, dict) and told.get("little_endian") is False:
        raise CheckpointError("its bytes are in the other order; save it anew on this machine")
    content = load_pickle(file, size)
    keys = load_pickle(file, size)
    sizes = {storage.key: _nbytes(storage) for storage in _storages(content)}
    places = {}
    for key in keys if isinstance(keys, list) else ():
        head = file.read(8)
        if len(head) < 8 or not isinstance(key, str) or key not in sizes or key in places:
            raise CheckpointError("torn: its storages are not those that it names")
        places[key] = (file.tell(), sizes[key])
        if file.seek(sizes[key], 1) > size:
            raise CheckpointError(f"torn: storage {printable(repr(key), 60)} goes past the end of the file")
    return content, places


def _storages(content: Any) -> Iterator[Storage]:
    """All storages that a content names, however deep."""
    seen: set[int] = set()
    open_ = [content]
    while open_:
        value = open_.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            open_ += value.values()
        elif isinstance(value, (list, tuple)):
            open_ += value
        elif isinstance(value, StoredTensor):
            open_.append(value.storage)
        elif isinstance(value, Storage):
            yield value


def _nbytes(storage: Storage) -> int:
    return storage.count * (1 if storage.dtype is None else storage.dtype.itemsize)


class _Values:
    """Tensors from their descriptions.

    Written out they may take four times the file: weights that two entries share are, but a file of a few bytes that
    describes gigabytes is refused.
    """

    def __init__(self, path: Path, size: int, places: _Places) -> None:
        self._path, self._places = path, places
        self._left = self._most = 4 * size + (1 << 20)
        self._raw: dict[str, Tensor] = {}

    def tensors(self, content: Any) -> dict[str, Tensor]:
        for name in _NESTED:
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = content[name]
                break
        if not isinstance(content, dict):
            raise CheckpointError(f"holds a {_kind(content)}, not weights by name")
        if not content:
            raise CheckpointError("holds no tensors")
        return {self._key(key, value): self._tensor(key, value) for key, value in content.items()}

    def _key(self, key: Any, value: Any) -> str:
        if not isinstance(key, str):
            raise CheckpointError(f"{_entry(key)} is named by a {type(key).__name__}, not a text")
        if not isinstance(value, (StoredTensor, StoredArray)):
            raise CheckpointError(f"{_entry(key)} is a {_kind(value)}; weights are plain tensors")
        return key

    def _tensor(self, key: str, value: StoredTensor | StoredArray) -> Tensor:
        try:
            return self._of_array(value) if isinstance(value, StoredArray) else self._of_storage(value)
        except CheckpointError as error:
            raise CheckpointError(f"{_entry(key)} {error}") from None
        except (RuntimeError, ValueError) as error:  # numbers that torch does not take
            raise CheckpointError(f"{_entry(key)} is not usable: {printable(error, 100)}") from error

    def _of_storage(self, described: StoredTensor) -> Tensor:
        storage = described.storage
        if not isinstance(storage, Storage):
            raise CheckpointError("has no storage")
        dtype = described.dtype or storage.dtype
        if not isinstance(dtype, torch.dtype) or dtype not in PLAIN:
            raise CheckpointError(f"is of type {printable(dtype, 60)}; weights are of plain numbers")
        shape, strides = _sizes(described.shape), _sizes(described.strides)
        (offset,) = _sizes((described.offset,))
        if len(shape) != len(strides):
            raise CheckpointError(f"has the shape {_shown(shape)} and {len(strides)} strides")
        raw = self._bytes(storage)
        count = len(raw) // dtype.itemsize
        reach = offset + 1 + sum((n - 1) * step for n, step in zip(shape, strides)) if all(shape) else 0
        if reach > count:
            raise CheckpointError(f"of shape {_shown(shape)} reaches to value {reach} of the {count} that are stored")
        if not self._take(shape, dtype.itemsize):
            return torch.empty(shape, dtype=dtype)
        return raw[: count * dtype.itemsize].view(dtype).as_strided(shape, strides, offset)

    def _bytes(self, storage: Storage) -> Tensor:
        if storage.key in self._raw:
            return self._raw[storage.key]
        if storage.key not in self._places:
            raise CheckpointError(f"has its values in record {printable(repr(storage.key), 60)}, which is not there")
        start, length = self._places[storage.key]
        if length != _nbytes(storage):
            raise CheckpointError(f"has {length} bytes of values stored, and says {printable(_nbytes(storage), 40)}")
        self._raw[storage.key] = torch.from_numpy(np.fromfile(self._path, np.uint8, length, offset=start))
        return self._raw[storage.key]

    def _of_array(self, described: StoredArray) -> Tensor:
        dtype, data = described.dtype, described.data
        if not isinstance(dtype, np.dtype):
            raise CheckpointError("is an array of something else than plain numbers")
        shape = _sizes(described.shape)
        data = data.encode("latin1") if isinstance(data, str) else data
        needed = self._take(shape, dtype.itemsize)
        if not isinstance(data, bytes) or len(data) != needed:
            found = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
            raise CheckpointError(f"of shape {_shown(shape)} needs {needed} bytes, and {found} are stored")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if described.fortran else "C")
        return torch.from_numpy(np.array(array, order="C"))

    def _take(self, shape: tuple[int, ...], itemsize: int) -> int:
        nbytes = itemsize
        for n in shape:
            nbytes *= n
        self._left -= nbytes
        if self._left < 0:
            raise CheckpointError(
                f"of shape {_shown(shape)} is refused: written out, the tensors up to it take more than {self._most} "
                "bytes, four times what is stored"
            )
        return nbytes


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > 64:
        raise CheckpointError("has no shape")
    for n in values:
        if type(n) is not int or not 0 <= n < _LARGEST_DIMENSION:
            found = printable(n, 40) if type(n) is int else f"a {type(n).__name__}"
            raise CheckpointError(f"has {found} among its sizes, strides and offset")
    return tuple(values)


def _shown(shape: tuple[int, ...]) -> str:
    return printable(list(shape), 60)


def _entry(key: Any) -> str:
    return f"entry {printable(repr(key), 100)}"


def _kind(value: Any) -> str:
    return value.what if isinstance(value, Other) else type(value).__name__
