"""What the catalogue says of each system, without importing it: names and options are looked at before torch is loaded.

    python -m vis_core.commands.known_systems > vis_core/commands/known_systems.json

writes what is read here; the catalogue remains the one place where systems and options are stated.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vis_core.commands.published_files import published_files
from vis_core.errors import InputError, OptionError, nearest
from vis_core.files.weights_folder import weights_folder
from vis_core.system.option import Option, check_given

_FILE = Path(__file__).with_suffix(".json")
_KINDS: Mapping[str, Any] = {kind.__name__: kind for kind in (bool, int, float, str, tuple)}
_FACTS = ("minimum", "maximum", "multiple_of", "choices", "quality", "former", "default", "optional")
_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DEVICE = r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?"
_EXPORTED_DEVICE = r"auto|cpu|(cuda|tensorrt)(:\d{1,3})?|(gpu|GPU)(\.\d{1,3})?|npu|NPU"


@dataclass(frozen=True)
class KnownSystem:
    """A system, as far as commands look at it before they load it.

    Attributes:
        options: of its `build`, by name.
        training_options: of its training, by name.
        trainable: whether it can be trained here.
        starting_weights: names of weight files to train from that other packages bring.
    """

    options: Mapping[str, Option]
    training_options: Mapping[str, Option]
    trainable: bool
    starting_weights: Collection[str]


def find_known(name: str) -> Any:
    """What is known of a system: the catalogue's entry where that is loaded anyway, else a `KnownSystem`.

    Raises:
        OptionError: there is none of that name; the text names the nearest one.
    """
    loaded = sys.modules.get("vis_core.catalog")
    if loaded is not None:
        return loaded.find(name)
    systems = _known()
    if name not in systems:
        raise OptionError(f"system {name!r} is unknown; {nearest(name, systems)}")
    return systems[name]


def names_beginning_with(text: str) -> list[str]:
    """Names of systems, for completion in a shell."""
    return [name for name in _known() if name.startswith(text)]


def trainable_systems() -> list[str]:
    """Names of those that can be trained here."""
    loaded = sys.modules.get("vis_core.catalog")
    entries: Mapping[str, Any] = _known() if loaded is None else loaded.SYSTEMS
    return [name for name, entry in entries.items() if entry.trainable]


def check_choice(
    name: str, weights: Path | None, device: str, precision: str, options: Mapping[str, Any] | None = None
) -> None:
    """See whether a system can be made of what stands on a command line, as far as that goes without torch.

    Raises:
        OptionError: an unknown system, option, device or precision, or a value out of range.
        InputError: the weights are no file.
    """
    entry = find_known(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the catalogue gives it
        check_given(entry.options, options or {}, f"{name}: ")
    from vis_core.nn.runtimes import is_exported  # loads NumPy, which --help does without

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
    from vis_core.nn.runtimes import is_exported  # loads NumPy, which --help does without

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


@cache
def _known() -> dict[str, KnownSystem]:
    content = json.loads(_FILE.read_text("utf-8"))
    return {
        name: KnownSystem(_options(entry["options"]), _options(entry["training"]), entry["trainable"], entry["starts"])
        for name, entry in content.items()
    }


def _options(stated: Mapping[str, Any]) -> dict[str, Option]:
    options = {}
    for name, facts in stated.items():
        kind, default = _KINDS[facts["kind"]], facts["default"]
        given = {**facts, "kind": kind, "choices": tuple(facts["choices"])}
        options[name] = Option("", **{**given, "default": tuple(default) if kind is tuple else default})
    return options


def stated_systems() -> str:
    """The text of the file, from the catalogue."""
    from vis_core import catalog

    def stated(options: Mapping[str, Option]) -> dict[str, Any]:
        return {
            name: {"kind": option.kind.__name__} | {fact: getattr(option, fact) for fact in _FACTS}
            for name, option in options.items()
        }

    content = {
        name: {
            "options": stated(entry.options),
            "training": stated(entry.training_options),
            "trainable": entry.trainable is not None,
            "starts": list(entry.starting_weights),
        }
        for name, entry in catalog.SYSTEMS.items()
    }
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


if __name__ == "__main__":
    print(stated_systems())
