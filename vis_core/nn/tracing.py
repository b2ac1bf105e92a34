"""What our modules do otherwise while an exporter traces them: sizes may be symbols then, and tensors hold nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def is_tracing() -> bool:
    """Whether an exporter is at work."""
    return torch.compiler.is_compiling()


def kept(count: int) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """A decorator that keeps the last results of a function, `count` of them; in tracing none is kept or taken."""

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        known = lru_cache(maxsize=count)(function)

        @wraps(function)
        def call(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
            if is_tracing():
                return function(*arguments, **named)
            return known(*arguments, **named)  # type: ignore[arg-type]

        return call

    return decorate
