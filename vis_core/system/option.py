"""Options of systems: each stated once, in the signature of what makes the system."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from vis_core.data.vocabularies import VOCABULARIES
from vis_core.errors import OptionError, nearest, printable

_MISSING: Any = object()


@dataclass(frozen=True)
class Option:
    """One option of a system: its meaning, range and default.

    A function that takes it says so in its signature, from which name, type and default are read (`options_of`):
    ``score_threshold: Annotated[float, Option("least score of an instance", 0, 1, live=True)] = 0.1``.

    Attributes:
        description: one sentence for users, with the unit.
        minimum: least value, of each entry if a tuple.
        maximum: greatest value.
        multiple_of: what each value must be a multiple of.
        choices: the texts that are allowed; empty: any.
        parse: raises `OptionError` for a text that means nothing; None: any does.
        live: may be changed while the system runs (`Segmenter.set_option`); it holds from the next frame on.
        quality: what ``--quality`` sets it to, for better answers that take longer; None: it leaves it alone.
        streamed: the default of the node, whose images do not wait; None: that of all else.
        former: an earlier name, which is still taken, with a warning.
        default: value where none is given.
        kind: type of the values; of a tuple, its type and that of its entries are the default's.
        optional: None is allowed, and means without a bound.
    """

    description: str
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    choices: tuple[str, ...] = ()
    parse: Callable[[str], object] | None = None
    live: bool = False
    quality: Any = None
    streamed: Any = None
    former: str = ""
    default: Any = _MISSING
    kind: Any = None
    optional: bool = False

    def __post_init__(self) -> None:
        if self.kind is None and self.default is not _MISSING:
            object.__setattr__(self, "kind", type(self.default))

    def check(self, name: str, value: Any) -> Any:
        """The value in the option's type.

        Raises:
            OptionError: wrong type, out of range or not among the choices.
        """
        if value is None and self.optional:
            return None
        if self.kind is tuple:
            if not isinstance(value, (tuple, list)) or len(value) != len(self.default):
                raise OptionError(
                    f"option {name}: expected {len(self.default)} values, got {printable(repr(value), 200)}"
                )
            return tuple(
                self._check_one(f"{name}[{i}]", v, type(d)) for i, (v, d) in enumerate(zip(value, self.default))
            )
        return self._check_one(name, value, self.kind)

    def _check_one(self, name: str, value: Any, kind: type[Any]) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise OptionError(f"option {name}: expected {kind.__name__}, got {printable(repr(value), 200)}")
        if self.choices and value not in self.choices:
            raise OptionError(f"option {name}: {printable(repr(value), 200)} is none of {', '.join(self.choices)}")
        if self.parse is not None:
            self.parse(value)
        if kind in (int, float):
            low = -float("inf") if self.minimum is None else self.minimum
            high = float("inf") if self.maximum is None else self.maximum
            if not low <= value <= high:
                raise OptionError(f"option {name}: {value} is not in [{low:g}, {high:g}]")
            if self.multiple_of and value % self.multiple_of:
                raise OptionError(f"option {name}: {value} is not a multiple of {self.multiple_of}")
        return value


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The options that a function takes: its arguments that are annotated with an `Option`, in order.

    What comes by position without a default is none, and its type may be a type checker's alone, as PyTorch's are.

    Raises:
        TypeError: one of them has no default.
    """
    parameters = inspect.signature(function).parameters
    typed: Any = function.func if isinstance(function, partial) else function
    typed = typed.__init__ if inspect.isclass(typed) else typed  # type: ignore[misc]
    empty, keyword = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
    may_be = {name for name, one in parameters.items() if one.kind is keyword or one.default is not empty}
    stated = SimpleNamespace(__annotations__={k: x for k, x in typed.__annotations__.items() if k in may_be})
    found = {}
    for name, hint in get_type_hints(stated, typed.__globals__, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        kind, *extras = get_args(hint)
        option = next((extra for extra in extras if isinstance(extra, Option)), None)
        if option is None:
            continue
        default = parameters[name].default
        if default is empty:
            raise TypeError(f"option {name} of {function} has no default")
        members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
        (only,) = [get_origin(member) or member for member in members if member is not type(None)]
        found[name] = replace(option, default=default, kind=only, optional=type(None) in members)
    return found


def check_options(options: Mapping[str, Option], given: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Every option's value: what is given, checked, else its default; see `check_given`."""
    return {name: option.default for name, option in options.items()} | check_given(options, given, key)


def check_given(options: Mapping[str, Option], given: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """The options that are given, under their present names, checked.

    Args:
        options: by name.
        given: by name; a former one is taken with a warning.
        key: what stands before a name in messages, such as ``evaluation.options.``.

    Raises:
        OptionError: an unknown name; a wrong type, or a value out of range.
    """
    present = {option.former: name for name, option in options.items() if option.former}
    checked = {}
    for name, value in given.items():
        if name in present:
            warnings.warn(f"{key}{name} is called {key}{present[name]} now", FutureWarning, stacklevel=3)
            name = present[name]
        if name not in options:
            raise OptionError(f"{key}{printable(name, 100)}: unknown option; {nearest(name, options)}")
        checked[name] = options[name].check(f"{key}{name}", value)
    return checked


GRAPH = "graph"


def linkage(description: str, *own: str) -> Option:
    """The option of a frame-by-frame system that says how detections continue tracks.

    Args:
        description: of the system's own ways.
        own: their names; the other choice is `GRAPH`, `vis_core.tracking.graph_association`.
    """
    return Option(f"how tracks go on: {description}; or by matching graphs of instances", choices=(*own, GRAPH))


MaxLostFrames = Annotated[
    int | None, Option("a track ends when it was not seen for more frames; none: no track ever ends", 0, 1000000)
]
MaxLostTracks = Annotated[int | None, Option("tracks that may be lost at a time; none: no limit", 0, 1000000)]
EdgeWeight = Annotated[
    float, Option("with association graph: what pairs of neighbours weigh beside single instances; 0: nothing", 0, 1000)
]
Vocabulary = Annotated[
    str,
    Option(
        "class names of a checkpoint that states none; auto: by their number, 40 are YouTube-VIS 2019's",
        choices=("auto", *VOCABULARIES),
    ),
]
