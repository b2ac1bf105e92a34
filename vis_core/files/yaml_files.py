"""Reading YAML from outside: configurations, the metadata of recordings, values on a command line."""

from __future__ import annotations

import os
from typing import Any

import yaml

from vis_core.errors import InputError, printable
from vis_core.files.json_files import read_text

MAX_BYTES = 4 << 20
_MAX_VALUES = 100_000
_MAX_DEPTH = 50
_MAX_DIGITS = 40
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_FAST):  # type: ignore[misc]
    """PyYAML's safe loader, which takes no number of more than 40 characters."""

    def short_integer(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _MAX_DIGITS:
            raise ValueError(f"a number has {len(node.value)} characters")
        return int(self.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.short_integer)


def read_yaml(path: str | os.PathLike[str], what: str) -> Any:
    """What a YAML file holds; an empty one: None.

    Args:
        path: the file.
        what: its role, for messages.

    Raises:
        InputError: the file cannot be read, or as of `parse_yaml`.
    """
    text = read_text(path, what, may_be_empty=True, limit=MAX_BYTES, kind="YAML")
    return parse_yaml(text, f"{path}: {what}")


def parse_yaml(text: str, place: str) -> Any:
    """What a YAML text holds.

    Aliases (``*name``) are counted as what they stand for, so that few lines cannot become more than may be looked at.

    Args:
        text: of at most one document.
        place: file and role, for messages.

    Raises:
        InputError: no YAML, a key that stands twice, nested too deep, too many values, or an alias within its own
            anchor.
    """
    try:
        _check(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except Exception as error:  # PyYAML lets what a value's text raises come through
        raise InputError(f"{place}: is no YAML that can be used: {printable(error)}") from error


class _Collection:
    """A list or mapping that is being read: its anchor, the values in it so far, and the keys if it is a mapping."""

    def __init__(self, event: Any) -> None:
        self.anchor = event.anchor
        self.values = 1
        self.keys: set[str] | None = set() if isinstance(event, yaml.MappingStartEvent) else None
        self.children = 0

    def take(self, event: Any) -> None:
        """Count a child; a text in the place of a key must be another one than those before."""
        if self.keys is not None and self.children % 2 == 0 and isinstance(event, yaml.ScalarEvent):
            if event.value in self.keys:
                line = event.start_mark.line + 1  # type: ignore[union-attr]
                raise ValueError(f"the key {printable(event.value, 60)!r} stands twice, again in line {line}")
            self.keys.add(event.value)
        self.children += 1


def _check(text: str) -> None:
    """Go through a text event by event, which takes no more than its length, before anything is built of it."""
    sizes: dict[
        str | None, int | None
    ] = {}  # of what stands under an anchor, with all aliases in it; None: not yet ended
    within = [_Collection(yaml.SequenceStartEvent(None, None, True))]
    for event in yaml.parse(text, Loader=_Loader):
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            within[-1].take(event)
            within.append(_Collection(event))
            sizes[event.anchor] = None
            if len(within) > _MAX_DEPTH:
                raise ValueError(f"lists or mappings are nested more than {_MAX_DEPTH} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            ended = within.pop()
            size = ended.values
            sizes[ended.anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            within[-1].take(event)
            known = sizes.get(event.anchor, 1)
            if known is None:
                raise ValueError(f"the alias *{printable(event.anchor, 60)} stands within what it stands for")
            size = known
        elif isinstance(event, yaml.ScalarEvent):
            within[-1].take(event)
            sizes[event.anchor] = 1
        else:
            continue
        within[-1].values += size
        if within[-1].values > _MAX_VALUES:
            raise ValueError(f"it holds more than {_MAX_VALUES} values, aliases (*name) counted as what they stand for")
