"""README, CONTRIBUTING and docs say what is so: commands exist, links lead somewhere, code runs, tables are current."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

from tests.packaging.test_floors import FLOORS
from vis_core import masks
from vis_core.catalog import SYSTEMS
from vis_core.data.synthetic import synthetic_video

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    path: path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
README, CONTRIBUTING = DOCUMENTS[ROOT / "README.md"], DOCUMENTS[ROOT / "CONTRIBUTING.md"]
BLOCKS = [
    block
    for text in DOCUMENTS.values()
    for block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
]
PROSE = {path: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for path, text in DOCUMENTS.items()}
INLINE = [quoted for text in PROSE.values() for quoted in re.findall(r"`([^`\n]+)`", text)]


def code(language: str, containing: str) -> str:
    """The one block that is meant; those of the page on Python have a test of their own."""
    elsewhere = DOCUMENTS[ROOT / "docs" / "python.md"]
    (found,) = [text for kind, text in BLOCKS if kind == language and containing in text and text not in elsewhere]
    return found


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of tables, without their heads."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row, below in zip(table, [*table[1:], [""]]) if "---" not in (row[0], below[0])]


def command_lines(*programs: str) -> list[list[str]]:
    """The lines of shell blocks, and the commands in running text, that begin with one of the programs."""
    lines = [line for kind, text in BLOCKS if kind == "bash" for line in text.replace("\\\n", " ").splitlines()]
    lines += INLINE
    split = [shlex.split(line, comments=True) for line in lines if line.split()[:1] and line.split()[0] in programs]
    split = [line for line in split if len(line) > 1 or line == ["make"]]
    assert split, programs
    return split


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [word for line in command_lines("make") for word in line[1:] if "=" not in word]
    assert {"demo", "test"} <= set(asked) <= targets


@pytest.mark.parametrize("program", ["vis", "vis-ros"])
def test_every_command_and_option_exists(program):
    if program == "vis":
        from vis_core.commands.main import app
    else:
        from vis_ros.cli import app
    group = typer.main.get_command(app)
    for _, name, *arguments in command_lines(program):
        if name == "--help":  # of the program itself
            continue
        assert name in group.commands, name
        command = group.commands[name]
        while arguments and (below := getattr(command, "commands", {}).get(arguments[0])):
            command, arguments = below, arguments[1:]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        own = arguments[: arguments.index("--ros-args")] if "--ros-args" in arguments else arguments
        asked = {argument.split("=")[0] for argument in own if argument.startswith("--")}
        assert asked <= known, (name, asked - known)


def test_every_launch_argument_and_executable_exists():
    launching = (ROOT / "vis_ros" / "launching.py").read_text()
    known = set(re.findall(r'^ +\(?"(\w+)",', launching, re.MULTILINE))
    lines = [line for line in command_lines("ros2") if line[1] == "launch"]
    for line in lines:
        assert (ROOT / "launch" / line[3]).is_file()
        assert {word.split(":=")[0] for word in line[4:] if ":=" in word} <= known, line
    assert {"image", "weights"} <= {word.split(":=")[0] for line in lines for word in line}
    for line in command_lines("ros2"):
        if line[1:3] == ["run", "vis_ros"]:
            assert f"{line[3]}=" in (ROOT / "CMakeLists.txt").read_text(), line


def anchors(text: str) -> set[str]:
    headings = [line.lstrip("# ") for line in text.splitlines() if line[:1] == "#"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_or_a_heading(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[path]):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(PROSE[linked]), target


def test_the_readme_has_links_and_leads_to_every_other_document():
    linked = {ROOT / target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", README)}
    assert set(DOCUMENTS) - {ROOT / "README.md"} <= linked


def test_the_pictures_are_small():
    pictures = [path for path in (ROOT / "docs").iterdir() if path.suffix in (".jpg", ".png")]
    assert 0 < sum(path.stat().st_size for path in pictures) < 600_000


def test_files_named_in_the_text_exist():
    """And folders, which end with a slash. `SYSTEM` stands for the name of any system, a message type for its file."""
    folders = "config|launch|benchmarks|docs|msg|vis_core|vis_ros|tests|cmake"
    named = [re.sub(r"^vis_ros/([A-Z]\w+)$", r"msg/\1.msg", name) for name in INLINE]
    named = [name for name in named if re.fullmatch(rf"(?:{folders})/(?:[\w./-]*(?:\.\w+|/))?", name)]
    assert {"config/SYSTEM.yaml", "vis_core/commands/", "msg/InstanceTrackArray.msg"} <= set(named)
    for name in named:
        for system in SYSTEMS:
            assert (ROOT / name.replace("SYSTEM", system)).exists(), name
    launch_files = [name for name in INLINE if re.fullmatch(r"\w+\.launch\.py", name)]
    assert launch_files
    for name in launch_files:
        assert (ROOT / "launch" / name).is_file(), name


def test_the_readme_is_short_and_no_cell_of_its_speeds_is_a_story():
    assert len(README.splitlines()) < 180
    speeds = rows(section(README, "Speed"))
    assert speeds
    assert [cell for row in speeds for cell in row if len(cell) > 120] == []


def test_every_system_has_a_row_with_its_published_figures():
    table = {row[0].strip("`"): row for row in rows(section(README, "Systems"))}
    assert list(table) == list(SYSTEMS)
    for name, system in SYSTEMS.items():
        figures = " ".join(text for data, text in system.figures.items() if data.startswith("YouTube-VIS 2019 val"))
        known = set(re.findall(r"AP (\d+\.\d)", figures))
        said = set(re.findall(r"\d+\.\d", table[name][3]))
        assert said == known if known else table[name][3] == "-", (name, said, known)


def test_contributing_has_the_table_of_floors():
    table = dict(re.findall(r"^ (\d)  (.+)$", section(CONTRIBUTING, "Floors"), re.MULTILINE))
    assert list(table) == [str(level) for level in reversed(range(len(FLOORS)))]
    for level, stand in enumerate(FLOORS):
        for room in stand.split():
            assert room.removeprefix("vis_core/") in table[str(level)], (level, room)


def test_the_message_table_has_every_field():
    fields = re.findall(r"^[\w/]+(?:\[\])?\s+([a-z_]+)\b(?!=)", (ROOT / "msg" / "InstanceTrack.msg").read_text(), re.M)
    table = section(DOCUMENTS[ROOT / "docs" / "messages.md"], "Messages")
    assert len(fields) == 11
    assert [name for name in fields if f"`{name}`" not in table] == []


def test_the_python_snippets_parse():
    snippets = [text for kind, text in BLOCKS if kind == "python"]
    assert len(snippets) >= 3
    for text in snippets:
        ast.parse(text)


def test_the_library_snippet_runs_on_a_video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 90))
    for image in synthetic_video(0, 3, (90, 160)).frames:
        writer.write(image[..., ::-1])
    writer.release()
    snippet = code("python", "vis_core.load")
    ran = run_python(
        snippet.replace('"visolo-lite")', '"visolo-lite", score_threshold=0, birth_threshold=0)'), tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert "random" not in ran.stderr
    assert len(ran.stdout.splitlines()) >= 3
    assert {line.split()[2] for line in ran.stdout.splitlines()} <= {"person", "vehicle", "animal"}


def test_the_threads_snippet_runs(tmp_path):
    snippet = code("python", "OMP_WAIT_POLICY")
    ran = run_python(f"{snippet}\nvis_core.load\nprint(os.environ['OMP_WAIT_POLICY'])", tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "PASSIVE\n"), ran.stderr


def run_python(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("OMP_WAIT_POLICY", None)
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def random_masks(count: int = 20):
    random = np.random.default_rng(0)
    size = (48, 64)
    yield np.ones(size, bool)
    yield np.zeros(size, bool)
    for _ in range(count):
        coarse = random.standard_normal((6, 8))
        yield cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) > random.uniform(-0.5, 1.2)


def track_of(mask):
    """The `InstanceTrack` of a mask, as the node sends it."""
    from array import array

    from vis_ros.msg import InstanceTrack

    encoded = masks.encode(mask)
    track = InstanceTrack(class_name="disc", track_id=7, runs=array("I", encoded.runs.tobytes()))
    track.roi.x_offset, track.roi.y_offset, track.roi.width, track.roi.height = encoded.box
    return track


def test_the_python_decoder_gives_the_masks_of_tracks():
    pytest.importorskip("vis_ros.msg", reason="the messages are not built")
    names: dict = {}
    exec(code("python", "def mask_of"), names)
    for mask in random_masks():
        assert np.array_equal(names["mask_of"](track_of(mask), *mask.shape), mask)


def test_the_cpp_decoder_gives_the_masks_of_tracks(tmp_path):
    pytest.importorskip("vis_ros.msg", reason="the messages are not built")
    packages = Path(sys.prefix, "include")
    if not (packages / "vis_ros").is_dir():
        pytest.skip(f"no C++ messages in {packages}")
    cases = []
    for mask in random_masks():
        encoded = masks.encode(mask)
        x, y, width, height = encoded.box
        runs = ",".join(map(str, encoded.runs))
        cases.append(f"{{ {x}u, {y}u, {width}u, {height}u, {{{runs}}} }}")
    source = tmp_path / "readme.cpp"
    source.write_text(
        f"""#include <cstdio>
        {code("cpp", "mask_decoder.hpp")}
        struct Case {{ unsigned x, y, width, height; std::vector<std::uint32_t> runs; }};
        int main() {{
          vis_ros::msg::InstanceTrackArray message;
          message.height = 48;
          message.width = 64;
          for (const Case & c : std::vector<Case>{{ {",".join(cases)} }}) {{
            vis_ros::msg::InstanceTrack track;
            track.roi.x_offset = c.x; track.roi.y_offset = c.y; track.roi.width = c.width; track.roi.height = c.height;
            track.runs = c.runs;
            message.tracks.push_back(track);
          }}
          for (const auto & mask : masks_of(message)) {{
            for (auto pixel : mask) std::putchar(pixel ? '1' : '0');
            std::putchar('\\n');
          }}
        }}
        """
    )
    includes = [f"-I{folder}" for folder in (ROOT / "include", *sorted(p for p in packages.iterdir() if p.is_dir()))]
    compiler = os.environ.get("CXX") or sysconfig.get_config_var("CXX").split()[0]
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", *includes, source, "-o", tmp_path / "readme"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    printed = subprocess.run([tmp_path / "readme"], check=True, capture_output=True, text=True).stdout.split()
    expected = ["".join("1" if pixel else "0" for pixel in mask.ravel()) for mask in random_masks()]
    assert printed == expected
