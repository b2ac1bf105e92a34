"""Several inputs of ``vis segment``: one after the other in this process, or each in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vis_core.commands.fleet import BEFORE, Fleet, Input, finish, summarise, sums, write_summary
from vis_core.commands.fleet_processes import Answer
from vis_core.commands.fleet_records import asked_of
from vis_core.commands.inputs import is_live
from vis_core.commands.outcome import OUTPUTS, figures
from vis_core.commands.terminal import check_inputs, say
from vis_core.errors import OptionError
from vis_core.files.outputs import locked

if TYPE_CHECKING:
    from vis_core.commands.segment import RunOutcome
    from vis_core.commands.segment_jobs import SegmentJob

    Each = Callable[[list[SegmentJob], Callable[[SegmentJob, RunOutcome], None]], None]

_PROGRAM = ("-c", "from vis_core.commands.main import main; main()", "segment")


def segment_several(
    context: typer.Context, jobs: Sequence[SegmentJob], count: int | None, address: str | None, each: Each
) -> None:
    """Do jobs, write ``summary.json`` beside their folders, and end the command.

    Args:
        context: of the command.
        jobs: that differ in input and place alone.
        count: how many at a time, each in a process; None: one after the other in this one, without a cluster.
        address: of a cluster.
        each: does jobs in this process, tells what came of each, and ends the command.

    Raises:
        InputError, OptionError: an input or a place to write to cannot be right; nothing was begun.
    """
    first = jobs[0]
    live = next((job.source for job in jobs if is_live(job.source)), None)
    if address is not None and live is not None:
        raise OptionError(f"--ray {address}: {live} is no file that could be sent to a cluster")
    check_inputs(*(Path(job.source) for job in jobs if not is_live(job.source)))
    fleet = Fleet(
        _PROGRAM,
        asked_of(context, "inputs"),
        "summary.json",
        OUTPUTS,
        first.threads,
        first.device,
        first.force,
        first.resume,
        journal=True,
    )
    inputs = [Input(job.source, job.out) for job in jobs]
    if count is not None or address is not None:
        received = fleet.run(inputs, count, address)
        summarise(fleet, inputs, sums(inputs))
        finish(inputs, received)
        return
    by_folder = {one.folder: one for one in inputs}
    with locked(first.out.parent):
        fleet.look(inputs)
        todo = [_again(fleet, job) for job in jobs if by_folder[job.out].state != BEFORE]
        if len(todo) < len(jobs):
            say(f"{len(jobs) - len(todo)} of {len(jobs)} inputs are done already")
        try:
            if todo:
                each(todo, lambda job, outcome: fleet.end(by_folder[job.out], _answer(outcome)))
        finally:
            if any(one.figures for one in inputs):
                write_summary(fleet, inputs, sums(inputs))


def _again(fleet: Fleet, job: SegmentJob) -> SegmentJob:
    """A job that is to be done, which may have been begun before: it goes on from there, or replaces what is there."""
    if not fleet.resume or fleet.goes_on(job.out):
        return job
    return replace(job, resume=False, force=True)


def _answer(outcome: RunOutcome) -> Answer:
    stopped = outcome.stopped or isinstance(outcome.error, KeyboardInterrupt)
    empty = not any(video.frames for video in outcome.videos)
    code = 130 if stopped else 1 if outcome.error is not None or empty else 0
    return Answer(code, "" if outcome.error is None or stopped else str(outcome.error), figures(outcome))
