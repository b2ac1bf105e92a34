"""Weight files of safetensors, whose header is looked at before the library is given it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vis_core.errors import CheckpointError, printable

_LARGEST_HEADER = 16 << 20
_TYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a file by key, on the CPU, and its metadata.

    Raises:
        CheckpointError: torn; a header that is too large, nested, or names a key twice; a type that no weights have.
    """
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a sound safetensors file: {printable(error)}") from error
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return tensors, metadata


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"its header should have {length} bytes, of {size} in all")
        if length > _LARGEST_HEADER:
            raise ValueError(f"its header has {length} bytes, and {_LARGEST_HEADER} are the most that is read")
        header = json.loads(file.read(length), object_pairs_hook=_object)
    for key, entry in header.items() if isinstance(header, dict) else ():
        kind = entry.get("dtype") if isinstance(entry, dict) and key != "__metadata__" else "F32"
        if kind not in _TYPES:
            told = f"entry {printable(repr(key), 100)} is of type {printable(repr(kind), 60)}"
            raise CheckpointError(f"{told}; weights are of plain numbers: {', '.join(_TYPES)}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"the key {printable(repr(twice), 100)} stands twice")
    return content
