"""Repair the CMake files of the ROS 2 wheels: they name the include folders of the machine that built them.

    .venv/bin/python cmake/repair_wheels.py

CMake refuses to link against a target whose include folder does not exist. Repairing twice changes nothing more.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

FOREIGN_PYTHON = re.compile(r"/opt/python/[\w.-]+/include/python[\d.]+")
FOREIGN_NUMPY = re.compile(r"/opt/python/[\w.-]+/lib/python[\d.]+/site-packages/numpy/_?core/include")


def repair(text: str) -> str:
    """The text with the include folders of this machine's Python and NumPy in place of the builder's."""
    text = FOREIGN_NUMPY.sub(lambda _: Path(numpy.get_include()).as_posix(), text)
    return FOREIGN_PYTHON.sub(lambda _: Path(sysconfig.get_path("include")).as_posix(), text)


def main() -> None:
    """Repair every exported CMake file under the prefix of this Python."""
    repaired = 0
    for path in sorted(Path(sys.prefix).glob("share/*/cmake/*.cmake")):
        text = path.read_text(encoding="utf-8")
        changed = repair(text)
        if changed != text:
            path.write_text(changed, encoding="utf-8")
            repaired += 1
    print(f"{repaired} CMake files repaired under {Path(sys.prefix) / 'share'}")


if __name__ == "__main__":
    main()
