"""Config files: YAML to `Config` and back, with every fault named by file and key."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from vis_core.errors import InputError, OptionError, nearest, printable
from vis_core.files.yaml_files import parse_yaml, read_yaml
from vis_core.training.config import Config

_WIDTH = 120
_SHOWN = 200
_MAX_LEVELS = 20


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: of the YAML. Its relative paths are relative to its folder.
        overrides: ``key=value`` each, with dots between the levels (``optimizer.learning_rate=1e-3``,
            ``data.0.weight=2``). Their relative paths are relative to the working directory.

    Raises:
        InputError: the file cannot be read, or is no YAML.
        OptionError: an unknown key, or a value of the wrong type or out of its range.
    """
    path = Path(path)
    content = read_yaml(path, "config")
    given = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise OptionError(f"{_shown(text)}: write it as key=value")
        if len(keys := key.split(".")) > _MAX_LEVELS:
            raise OptionError(f"{_shown(text)}: no key has {len(keys)} levels")
        content = _put(content, keys, value, _shown(text))
        given.append(key)
    return config_of(content, str(path), path.absolute().parent, given)


def config_of(content: Any, name: str, base: Path, given: Sequence[str] = ()) -> Config:
    """The config of a mapping.

    Args:
        content: what a config file holds.
        name: of the file, for messages.
        base: folder to which relative paths are relative.
        given: keys (with dots) that were given on the command line.

    Raises:
        OptionError: an unknown key, or a value of the wrong type or out of its range.
    """
    config: Config = _Converter(name, base, given).convert(Config, content, "")
    _check(config, name)
    return config


def _put(content: Any, keys: list[str], value: str, text: str) -> Any:
    """The content with a value at a place; what stands beside it stays."""
    if not keys:
        try:
            return parse_yaml(value, f"{text}: the value")
        except InputError as error:
            raise OptionError(str(error)) from error
    if isinstance(content, list):
        if not re.fullmatch("[0-9]{1,9}", keys[0]) or int(keys[0]) >= len(content):
            raise OptionError(f"{text}: {_shown(keys[0])} is not a place in a list of {len(content)}")
        place = int(keys[0])
        return [_put(item, keys[1:], value, text) if i == place else item for i, item in enumerate(content)]
    if content is not None and not isinstance(content, dict):
        raise OptionError(f"{text}: there is nothing below {_shown(content)}")
    content = dict(content or {})
    return {**content, keys[0]: _put(content.get(keys[0]), keys[1:], value, text)}


class _Converter:
    """Builds values of a type from what YAML gives."""

    def __init__(self, name: str, base: Path, given: Sequence[str]) -> None:
        self._name, self._base, self._given = name, base, given

    def convert(self, kind: Any, value: Any, key: str, bounds: tuple[float, float] | None = None) -> Any:
        """The value at a key as one of that type."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType):
            if value is None:
                return None
            return self.convert(next(a for a in arguments if a is not NoneType), value, key, bounds)
        if is_dataclass(kind):
            return self._section(kind, value, key)
        if origin is tuple:
            return self._tuple(arguments, value, key, bounds)
        if origin is Literal:
            if value not in arguments:
                self._fail(key, f"{_shown(value)} is none of {', '.join(arguments)}")
            return value
        if kind is Any:
            return value
        if origin is not None:  # a mapping by name
            if value is not None and not isinstance(value, dict):
                self._fail(key, f"{_shown(value)} is not a mapping of names to values")
            named = {str(k): v for k, v in (value or {}).items()}
            return {k: self.convert(arguments[1], v, f"{key}.{k}") for k, v in named.items()}
        return self._plain(kind, value, key, bounds)

    def _section(self, kind: Any, value: Any, key: str) -> Any:
        if value is not None and not isinstance(value, dict):
            self._fail(key, f"{_shown(value)} is not a mapping of keys to values")
        content = value or {}
        known = {f.name: f for f in fields(kind)}
        for name in content:
            if name not in known:
                self._fail(_join(key, name), f"unknown key; {nearest(str(name), known)}")
        types = get_type_hints(kind)
        values = {}
        for name, entry in known.items():
            if name in content:
                values[name] = self.convert(types[name], content[name], _join(key, name), entry.metadata.get("range"))
            elif entry.default is MISSING and entry.default_factory is MISSING:
                self._fail(_join(key, name), "is missing, and has no default")
        return kind(**values)

    def _tuple(self, kinds: tuple[Any, ...], value: Any, key: str, bounds: tuple[float, float] | None) -> Any:
        if value is None and kinds[-1] is Ellipsis:
            value = []
        if not isinstance(value, (list, tuple)):
            self._fail(key, f"{_shown(value)} is not a list")
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(value) != len(kinds):
            self._fail(key, f"{_shown(value)} has {len(value)} values, not {len(kinds)}")
        return tuple(self.convert(kind, v, f"{key}.{i}", bounds) for i, (kind, v) in enumerate(zip(kinds, value)))

    def _plain(self, kind: Any, value: Any, key: str, bounds: tuple[float, float] | None) -> Any:
        if kind is Path:
            if not isinstance(value, str) or not value:
                self._fail(key, f"{_shown(value)} is not a path")
            if "\0" in value:
                self._fail(key, f"{_shown(value)} is not a path: it holds a zero byte")
            typed = any(key == name or key.startswith(f"{name}.") for name in self._given)
            try:
                return Path(os.path.normpath((Path.cwd() if typed else self._base) / Path(value).expanduser()))
            except RuntimeError as error:  # ~name of no user
                self._fail(key, f"{_shown(value)} is not a path: {printable(error)}")
        if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-3 for a text
            try:
                value = float(value)
            except ValueError:
                self._fail(key, f"{_shown(value)} is not a number")
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            what = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
            self._fail(key, f"{_shown(value)} is not {what}")
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            self._fail(key, f"{_shown(value)} is not in [{bounds[0]:g}, {bounds[1]:g}]")
        if kind is float and not math.isfinite(value):
            self._fail(key, f"{_shown(value)} is not finite")
        return value

    def _fail(self, key: str, text: str) -> None:
        raise OptionError(f"{self._name}: {printable(key or 'the file', _SHOWN)}: {text}")


def _check(config: Config, name: str) -> None:
    """What two keys say together."""
    if not config.classes:
        raise OptionError(f"{name}: classes: give at least one name")
    if len(set(config.classes)) < len(config.classes):
        raise OptionError(f"{name}: classes: {_shown(list(config.classes))} holds a name twice")
    if not any(entry.weight for entry in config.data):
        raise OptionError(f"{name}: data: give at least one set with a weight above 0")
    if config.batch % config.accumulate:
        raise OptionError(f"{name}: batch: {config.batch} is not a multiple of accumulate, {config.accumulate}")
    order, frames, reach = config.clip.order, config.clip.frames, config.clip.reach
    if order == "successive" and frames < 2:
        raise OptionError(f"{name}: clip.frames: order successive needs at least 2, not {frames}")
    if order in ("distinct", "sorted") and reach is not None and reach < frames - 1:
        raise OptionError(
            f"{name}: clip.reach: {reach} does not hold {frames} different frames everywhere; give at least "
            f"{frames - 1}, or null"
        )
    for i, entry in enumerate(config.data):
        for old, new in entry.categories.items():
            if new not in config.classes:
                raise OptionError(
                    f"{name}: data.{i}.categories.{printable(old, _SHOWN)}: {_shown(new)} is not among the classes"
                )


def print_config(config: Config, options: Mapping[str, str] | None = None) -> str:
    """The text of a config file that holds every key, with comments; paths are absolute.

    Args:
        config: whose values are written.
        options: the comments of the system's training options.
    """
    comments = {f"options.{name}": text for name, text in (options or {}).items()}
    return "\n".join(_lines(config, "", "", comments)) + "\n"


def plain(value: Any) -> Any:
    """The value in what YAML and the state file know: mappings, lists, texts, numbers."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _lines(section: Any, indent: str, key: str, comments: Mapping[str, str]) -> Iterator[str]:
    """Lines of a section's keys, each with its comment."""
    if is_dataclass(section):
        texts = _attribute_texts(type(section))
        items = [(f.name, getattr(section, f.name), texts.get(f.name, "")) for f in fields(section)]
    else:
        items = [(str(k), v, comments.get(_join(key, k), "")) for k, v in section.items()]
    for name, value, text in items:
        below = _join(key, name)
        if value and (is_dataclass(value) or isinstance(value, Mapping)):
            yield from _with_comment(f"{indent}{_scalar(name)}:", text, indent)
            yield from _lines(value, indent + "  ", below, comments)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            yield from _with_comment(f"{indent}{_scalar(name)}:", text, indent)
            for item in value:
                for i, line in enumerate(_lines(item, indent + "    ", below, comments)):
                    yield f"{indent}  - {line[len(indent) + 4 :]}" if i == 0 else line
        else:
            yield from _with_comment(f"{indent}{_scalar(name)}: {_scalar(plain(value))}", text, indent)


def _with_comment(line: str, text: str, indent: str) -> Iterator[str]:
    if not text:
        yield line
    elif len(line) + len(text) + 4 <= _WIDTH:
        yield f"{line}  # {text}"
    else:
        # Behind the key, where it belongs to it in a list too.
        yield line
        yield f"{indent}# {text}"


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").removesuffix("\n")


def _attribute_texts(kind: type) -> dict[str, str]:
    """The texts of a class's attributes, from its docstring."""
    _, _, text = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words).removesuffix(".") for name, words in entries}


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _shown(value: object) -> str:
    """A value in a message: as it would be written in Python, cut."""
    return printable(repr(value), _SHOWN)
