"""A segmenter from what stands on a command line; the commands' own tests ask for whole ones."""

from __future__ import annotations

import pytest

from vis_core.commands.loading import option_value
from vis_core.system.option import Option


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        (0.5, "1e-3", 1e-3),
        (0.5, "2", 2),
        (0.5, "much", "much"),
        (3, "4", 4),
        (True, "false", False),
        ("a", "1", "1"),
        ((1, 2), "[3, 4]", [3, 4]),
        ((1, 2), "3,4", [3, 4]),
        (3, "{", "{"),
    ],
)
def test_an_option_s_text_is_read_by_the_type_of_its_default(default, text, value):
    assert option_value(text, Option("", default=default)) == value
