"""The transport profile that images need between two processes of one machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vis_core.errors import InputError

_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
_PROFILE = "fastdds_shared_memory.xml"


def installed_file(folder: str, name: str) -> Path:
    """A file of this package's share folder: of the source tree, else of the prefixes in ``AMENT_PREFIX_PATH``, else of
    this interpreter's prefix.

    Args:
        folder: ``config`` or ``launch``.
        name: of the file.

    Raises:
        InputError: it is nowhere; the text lists where it was looked for.
    """
    source = Path(__file__).resolve().parents[1]
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


def use_shared_memory() -> None:
    """Make the shipped profile the default of this process and its children, unless the user has chosen another.

    To be called before ``rclpy.init``.
    """
    if not any(os.environ.get(name) for name in (_VARIABLE, "FASTRTPS_DEFAULT_PROFILES_FILE")):
        os.environ[_VARIABLE] = str(profile_path())
