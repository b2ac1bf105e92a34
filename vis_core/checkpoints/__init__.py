"""Reading and writing weight files, without ever executing what is in them."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from vis_core.checkpoints.safetensors_files import read_safetensors
from vis_core.checkpoints.torch_files import PLAIN, read_pickled
from vis_core.errors import CheckpointError, printable

FORMAT = "vis_core 1"
"""What a weight file of ours says of its keys, in its metadata."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")
_LISTED = 20
_LARGEST_SIDE = 10_000

_log = logging.getLogger(__name__)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a weight file by key, in its order, on the CPU.

    What reading takes is bounded by the size of the file (`vis_core.checkpoints.pickles` says how).

    Args:
        path: ``.safetensors``; ``.pth``, ``.pt``, ``.bin`` of torch; or ``.pkl``, a pickled dict of NumPy arrays as
            detectron2 writes it. The weights may lie under ``model`` or ``state_dict``.

    Returns:
        The tensors, and the file's metadata (empty but for ``.safetensors``).

    Raises:
        CheckpointError: the file is missing, of an unknown kind, torn, holds something else than plain tensors, or
            would execute code on loading.
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - a name with a zero byte is no file
        raise CheckpointError(f"{printable(path)}: no such weight file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in SUFFIXES:
        return read_pickled(path), {}
    raise CheckpointError(f"{path}: unknown kind of weight file {path.suffix!r}; known are {', '.join(SUFFIXES)}")


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a ``.safetensors`` file: under a temporary name, then renamed, so that a torn file is never left.

    Raises:
        CheckpointError: the name does not end in ``.safetensors``.
        OSError: the file cannot be written; what was there stands.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights are written as .safetensors")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: x.detach().cpu().contiguous() for key, x in tensors.items()}, temporary, dict(metadata))
        temporary.chmod(0o666 & ~_umask())  # it is made for its owner alone
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        found = re.search(r"\(os error (\d+)\)", str(error))  # what the system said to safetensors
        number = (getattr(error, "errno", None) or errno.EIO) if found is None else int(found[1])
        reason = str(error) if number == errno.EIO else os.strerror(number)
        raise OSError(number, reason, str(path)) from error
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
    odd = {key: _fault(tensors[key], wanted[key]) for key in shared}
    faults = {
        "missing": [key for key in wanted if key not in tensors],
        "left over": [key for key in tensors if key not in wanted],
        "misshapen": [f"{key} {text}" for key, text in odd.items() if text],
        # Looked at last: what has not the network's shape may have any.
        "not finite": [key for key in shared if not odd[key] and not _is_finite(tensors[key], wanted[key].dtype)],
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
    fitting = {key: x for key, x in tensors.items() if key in wanted and not _fault(x, wanted[key])}
    if not fitting:
        raise CheckpointError(
            f"{source}: none of the {len(tensors)} tensors to start from fits: {_listed(list(tensors))}"
        )
    if bad := [key for key, x in fitting.items() if not _is_finite(x, wanted[key].dtype)]:
        raise CheckpointError(f"{source}: not finite: {_listed(bad)}")
    if left := [key for key in tensors if key not in fitting]:
        _log.warning("%s: %d of %d tensors do not fit and are left: %s", source, len(left), len(tensors), _listed(left))
    module.load_state_dict(fitting, strict=False)


def _fault(x: Tensor, wanted: Tensor) -> str:
    """What keeps a tensor from standing for another, but for its values; none of them is looked at."""
    if x.shape != wanted.shape:
        return f"{printable(list(x.shape), 60)}, expected {list(wanted.shape)}"
    if x.is_meta or x.is_nested or x.layout is not torch.strided or x.is_quantized or x.dtype not in PLAIN:
        kind = "meta" if x.is_meta else "nested" if x.is_nested else "quantised" if x.is_quantized else x.layout
        return f"of {x.dtype} ({kind}), expected plain {wanted.dtype}"
    if wanted.is_floating_point() and not x.is_floating_point():
        return f"of {x.dtype}, expected {wanted.dtype}"
    return ""


def _is_finite(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether all values are numbers once they are of a type: float64 may hold more than float32 does."""
    if not x.is_floating_point():
        return True
    return bool(x.to(dtype if dtype.is_floating_point else torch.float32).isfinite().all())


def _listed(keys: list[str]) -> str:
    more = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(printable(key, 200) for key in keys[:_LISTED]) + more


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
