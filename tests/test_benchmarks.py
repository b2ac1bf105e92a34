"""Every benchmark starts, and does its work in short, with the code as it is."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))

NEED_ROS = {"cameras", "node_memory", "node_overhead", "transport"}
NEED_DATA = {"visolo_lite"}
FIGURE = re.compile(r"(?<![\w.])\d+(\.\d+)?(?![\w.])")

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


@each_script
def test_it_shows_its_help(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])  # as a script finds it
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "usage" in capsys.readouterr().out.lower()


@each_script
def test_what_it_imports_when_it_is_at_work_exists(script):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module or not node.module.startswith("vis_"):
            continue
        if node.module.startswith("vis_ros"):
            pytest.importorskip("rclpy", reason="needs ROS 2: 'make', or a sourced installation")
        module = import_module(node.module)
        for name in (alias.name for alias in node.names):
            assert hasattr(module, name) or find_spec(f"{node.module}.{name}"), f"{node.module} has no {name}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_script
def test_in_short_it_tells_how_far_it_is_and_ends_with_figures(script, request):
    if script.stem in NEED_ROS:
        pytest.importorskip("rclpy", reason="needs ROS 2: 'make', or a sourced installation")
    data = [str(request.getfixturevalue("shared") / "data")] if script.stem in NEED_DATA else []
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent), "COLUMNS": "200"}
    command = [sys.executable, str(script), "--quick", *data]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    on_the_way, table, figures = done.stdout.partition("┏")
    if not table:  # the last lines, then
        *before, last, end = done.stdout.strip().splitlines()
        on_the_way, figures = "\n".join(before), f"{last}\n{end}"
    assert on_the_way.strip(), f"tells nothing on its way:\n{done.stdout}"
    assert len(FIGURE.findall(figures)) >= 2, done.stdout
    assert "nan" not in figures.lower().split(), done.stdout
