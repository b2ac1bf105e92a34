"""What of several inputs is whole: a record in each result folder, which tells what was asked and what stands there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from vis_core.commands.inputs import shown_input
from vis_core.errors import OptionError
from vis_core.files.atomic import atomic_write

RECORD = ".whole.json"
OUTCOME = "VIS_OUTCOME"
"""Names, in the environment of a command that answers one of several inputs, the file to write its figures to."""

OF_A_FLEET = frozenset({"out", "force", "resume", "jobs", "count", "ray", "threads", "device", "quiet"})
"""Parameters that say where and by whom an input is answered, not how."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How each input is to be answered.

    Attributes:
        arguments: of the command line, as `arguments_of`.
        files: digest of each file and folder that they name.
    """

    arguments: tuple[str, ...]
    files: Mapping[str, str]


def asked_of(context: typer.Context, inputs: str, without: Collection[str] = ()) -> Asked:
    """What a command line asks of each of its inputs.

    Args:
        context: of the command that runs.
        inputs: the parameter that takes them.
        without: parameters that each input is given a value of its own of.
    """
    left_out = {*OF_A_FLEET, inputs, *without}
    values = [value for name, value in context.params.items() if name not in left_out]
    files = {str(path): fingerprint(path) for path in values if isinstance(path, Path)}
    return Asked(tuple(arguments_of(context, left_out)), files)


def arguments_of(context: typer.Context, without: Collection[str]) -> Iterator[str]:
    """The options of a command line anew, but for those that have their defaults."""
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        option: Any = parameter
        if parameter.param_type_name != "option" or parameter.name in without or value == parameter.default:
            continue
        if option.is_flag:
            yield max(parameter.opts if value else parameter.secondary_opts, key=len)
        elif value is not None:
            for one in value if option.multiple else [value]:
                yield max(parameter.opts, key=len)
                yield from map(str, one if isinstance(one, tuple) else [one])


def fingerprint(path: Path | str) -> str:
    """What tells a file, or a folder with all that is in it, from a changed one: names, sizes, times; empty: none."""
    path = Path(path)
    if not path.exists():
        return ""
    text = hashlib.blake2b(digest_size=8)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        status = file.stat()
        size = (status.st_size, status.st_mtime_ns) if file.is_file() else ()
        text.update(repr((str(file.relative_to(path)), size)).encode())
    return text.hexdigest()


def whole(folder: Path, source: str, asked: Asked) -> dict[str, Any] | None:
    """The figures of an input whose results stand in a folder as they were recorded; None where they do not.

    Raises:
        OptionError: they do, and something else was asked.
    """
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        same = record["input"] == _mark(source) and record["outputs"] == _sizes(folder)
        before, figures = record["asked"], record["figures"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = json.loads(json.dumps(asdict(asked)))
    if not same:
        return None
    if before != now:
        changed = [a for a in now["arguments"] if a not in before["arguments"]] or [
            a for a in before["arguments"] if a not in now["arguments"]
        ]
        what = " ".join(changed) or "a file that it names has changed"
        raise OptionError(
            f"{folder}: its results were asked for otherwise ({what}); --force begins anew, or choose another --out"
        )
    return dict(figures)


def record_whole(folder: Path, source: str, asked: Asked, figures: Mapping[str, Any]) -> None:
    """Record that the results of an input are whole.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "asked": asdict(asked),
        "input": _mark(source),
        "outputs": _sizes(folder),
        "figures": dict(figures),
    }
    with atomic_write(folder / RECORD) as partial:
        partial.write_text(json.dumps(content) + "\n", "utf-8")


def tell_figures(figures: Mapping[str, Any]) -> None:
    """Tell what came of one input to the command that asked for it as one of several, if one did."""
    if path := os.environ.get(OUTCOME):
        with atomic_write(Path(path)) as partial:
            partial.write_text(json.dumps(figures) + "\n", "utf-8")


def _mark(source: str) -> str:
    return fingerprint(source) or shown_input(source)


def _sizes(folder: Path) -> dict[str, int]:
    """Of all files that a folder shows."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(folder)): path.stat().st_size for path in found}
    return {name: size for name, size in sorted(names.items()) if not any(x.startswith(".") for x in Path(name).parts)}
