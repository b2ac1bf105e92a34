"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room left: on the disk, for the user, in the file."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; what is written there takes its place at the end, unless it fails.

    Raises:
        OSError: the folder cannot be made, or the file cannot be written; then the error names ``path``.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with errors_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _in_use(partial):
                yield partial
                partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def clear_partials(path: Path) -> list[Path]:
    """Remove what killed processes have left of a file to be written; returns what there was."""
    removed = []
    for left in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.part")):
        with suppress(OSError), _in_use(left):
            left.unlink()
            removed.append(left)
    return removed


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Errors of the system raised inside name this file, as those of a write by themselves do not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def _in_use(partial: Path) -> Iterator[None]:
    """While inside, others see that somebody works on the file.

    Raises:
        OSError: somebody else does.
    """
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
