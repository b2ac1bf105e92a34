"""What a training shows: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Shows how far a training is.

    Args:
        steps: of the whole run.
        shown: whether anything is shown; of several processes one shows.
        console: to write to.
    """

    def __init__(self, steps: int, shown: bool = True, console: Console | None = None) -> None:
        self._steps = steps
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._shown = shown
        self._bar: Progress | None = None
        if shown and self._console.is_terminal:
            columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[values]}"))
            self._bar = Progress(*columns, console=self._console, speed_estimate_period=600)
            self._task = self._bar.add_task("", total=steps, values="")
        self._began, self._done = time.monotonic(), 0

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: int) -> None:
        """The run goes on from this step."""
        self._began, self._done = time.monotonic(), step
        if self._bar is not None:
            self._bar.reset(self._task, completed=step, total=self._steps)

    def step(self, step: int, row: Mapping[str, float] | None) -> None:
        """A step is done; `row` of the log, where there is one."""
        text = _values(row) if row else None
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            if text:
                self._bar.update(self._task, values=text)
        elif self._shown and text:
            left = (time.monotonic() - self._began) / max(step - self._done, 1) * (self._steps - step)
            self._console.print(f"step {step}/{self._steps}  {text}  {_duration(left)} left")

    def tell(self, text: str, style: str = "") -> None:
        """A line beside the bar."""
        if self._shown:
            self._console.print(f"[{style}]{escape(text)}[/]" if style else escape(text))

    def warn(self, text: str) -> None:
        """A line about what goes on, though something is amiss; from every process."""
        self._console.print(f"[yellow]warning:[/] {escape(text)}")


def _values(row: Mapping[str, float]) -> str:
    names = {"learning_rate": "lr", "gradient_norm": "norm", "clips_per_second": "clips/s"}
    return "  ".join(f"{names.get(name, name)} {value:.4g}" for name, value in row.items() if name != "step")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
