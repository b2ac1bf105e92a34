"""A file that grows piece by piece, each piece there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from vis_core.files.atomic import errors_name


class AppendedFile:
    """A file that pieces are appended to.

    Args:
        path: of the file.
        end: bytes of an earlier run to go on from; the rest is cut off.
        named: the file that errors name, where that is another.

    Attributes:
        end: size of what stands, bytes.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, end: int = 0, named: Path | None = None) -> None:
        self.path, self.end = path, end
        self._named = named or path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("r+b" if end else "wb", buffering=0)
        self._cut()

    def append(self, piece: bytes) -> None:
        """Write a piece.

        Raises:
            OSError: it cannot be written; those before stay sound.
        """
        written = 0
        try:
            with errors_name(self._named):
                while written < len(piece):
                    written += self._file.write(piece[written:]) or 0
        except BaseException:
            self._cut()
            raise
        self.end += written

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    def close(self) -> None:
        """Let go of the file. Closing again does nothing."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self.end)
        self._file.seek(self.end)
