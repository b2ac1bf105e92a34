"""Tables in which nothing is cut: side by side where they fit, else row below row."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from vis_core.commands.terminal import output

_READABLE = 24
"""Least width of a column of running text, characters: where it would be narrower, rows stand below each other."""


def show(table: Table, console: Console = output) -> None:
    """Print a table so that each heading, name, number and address in it is whole.

    Numbers (columns to the right) and the first column stand on one line each; other columns are broken between words.
    Where that needs more than the width of the terminal, 80 characters in a pipe, or what ``COLUMNS`` says, each row
    becomes lines of heading and value, of which a long word may be longer than the terminal is wide.

    Args:
        table: cells are markup; a first column to the left names the rows.
        console: to print to.
    """
    title, caption = table.title, table.caption
    table.title = table.caption = None
    if title:
        console.print(title, style="bold")
    columns = [_Texts(console, table, column) for column in table.columns]
    room = console.width - 3 * len(columns) - 1  # a border beside each column, a blank on both sides of it
    if sum(column.least for column in columns) <= room:
        # The most width that all columns can have, but for those that are complete with less.
        level = max(w for w in range(room + 1) if sum(column.given(w) for column in columns) <= room)
        for column in columns:
            column.column.width = column.given(level)
            column.column.no_wrap = column.whole
        console.print(table, soft_wrap=False)
    else:
        _show_rows(table, columns, console)
    if caption:
        console.print(caption, style="dim")


class _Texts:
    """The texts of a column, and the widths that it can have."""

    def __init__(self, console: Console, table: Table, column: Column) -> None:
        self.column = column
        self.heading = console.render_str(str(column.header)) if table.show_header else Text()
        self.cells = [console.render_str(str(cell)) for cell in column.cells]
        self.whole = column is table.columns[0] or column.justify == "right"
        texts = [self.heading, *self.cells]
        self.full = max((line.cell_len for text in texts for line in text.split()), default=0)
        longest = max((Text(word).cell_len for text in texts for word in text.plain.split()), default=0)
        self.least = self.full if self.whole else max(longest, min(self.full, _READABLE))

    def given(self, level: int) -> int:
        """The width of the column where those that could use more have `level`."""
        return min(self.full, max(self.least, level))


def _show_rows(table: Table, columns: list[_Texts], console: Console) -> None:
    """Each row as lines: its name, where it has one, and below it the headings with their values."""
    named = columns[0].column.justify != "right"
    values = columns[1:] if named else columns
    margin = "  " if named else ""
    wide = max((column.heading.cell_len for column in values), default=0)
    for i, row in enumerate(table.rows):
        style = row.style or ""
        if named:
            console.print(columns[0].cells[i], style=style)
        for column in values:
            head = margin + column.heading.plain + " " * (wide - column.heading.cell_len) + ("  " if wide else "")
            for line in _broken(column.cells[i], console, len(head)):
                console.print(Text(head) + line, style=style)
                head = " " * len(head)


def _broken(text: Text, console: Console, indent: int) -> list[Text]:
    """The lines of a text, broken between words for a terminal; in a pipe as they are."""
    lines: list[Text] = []
    for line in text.split() or [Text()]:
        words = line.split(" ") if console.is_terminal else [line]
        lines.append(words[0])
        for word in words[1:]:
            if indent + lines[-1].cell_len + 1 + word.cell_len <= console.width:
                lines[-1] = lines[-1] + Text(" ") + word
            else:
                lines.append(word)
    return lines
