"""Reading and writing weight files, without ever executing what is in them."""

from __future__ import annotations

import logging
import os
import pickle
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vis_core.errors import CheckpointError

FORMAT = "vis_core 1"
"""What a weight file of ours says of its keys, in its metadata."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")
_NESTED = ("model", "state_dict", "model_state_dict")
_LISTED = 20
_LARGEST_SIDE = 10_000

_log = logging.getLogger(__name__)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a weight file by key, in its order, on the CPU.

    Args:
        path: ``.safetensors``; ``.pth``, ``.pt``, ``.bin`` of torch; or ``.pkl``, a pickled dict of NumPy arrays as
            detectron2 writes it. The weights may lie under ``model`` or ``state_dict``.

    Returns:
        The tensors, and the file's metadata (empty but for ``.safetensors``).

    Raises:
        CheckpointError: the file is missing, of an unknown kind, torn, holds something else than tensors, or would
            execute code on loading.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".pkl":
        content = _read_pickled_arrays(path)
    elif path.suffix in SUFFIXES:
        content = _read_torch(path)
    else:
        raise CheckpointError(f"{path}: unknown kind of weight file {path.suffix!r}; known are {', '.join(SUFFIXES)}")
    return _tensors_of(content, path), {}


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a ``.safetensors`` file: under a temporary name, then renamed, so that a torn file is never left.

    Raises:
        CheckpointError: the name does not end in ``.safetensors``, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights are written as .safetensors")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: x.detach().cpu().contiguous() for key, x in tensors.items()}, temporary, dict(metadata))
        temporary.chmod(0o666 & ~_umask())  # it is made for its owner alone
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The permissions that new files of this process do not get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def shape_of(tensors: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    """Shape of a tensor that tells the sizes of the network to be made: bounded before anything is allocated.

    Raises:
        CheckpointError: it is missing, or not of a possible shape.
    """
    x = tensors.get(key)
    if x is None or x.dim() != dimensions or not all(0 < n <= _LARGEST_SIDE for n in x.shape):
        found = "missing" if x is None else f"of shape {list(x.shape)}"
        raise CheckpointError(f"{key}, which tells the sizes of the network, is {found}")
    return tuple(x.shape)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill a module with tensors: all of its keys, no other, in its shapes, finite.

    Args:
        source: what the tensors came from, for the error's text.

    Raises:
        CheckpointError: lists the missing, left-over and misshapen keys and those that hold NaN or infinity.
    """
    wanted = module.state_dict()
    shared = [key for key in wanted if key in tensors]
    faults = {
        "missing": [key for key in wanted if key not in tensors],
        "left over": [key for key in tensors if key not in wanted],
        "misshapen": [
            f"{key} {list(tensors[key].shape)}, expected {list(wanted[key].shape)}"
            for key in shared
            if tensors[key].shape != wanted[key].shape
        ],
        "not finite": [
            key for key in shared if tensors[key].is_floating_point() and not bool(tensors[key].isfinite().all())
        ],
    }
    if any(faults.values()):
        parts = [f"{len(keys)} {what}: {_listed(keys)}" for what, keys in faults.items() if keys]
        raise CheckpointError(f"{source}: the keys do not fit the network.\n  " + "\n  ".join(parts))
    module.load_state_dict(dict(tensors))


def load_fitting(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill what of a module fits: the start of a training, whose heads may be of another class count.

    What does not fit is logged, and stays as it was.

    Args:
        source: what the tensors are for, for the log and the error's text.

    Raises:
        CheckpointError: nothing fits, or a tensor holds NaN or infinity.
    """
    wanted = module.state_dict()
    fitting = {key: x for key, x in tensors.items() if key in wanted and wanted[key].shape == x.shape}
    if not fitting:
        raise CheckpointError(
            f"{source}: none of the {len(tensors)} tensors to start from fits: {_listed(list(tensors))}"
        )
    if bad := [key for key, x in fitting.items() if x.is_floating_point() and not bool(x.isfinite().all())]:
        raise CheckpointError(f"{source}: not finite: {_listed(bad)}")
    if left := [key for key in tensors if key not in fitting]:
        _log.warning("%s: %d of %d tensors do not fit and are left: %s", source, len(left), len(tensors), _listed(left))
    module.load_state_dict(fitting, strict=False)


def _listed(keys: list[str]) -> str:
    more = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a sound safetensors file: {error}") from error


def _read_torch(path: Path) -> Any:
    # NumPy scalars (an epoch, a best score) and a command's arguments lie in many published files; restoring one
    # executes nothing.
    allow = getattr(torch.serialization, "safe_globals", None)
    harmless = [_numpy_multiarray().scalar, np.dtype, *(type(np.dtype(kind)) for kind in "fdilqILQb?"), Namespace]
    try:
        with allow(harmless) if allow else nullcontext():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "WeightsUnpickler" in str(error):
            raise CheckpointError(
                f"{path}: refused, since loading it would execute code: {_first_reason(str(error))}"
            ) from error
        raise CheckpointError(f"{path}: not a sound torch file: {error}") from error
    except Exception as error:  # torch reports a torn file by many types, RuntimeError and EOFError among them
        raise CheckpointError(f"{path}: not a sound torch file: {type(error).__name__}: {error}") from error


def _first_reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return (lines or [text.strip().splitlines()[0]])[0]


def _numpy_multiarray() -> Any:
    return import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")


class _NotCallable:
    """Stands for ``numpy.ndarray`` in a pickle, where it is only ever an argument."""


def _empty_array(*_: object) -> np.ndarray[Any, Any]:
    # The sizes in the pickle are not believed: the array's state, checked by NumPy against its bytes, sets them.
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _array_of_bytes(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _latin_bytes(text: str, _: str = "latin1") -> bytes:
    return text.encode("latin1")


_PICKLE_NAMES: dict[str, Any] = {
    "_reconstruct": _empty_array,
    "_frombuffer": _array_of_bytes,
    "scalar": _numpy_multiarray().scalar,
    "ndarray": _NotCallable(),
    "dtype": np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Restores dicts, lists, numbers, text and NumPy arrays, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _PICKLE_NAMES:
            return _PICKLE_NAMES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):
            return _latin_bytes
        raise CheckpointError(f"refused, since loading it would execute code: {module}.{name}")


def _read_pickled_arrays(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # a torn or hostile pickle raises nearly anything
        raise CheckpointError(f"{path}: not a sound pickle of arrays: {type(error).__name__}: {error}") from error


def _tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not weights by name")
    tensors = {}
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(np.array(value))
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: entry {key!r} is a {type(value).__name__}, not a tensor")
        tensors[key] = value
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return tensors


def rename(tensors: Mapping[str, Tensor], table: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Tensors under new keys: of each ``(published, ours)`` prefix pair the first that fits is replaced."""
    pairs = list(table)
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        for published, ours in pairs:
            if key.startswith(published):
                renamed[ours + key[len(published) :]] = value
                break
        else:
            renamed[key] = value
    return renamed
