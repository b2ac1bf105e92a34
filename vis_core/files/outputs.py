"""Where commands write: nothing is replaced unasked or too early, nothing is torn, and no two runs share a folder.

A run writes into a hidden folder, ``OUT/.partial.COMMAND``; what is there takes its place when all of it is complete,
in renames alone. What a killed run leaves there is found by the next one, which holds the folder's lock and so knows
that nobody works on it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from vis_core.errors import InputError, OptionError
from vis_core.files.atomic import FULL, clear_partials, errors_name

LOCK = ".lock"
_REPLACED, _PUBLISHING = ".replaced", ".publishing"
_RESUMABLE = ("segment",)

_held: set[tuple[int, int]] = set()  # the system does not keep two locks of one process apart


def say_nothing(text: str) -> None:
    """Where nobody is to be told."""


class OutputFolder:
    """A folder that a run makes or makes anew.

    Attributes:
        folder: where the outputs will stand.
        command: that writes them.
        path: where they are to be written meanwhile. Names that begin with a dot never leave it.
    """

    def __init__(self, folder: Path, command: str, patterns: Sequence[str]) -> None:
        self.folder = folder
        self.command = command
        self.path = folder / f".partial.{command}"
        self._patterns = patterns
        self._open = True
        self._leaves = self._left = self.path.exists()

    @property
    def outputs(self) -> list[Path]:
        """What stands in the folder of such a run, by its patterns."""
        found = {path for pattern in self._patterns for path in self.folder.glob(pattern) if not path.is_dir()}
        return sorted(found)

    def final(self, path: Path) -> Path:
        """Where something that is in `path` now will stand."""
        return self.folder / path.relative_to(self.path)

    def publish(self, keep: bool = False, without: Collection[str] = ()) -> None:
        """Let what was written take its place, and what an earlier run left there go.

        Args:
            keep: what was written stays in `path` too, for a run that goes on from it.
            without: names that are no output.

        Raises:
            OSError: it cannot; then the folder is as it was.
        """
        self._open, self._leaves = False, keep
        names = [p.relative_to(self.path) for p in sorted(self.path.rglob("*")) if not p.is_dir()]
        names = [n for n in names if str(n) not in without and not any(part.startswith(".") for part in n.parts)]
        old = set(self.outputs) | {self.folder / name for name in names if os.path.lexists(self.folder / name)}
        if not keep:
            plan = {"old": [str(path.relative_to(self.folder)) for path in old], "new": list(map(str, names))}
            with errors_name(self.folder):
                (self.path / _PUBLISHING).write_text(json.dumps(plan), "utf-8")
        self._exchange(sorted(old), names, _link if keep else _move)

    def leave(self) -> None:
        """Publish nothing; what was written stays in `path`."""
        self._open, self._leaves = False, True

    def discard(self) -> None:
        """Publish nothing; `path` goes at the end."""
        self._open = self._leaves = False

    def keep_as_it_was(self) -> None:
        """Publish nothing; `path` goes at the end, unless it was there before."""
        self._open, self._leaves = False, self._left

    def _recover(self) -> bool:
        """Finish the renames that a kill has cut short; whether there were any."""
        try:
            plan = json.loads((self.path / _PUBLISHING).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        names = [Path(name) for name in plan["new"] if os.path.lexists(self.path / name)]
        placed = set(plan["new"]) - set(map(str, names))
        old = [self.folder / name for name in plan["old"] if name not in placed]
        self._exchange([path for path in old if os.path.lexists(path)], names, _move)
        return True

    def _exchange(self, old: Sequence[Path], names: Sequence[Path], place: Callable[[Path, Path], None]) -> None:
        aside = self.path / _REPLACED
        undo: list[Callable[[], object]] = []
        try:
            for path in old:
                kept = aside / path.relative_to(self.folder)
                _move(path, kept)
                undo.append(partial(_move, kept, path))
            for name in names:
                source, target = self.path / name, self.folder / name
                place(source, target)
                undo.append(partial(_move, target, source) if place is _move else target.unlink)
        except BaseException:
            for step in reversed(undo):
                with suppress(OSError):
                    step()
            (self.path / _PUBLISHING).unlink(missing_ok=True)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        parents = {self.folder / parent for path in old for parent in path.relative_to(self.folder).parents}
        _remove_empty(sorted(parents, reverse=True))


@contextmanager
def output_folder(
    folder: Path,
    command: str,
    patterns: Sequence[str],
    *,
    force: bool = False,
    resume: bool = False,
    unfinished: str = "",
    tell: Callable[[str], None] = say_nothing,
) -> Iterator[OutputFolder]:
    """A folder to write to, for as long as the run takes; what was written takes its place at the end, unless it fails.

    Other files in the folder are left alone. On failure the folder is as it was, and gone if it was made for the run.

    Args:
        folder: made if it is not there.
        command: that writes.
        patterns: of all names that the command may write, as of `Path.glob`.
        force: replace what such a run has left, as a whole.
        resume: go on from what a run that ended early has written, if there is any.
        unfinished: a file that lies where a run has written what another can go on from.
        tell: is told what of a killed run is removed.

    Raises:
        InputError: there are such outputs already, or what a run can go on from and neither `force` nor `resume` is
            given, or the folder cannot be written to.
        OptionError: another run writes there.
    """
    with locked(folder):
        for left in sorted(path for path in folder.glob(".partial.*") if path.is_dir()):
            owner = OutputFolder(folder, left.name.removeprefix(".partial."), patterns)
            recovered = owner._recover()
            if unfinished and owner.command == command and (left / unfinished).exists() and not recovered:
                if resume:
                    continue
                if not force:
                    raise InputError(
                        f"{left}: holds what a run that did not come to its end has finished; --resume goes on from "
                        "it, --force begins anew"
                    )
            if owner.command == command or owner.command not in _RESUMABLE:
                shutil.rmtree(left, ignore_errors=True)
                how = "its outputs took their place" if recovered else "removed"
                tell(f"{left}: {how}; a run that did not come to its end had left it")
        output = OutputFolder(folder, command, patterns)
        if not force and not (resume and output._left):
            refuse_outputs(output.outputs, "--force replaces the outputs of an earlier run")
        output.path.mkdir(exist_ok=True)
        try:
            yield output
            if output._open:
                output.publish()
        finally:
            if not output._leaves:
                shutil.rmtree(output.path, ignore_errors=True)


@contextmanager
def locked(folder: Path, what: str = "run") -> Iterator[None]:
    """While inside, no other run can have the folder; the lock goes with the process that has it.

    Folders that were made for it and are empty at the end go, too.

    Raises:
        InputError: the folder cannot be made or written to.
        OptionError: another one has it.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(folder, what)
    except OSError as error:
        _remove_empty(made)
        raise unwritable(folder, error) from None
    status = os.fstat(descriptor)
    held = (status.st_dev, status.st_ino)
    _held.add(held)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        _held.discard(held)
        os.close(descriptor)
        _remove_empty(made)


def refuse_outputs(found: Sequence[Path], way_out: str) -> None:
    """Refuse outputs that are there already.

    Raises:
        InputError: names the first one.
    """
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(f"{found[0]}{more}: is there already; {way_out}")


def check_file(path: Path, force: bool = False, tell: Callable[[str], None] = say_nothing) -> None:
    """See before any work that a file can be written and replaces nothing unasked; remove what a killed run left of it.

    Raises:
        InputError: it is there already, or cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the file to write")
    if not force and os.path.lexists(path):
        refuse_outputs([path], "--force replaces it")
    for left in clear_partials(path):
        tell(f"{left}: removed; a run that did not come to its end had left it")
    _try_to_write(path.absolute().parent, path)


def check_folder(folder: Path) -> None:
    """See before any work that a folder can be written to.

    Raises:
        InputError: it cannot.
    """
    _try_to_write(folder.absolute(), folder)


def _try_to_write(folder: Path, path: Path) -> None:
    """Write into a folder, or the nearest one above it that is there, as if that were for a path."""
    try:
        near = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        with tempfile.NamedTemporaryFile(prefix=f".{path.name[:100]}.", suffix=".try", dir=near):
            pass
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> Exception:
    """What to raise where a place to write to is no such place: the user's to mend, but for a full disk."""
    if error.errno in FULL:
        return OSError(error.errno, error.strerror or str(error), str(path))
    return InputError(f"{path}: cannot be written to: {error.strerror or error}; choose another place")


def _lock(folder: Path, what: str) -> int:
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) in _held:
                raise BlockingIOError(errno.EAGAIN, "held")
            # Of this process alone: the workers that it forks do not hold it on after a kill.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                os.close(descriptor)
                raise OptionError(f"{folder}: another {what} writes there; give another output, or wait") from None
            return descriptor  # a file system without locks
        with suppress(OSError):
            if os.path.samestat(path.stat(), status):  # or its owner removed it at its end just now
                return descriptor
        os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with errors_name(target):
        source.replace(target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with errors_name(target):
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            shutil.copy2(source, target)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
