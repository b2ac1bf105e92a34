"""The C++ recipe of docs/ros.md builds as it is printed, against an installed package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "ros.md").read_text()
USER = """
#include <cstdio>
DECLARED

int main()
{
  vis_ros::msg::InstanceTrackArray message;
  message.height = 2;
  message.width = 3;
  message.tracks.resize(1);
  message.tracks[0].roi.width = message.tracks[0].roi.height = 2;
  message.tracks[0].runs = {1, 3};
  const auto masks = masks_of(message);
  for (auto pixel : masks.at(0)) {
    std::putchar(pixel ? '1' : '0');
  }
}
"""


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_the_recipe_builds_and_decodes(tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    prefixes = [sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))]
    if not any((Path(prefix) / "share" / "vis_ros" / "cmake" / "vis_rosConfig.cmake").is_file() for prefix in prefixes):
        pytest.skip("needs vis_ros, installed ('make' or colcon build)")
    (tmp_path / "masks.cpp").write_text(block("cpp", "masks_of"))
    (tmp_path / "CMakeLists.txt").write_text(
        block("cmake", "vis_ros::mask_decoder")
        # What follows is the test's, to run what was built.
        + "add_executable(user user.cpp)\ntarget_link_libraries(user masks)\n"
    )
    (tmp_path / "user.cpp").write_text(USER.replace("DECLARED", declaration()))
    libraries = [f"{prefix}/lib" for prefix in prefixes]
    environment = {  # as a sourced workspace has it
        **os.environ,
        "AMENT_PREFIX_PATH": os.pathsep.join(prefixes),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")]),
    }
    for command in (
        [
            *("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DPython3_EXECUTABLE={sys.executable}"),
            f"-DCMAKE_PREFIX_PATH={';'.join(prefixes)}",
        ],
        ["cmake", "--build", tmp_path / "build"],
        [tmp_path / "build" / "user"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout == "010110"


def declaration() -> str:
    """What a header of the recipe's source would hold."""
    text = block("cpp", "masks_of")
    (signature,) = re.findall(r"^std::vector<.* masks_of\(.*\)$", text, re.MULTILINE)
    includes = "\n".join(re.findall(r"^#include .*$", text, re.MULTILINE))
    return f"{includes}\n{signature};"
