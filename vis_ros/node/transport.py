"""The transport that images need between two processes of one machine: shared memory, with room for them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

from vis_core.errors import InputError, printable

_WITHOUT = "fastdds_udp.xml"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_PROFILES = {
    16 * 2**20: "fastdds_shared_memory_16.xml",
    64 * 2**20: "fastdds_shared_memory.xml",
    256 * 2**20: "fastdds_shared_memory_256.xml",
    1024 * 2**20: "fastdds_shared_memory_1024.xml",
}
"""By the size of a segment."""
_USUAL_BYTES = 64 * 2**20
_MORE_BYTES = 4 * 2**20
"""What Fast DDS adds to a segment, at most."""
_IMAGES = 16
"""That a segment has room for: those on the way, and those that subscribers hold."""
_LARGEST_IMAGE = "VIS_ROS_LARGEST_IMAGE"
_BEFORE_FAST_DDS_3 = ("humble", "iron", "jazzy")
_DEAD_LOCK = re.compile(r"((?:fastdds|fastrtps)_[0-9a-f]{16})_el")
_YOUNG_SECONDS = 1.0


def installed_file(folder: str, name: str) -> Path:
    """A file of this package's share folder: of the source tree, else of the prefixes in ``AMENT_PREFIX_PATH``, else of
    this interpreter's prefix.

    Args:
        folder: ``config`` or ``launch``.
        name: of the file.

    Raises:
        InputError: it is nowhere; the text lists where it was looked for.
    """
    source = Path(__file__).resolve().parents[2]
    places = [source / folder / name] if (source / "package.xml").is_file() else []
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    places += [Path(prefix) / "share" / "vis_ros" / folder / name for prefix in prefixes]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{name}: not installed; looked for {', '.join(map(str, places))}. Build the package (make)")


def profile_path() -> Path:
    """The shipped Fast DDS profile: shared memory with a 64 MiB segment, and UDP.

    With Fast DDS's default transports most images of a 30 Hz best-effort topic are lost between two processes.
    """
    return installed_file("config", _PROFILES[_USUAL_BYTES])


def profiles_variable() -> str:
    """The environment variable that names a file of profiles to the Fast DDS of this ROS release."""
    distribution = os.environ.get("ROS_DISTRO")
    if distribution is None:  # an environment of wheels, which say so by their library alone
        before = (Path(sys.prefix) / "lib" / "libfastrtps.so").exists()
    else:
        before = distribution in _BEFORE_FAST_DDS_3
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if before else "FASTDDS_DEFAULT_PROFILES_FILE"


def use_shared_memory(image_bytes: int | None = None) -> str:
    """Make a shipped profile the default of this process and its children, unless the user has chosen another.

    To be called before ``rclpy.init``. Segments of processes that have ended are removed first. Where the machine has
    too little shared memory all the same, as a container may, it warns, and UDP alone is used if there is no room for
    one segment: most images are lost then.

    Args:
        image_bytes: size of the largest image, by which the segment is sized; None: that of
            ``VIS_ROS_LARGEST_IMAGE``, such as 1920x1080, else 64 MiB.

    Returns:
        What it warned of; empty if nothing.

    Raises:
        InputError: ``VIS_ROS_LARGEST_IMAGE`` is no size.
    """
    if any(os.environ.get(name) for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")):
        return ""
    remove_dead_segments()
    size = segment_bytes(_largest_image() if image_bytes is None else image_bytes)
    free, needed = free_shared_memory(), size + _MORE_BYTES
    fits = free >= needed
    os.environ[profiles_variable()] = str(installed_file("config", _PROFILES[size] if fits else _WITHOUT))
    if free >= 2 * needed:  # two processes, a segment each
        return ""
    problem = (
        f"{_SHARED_MEMORY} has {free >> 20} MiB free, the shared-memory transport needs {2 * needed >> 20}"
        f"{'' if fits else ', so UDP is used'}: images will get lost "
        "(for a container: docker run --ipc=host, or --shm-size=1g)"
    )
    warnings.warn(problem, stacklevel=2)
    return problem


def segment_bytes(image_bytes: int | None) -> int:
    """Size of the shared memory of a process that publishes images of a size; None: of unknown size."""
    if image_bytes is None:
        return _USUAL_BYTES
    return next((size for size in _PROFILES if size >= _IMAGES * image_bytes), max(_PROFILES))


def free_shared_memory() -> int:
    """Bytes of shared memory that are free; 0 where there is none."""
    return shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0


def remove_dead_segments() -> int:
    """Remove what processes of this user that were killed have left in shared memory; returns how many bytes.

    Fast DDS locks a file beside each of its segments for as long as its process lives: where the lock can be taken, it
    does not.
    """
    removed = 0
    for lock in _SHARED_MEMORY.glob("fast*_el"):
        named = _DEAD_LOCK.fullmatch(lock.name)
        if named is None:
            continue
        with suppress(OSError), lock.open("rb") as file:
            status = os.fstat(file.fileno())
            # One that is just made may not be locked yet.
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _YOUNG_SECONDS:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            segment = lock.with_name(named[1])
            with suppress(FileNotFoundError):
                size = segment.stat().st_size
                segment.unlink()
                removed += size
            lock.unlink()
    return removed


def _largest_image() -> int | None:
    """Bytes of an image of the size that the environment names."""
    text = os.environ.get(_LARGEST_IMAGE, "")
    if not text:
        return None
    size = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if size is None:
        raise InputError(f"{_LARGEST_IMAGE}={printable(text, 40)}: expected WIDTHxHEIGHT in pixels, such as 1920x1080")
    return 3 * int(size[1]) * int(size[2])
