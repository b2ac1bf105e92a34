"""Repair a prefix made of ROS 2 wheels: their CMake exports name include folders of the machine that built them.

    python cmake/repair_wheel_exports.py PREFIX

Rewrites the include folders of Python and NumPy in PREFIX/share/*/cmake/*.cmake to those of this interpreter.
Doing it twice changes nothing more.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

BUILD_NUMPY = re.compile(r"/opt/python/[^;\"\s)]*/numpy/_?core/include")
BUILD_PYTHON = re.compile(r"/opt/python/[^;\"\s)]*/include/python3\.\d+")


def repair(prefix: Path) -> int:
    """Rewrite the exports under a prefix; returns how many files changed."""
    changed = 0
    for file in sorted(prefix.glob("share/*/cmake/*.cmake")):
        text = file.read_text()
        fixed = BUILD_NUMPY.sub(lambda _: numpy.get_include(), text)
        fixed = BUILD_PYTHON.sub(lambda _: sysconfig.get_path("include"), fixed)
        if fixed != text:
            file.write_text(fixed)
            changed += 1
    return changed


if __name__ == "__main__":
    print(f"repaired {repair(Path(sys.argv[1]))} CMake exports")
