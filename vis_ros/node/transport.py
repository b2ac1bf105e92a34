"""The transport profile that images need between two processes of one machine."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from pathlib import Path

from vis_core.errors import InputError

_PROFILE = "fastdds_shared_memory.xml"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_NEEDED_BYTES = 2 * 64 * 2**20  # two processes, a segment each
_BEFORE_FAST_DDS_3 = ("humble", "iron", "jazzy")


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
    return installed_file("config", _PROFILE)


def profiles_variable() -> str:
    """The environment variable that names a file of profiles to the Fast DDS of this ROS release."""
    before = os.environ.get("ROS_DISTRO") in _BEFORE_FAST_DDS_3
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if before else "FASTDDS_DEFAULT_PROFILES_FILE"


def use_shared_memory() -> None:
    """Make the shipped profile the default of this process and its children, unless the user has chosen another.

    To be called before ``rclpy.init``. Warns where the machine has too little shared memory, as a container may:
    images go by UDP then, and most of them are lost.
    """
    if any(os.environ.get(name) for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")):
        return
    os.environ[profiles_variable()] = str(profile_path())
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    if free < _NEEDED_BYTES:
        warnings.warn(
            f"{_SHARED_MEMORY} has {free >> 20} MiB free, the shared-memory transport needs {_NEEDED_BYTES >> 20}: "
            "images will get lost (for a container: docker run --ipc=host, or --shm-size=1g)",
            stacklevel=2,
        )
