"""What stands on a command line about a system is looked at before PyTorch is loaded: its name, options, weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis_core.commands.published_files import published_files
from vis_core.errors import InputError, OptionError
from vis_core.files.weights_folder import weights_folder
from vis_core.nn.runtimes import is_exported
from vis_core.system.option import check_given

if TYPE_CHECKING:
    from vis_core.system.entry import System

_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DEVICE = r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?"
_EXPORTED_DEVICE = r"auto|cpu|(cuda|tensorrt)(:\d{1,3})?|(gpu|GPU)(\.\d{1,3})?|npu|NPU"


def find_system(name: str) -> System:
    """The catalogue's entry of that name.

    Raises:
        OptionError: there is none; the text names the nearest one.
    """
    from vis_core import catalog

    return catalog.find(name)


def names_beginning_with(text: str) -> list[str]:
    """Names of systems, for completion in a shell."""
    from vis_core import catalog

    return [name for name in catalog.SYSTEMS if name.startswith(text)]


def check_choice(
    name: str, weights: Path | None, device: str, precision: str, options: Mapping[str, Any] | None = None
) -> None:
    """See whether a system can be made of what stands on a command line, as far as that goes without torch.

    Raises:
        OptionError: an unknown system, option, device or precision, or a value out of range.
        InputError: the weights are no file.
    """
    entry = find_system(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the catalogue gives it
        check_given(entry.options, options or {}, f"{name}: ")
    exported = weights is not None and is_exported(weights)
    precisions = (*_PRECISIONS, "int8") if exported else _PRECISIONS
    if precision not in precisions:
        raise OptionError(f"precision {precision!r} is none of {', '.join(precisions)}")
    if not re.fullmatch(_EXPORTED_DEVICE if exported else _DEVICE, device):
        raise OptionError(f"device {device!r} is unknown; give auto, cpu, cuda or cuda:1")
    if weights is not None:
        check_weights(weights)


def check_weights(weights: Path) -> None:
    """Raises `InputError` where there is no such file, or folder of an exported network."""
    if not weights.is_file() and not (weights.is_dir() and is_exported(weights)):
        what = "is a folder, not a weight file" if weights.is_dir() else f"no such weight file{_where(weights)}"
        raise InputError(f"{weights}: {what}")


def _where(weights: Path) -> str:
    """Where else a file of that name was looked for, and how it can be had."""
    if weights.name != str(weights):
        return ""
    published = {file.stem for entry in published_files().values() for file in entry.files}
    to_be_had = f"; 'vis weights get {weights.stem}' fetches it" if weights.stem in published else ""
    return f", here or in {weights_folder()} (VIS_WEIGHTS){to_be_had}"
