"""Several inputs of one command: a process and a result folder each, here or on a cluster, and a summary over all."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from vis_core.commands.fleet_processes import Answer, Work, run_here
from vis_core.commands.fleet_records import RECORD, Asked, record_whole, whole
from vis_core.commands.inputs import shown_input
from vis_core.commands.interrupts import interrupts
from vis_core.commands.tables import show
from vis_core.commands.terminal import output, say, screen, urgent
from vis_core.commands.unfinished import JOURNAL
from vis_core.errors import InputError, OptionError, printable
from vis_core.files.atomic import atomic_write
from vis_core.files.outputs import locked

Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Inputs at a time, a process each; --threads of each default to their share."),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Answer them on a Ray cluster: HOST:PORT, or auto for the one of this machine."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Of several inputs, leave out those whose results are whole.")]

DONE, BEFORE, FAILED, STOPPED, LEFT = "done", "kept", "failed", "stopped", "not done"


@dataclass(slots=True)
class Input:
    """One of several inputs.

    Attributes:
        source: as it stands on the command line.
        folder: for its results.
        arguments: of the command, that it has alone.
        state: what came of it.
        message: what it failed with.
        figures: that the command told, such as the number of frames.
    """

    source: str
    folder: Path
    arguments: tuple[str, ...] = ()
    state: str = LEFT
    message: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fleet:
    """How several inputs of one command are answered.

    Attributes:
        program: words that run the command, without Python before them.
        asked: of each input.
        summary: name of the file that tells of all of them.
        patterns: of all that the command may write, as of `output_folder`.
        threads: of each process; None: their share of the machine.
        device: as of the command.
        force: replace what there is.
        resume: leave out what is whole.
        journal: the command itself can go on from what it has finished.
    """

    program: tuple[str, ...]
    asked: Asked
    summary: str
    patterns: Sequence[str]
    threads: int | None
    device: str
    force: bool
    resume: bool
    journal: bool = False

    def look(self, inputs: Sequence[Input]) -> None:
        """Mark the inputs whose results are whole, where they are to be left out.

        Raises:
            OptionError: they were asked for otherwise.
            InputError: there are results, which are neither to be replaced nor to be left out.
        """
        for one in inputs:
            record = one.folder / RECORD
            if self.force:
                record.unlink(missing_ok=True)
            elif self.resume:
                found = whole(one.folder, one.source, self._asked(one))
                one.state, one.figures = (LEFT, {}) if found is None else (BEFORE, found)
            elif record.exists():
                raise InputError(
                    f"{one.folder}: holds results of an earlier run; --resume leaves out what is whole, --force "
                    "begins anew"
                )

    def end(self, one: Input, answer: Answer) -> None:
        """Take what came of an input."""
        one.figures, one.message = answer.figures, answer.message
        one.state = DONE if answer.code == 0 else STOPPED if answer.code in (129, 130, 143) else FAILED
        if one.state == DONE:
            record_whole(one.folder, one.source, self._asked(one), one.figures)

    def run(self, inputs: Sequence[Input], jobs: int | None, address: str | None) -> list[int]:
        """Answer the inputs that are not done; returns the signals that came.

        Raises:
            InputError, OptionError: as of `look`; or there is no such cluster.
        """
        out = inputs[0].folder.parent
        with locked(out):
            self.look(inputs)
            todo = [one for one in inputs if one.state == LEFT]
            (out / "logs").mkdir(exist_ok=True)
            if address is not None:
                from vis_core.commands.fleet_ray import Cluster

                with Cluster(address, self, jobs, len(todo)) as cluster:
                    return self._follow(todo, cluster.run, cluster.jobs, cluster.threads)
            here = len(os.sched_getaffinity(0))
            count = max(1, min(jobs or 1, len(todo)))
            return self._follow(todo, run_here, count, self.threads or max(1, here // count))

    def _follow(self, todo: Sequence[Input], run: Callable[..., None], count: int, threads: int) -> list[int]:
        by_folder = {one.folder: one for one in todo}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with interrupts("frame") as received, Progress(*columns, console=screen) as progress:
            task = progress.add_task("inputs", total=len(todo))

            def on_end(work: Work, answer: Answer) -> None:
                one = by_folder[work.folder]
                self.end(one, answer)
                what = f"{escape(printable(one.message))} ({work.log})" if one.message else _short(one.figures)
                if one.state == FAILED:
                    urgent(f"[bold red]failed[/] {escape(shown_input(one.source))}: {what}")
                else:
                    screen.print(f"{one.state} {escape(shown_input(one.source))}: {what}")
                progress.advance(task)

            with suppress(KeyboardInterrupt):  # the second signal, which is among those received
                run([self._work(one, threads) for one in todo], count, threads, received, on_end)
        return received

    def _asked(self, one: Input) -> Asked:
        return Asked((*self.asked.arguments, *one.arguments), self.asked.files)

    def goes_on(self, folder: Path) -> bool:
        """Whether the command itself can go on from what it has finished of an input."""
        return self.journal and not self.force and any(folder.glob(f".partial.*/{JOURNAL}"))

    def _work(self, one: Input, threads: int) -> Work:
        how = ["--resume" if self.goes_on(one.folder) else "--force"] if self.force or self.resume else []
        words = [*self.asked.arguments, *one.arguments, "--threads", str(threads), "--device", self.device, *how]
        command = (sys.executable, *self.program, *words, "--out", str(one.folder), "--", one.source)
        return Work(one.source, one.folder, command, one.folder.parent / "logs" / f"{one.folder.name}.txt")


def write_summary(
    fleet: Fleet, inputs: Sequence[Input], over_all: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> Path:
    """Write what came of all inputs, beside their folders.

    Args:
        fleet: that has answered them.
        inputs: the inputs.
        over_all: figures of all of them together.
        more: further entries of the file.

    Raises:
        OSError: it cannot be written.
    """
    path = inputs[0].folder.parent / fleet.summary
    content = {
        "version": 1,
        "inputs": [
            {
                "input": shown_input(one.source),
                "folder": one.folder.name,
                "state": one.state,
                "message": one.message,
                **one.figures,
            }
            for one in inputs
        ],
        "all": dict(over_all),
        **(more or {}),
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return path


def summarise(
    fleet: Fleet, inputs: Sequence[Input], over_all: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> None:
    """The same, and show it as a table."""
    path = write_summary(fleet, inputs, over_all, more)
    names = list(dict.fromkeys(name for one in inputs for name in one.figures)) or list(over_all)
    table = Table("input", "state")
    for name in names:
        table.add_column(name, justify="right")
    for one in inputs:
        table.add_row(escape(one.folder.name), one.state, *(_cell(one.figures.get(name)) for name in names))
    table.add_section()
    counts = Counter(one.state for one in inputs)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    table.add_row("all", states, *(_cell(over_all.get(name)) for name in names))
    show(table)
    output.print(f"Written: {escape(str(path))}, and a folder for each input beside it")


def finish(inputs: Sequence[Input], received: Sequence[int]) -> None:
    """End the command: with the exit code of an interrupt, or 1 where an input failed."""
    if any(one.state in (STOPPED, LEFT) for one in inputs):
        say("The same command with --resume goes on with those that are not done.")
    if received:
        raise typer.Exit(128 + received[0])
    if any(one.state not in (DONE, BEFORE) for one in inputs):
        raise typer.Exit(1)


def refuse_alone(jobs: int | None, address: str | None, resume: bool = False) -> None:
    """Refuse what only several inputs can have.

    Raises:
        OptionError: there is one.
    """
    for name, value in (("--jobs", jobs), ("--ray", address), ("--resume", resume or None)):
        if value is not None:
            raise OptionError(f"{name}: is for several inputs, and there is one")


def sums(inputs: Sequence[Input]) -> dict[str, Any]:
    """Of all figures that are whole numbers or seconds."""
    total = Counter[str]()
    for one in inputs:
        total.update({name: value for name, value in one.figures.items() if isinstance(value, (int, float))})
    return dict(total)


def _short(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{_cell(value)} {name}" for name, value in figures.items())


def _cell(value: object) -> str:
    if isinstance(value, float) and not (value.is_integer() and abs(value) > 1):
        return f"{value:.3f}"
    return "-" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)
