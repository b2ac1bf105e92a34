"""The folder of weight files that are called by name, and what lies in it."""

from __future__ import annotations

import os
from pathlib import Path

from vis_core.errors import InputError, printable

VARIABLE = "VIS_WEIGHTS"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".onnx")
_FOLDERS = "_openvino_model"


def weights_folder() -> Path:
    """What the variable ``VIS_WEIGHTS`` says, else ``vis/weights`` among the user's data; it need not be there."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return Path(stated).expanduser()
    shared = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(shared).expanduser() / "vis" / "weights"


def find_weights(weights: str | Path) -> Path:
    """Where the weights are that were asked for: the path itself, or a file of the folder, by its name.

    Args:
        weights: a path; or the name of a file in the folder, with its suffix or without.

    Returns:
        The path of the file; what was asked for where there is none of that name.

    Raises:
        InputError: several files of the folder have that name.
    """
    path = Path(weights)
    name = str(weights)
    if not name or os.path.lexists(path) or path.name != name or name.startswith("."):
        return path
    folder = weights_folder()
    if os.path.isfile(folder / name):  # noqa: PTH113 - a name with a zero byte is no file
        return folder / name
    endings = (*_SUFFIXES, _FOLDERS)
    found = [folder / f"{name}{ending}" for ending in endings if os.path.exists(f"{folder / name}{ending}")]  # noqa: PTH110
    if len(found) > 1:
        names = " and ".join(one.name for one in found)
        raise InputError(f"{printable(name)}: {folder} holds {names}; say which by its whole name")
    return found[0] if found else path
