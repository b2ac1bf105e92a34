"""Recorded cases that take long, of which a shorter one of the same kind is always run."""

from collections.abc import Iterable
from typing import Any

import pytest


def by_cost(names: Iterable[str], *slow: str) -> list[Any]:
    """Parameters of a test, some of which only `make test-slow` and `make test-all` run."""
    names = list(names)
    assert set(slow) < set(names)
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]
