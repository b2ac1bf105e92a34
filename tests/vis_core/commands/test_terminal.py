"""What the commands show is clean, whatever the names of files, classes and peers hold."""

from __future__ import annotations

import pytest
from rich.markup import escape
from rich.table import Table

from vis_core.commands import terminal
from vis_core.errors import InputError

HOSTILE = "cl\x1b[31mass\x1b]0;mine\x07\r\x9b2J"


@pytest.mark.parametrize("way", ["error", "warning", "text", "table"])
def test_control_characters_are_shown_written_out(capsys, way):
    if way == "error":
        terminal.tell_error(InputError(f"{HOSTILE}\n  second line"))
    elif way == "warning":
        terminal.show_warning(HOSTILE, UserWarning, "", 0)
    elif way == "text":
        terminal.output.print(escape(HOSTILE))
    else:
        table = Table("classes")
        table.add_row(escape(HOSTILE))
        terminal.screen.print(table)
    shown = "".join(capsys.readouterr())
    assert not {"\x1b", "\x07", "\r", "\x9b"} & set(shown)
    assert r"cl\x1b[31mass\x1b]0;mine\x07\r\x9b2J" in shown
    assert ("\n  second line" in shown) == (way == "error")
