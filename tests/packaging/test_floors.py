"""What imports what: each floor those below, vis_core no ROS, the evaluation and the catalogue no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vis_core

ROOT = Path(__file__).resolve().parents[2]

ROS = (
    "ament_index_python, builtin_interfaces, cv_bridge, diagnostic_msgs, launch, launch_ros, lifecycle_msgs, "
    "message_filters, rcl_interfaces, rclpy, rosbag2_py, rosbags, rpyutils, sensor_msgs, std_msgs, std_srvs, vis_ros"
)

NOT_TO_SCORE = "cv2, rich, safetensors, torch, typer, " + ROS

FLOORS = (
    "vis_core/structures.py vis_core/masks.py vis_core/checkpoints/ vis_core/errors.py vis_core/nn/",
    "vis_core/data/ vis_core/tracking/ vis_core/spatial/ vis_core/video/ vis_core/files/",
    "vis_core/system/",
    "vis_core/models/",
    "vis_core/catalog.py vis_core/evaluation/",
    "vis_core/training/ vis_core/export/",
    "vis_core/commands/",
    "vis_ros/",
    "launch/ benchmarks/",
)
"""From the lowest: what stands on each floor. CONTRIBUTING.md has the same table."""

FOLDERS = ("vis_core", "vis_ros", "launch", "benchmarks")

BLOCK = """
import importlib, pkgutil, sys

class Blocker:
    def __init__(self, names):
        self.names = set(names.split(", "))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} was imported, and must not be", name=name)

def block(names):
    sys.meta_path.insert(0, Blocker(names))

def import_everything(package):
    package = importlib.import_module(package)
    found = [package.__name__]
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        found.append(module.name)
    return found
"""


def run(program: str) -> str:
    """Run a program after BLOCK in a process of its own, from the source tree; its standard output."""
    done = subprocess.run([sys.executable, "-c", BLOCK + program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_of_vis_core_imports_without_any_ros_package():
    modules = run(f"block({ROS!r})\nprint(*import_everything('vis_core'))").split()
    assert {"vis_core.commands.main", "vis_core.evaluation", "vis_core.models.visolo.network"} <= set(modules)


def test_every_module_of_the_evaluation_imports_without_torch_and_without_opencv():
    modules = run(f"block({NOT_TO_SCORE!r})\nprint(*import_everything('vis_core.evaluation'))")
    assert "vis_core.evaluation.metrics.average_precision" in modules.split()


def test_the_evaluation_scores_without_torch(tmp_path):
    program = f"""
block({NOT_TO_SCORE!r})
from vis_core.evaluation import evaluate
segmentation = {{"size": [4, 4], "counts": [5, 2, 9]}}
truth = {{
    "videos": [{{"id": 1, "height": 4, "width": 4, "length": 1, "file_names": ["a/0.jpg"]}}],
    "categories": [{{"id": 1, "name": "cup"}}],
    "annotations": [{{"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "areas": [2], "height": 4, "width": 4,
                     "bboxes": [[1, 1, 1, 2]], "segmentations": [segmentation]}}],
}}
results = [{{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [segmentation]}}]
print(evaluate(truth, results).summary["AP"])
"""
    assert float(run(program)) == pytest.approx(1.0)


def test_importing_vis_core_loads_neither_torch_nor_opencv():
    assert run("import vis_core\nprint({'torch', 'cv2'} & set(sys.modules))").strip() == "set()"


def test_the_catalogue_is_read_without_torch_and_numpy():
    program = """
block("cv2, numpy, torch")
from vis_core.catalog import SYSTEMS
print(sum(len(system.options) > 3 and len(system.training_options) > 2 for system in SYSTEMS.values()))
"""
    assert int(run(program)) > 8


def floor(module: str) -> int | None:
    """The floor of a module, None for the package vis_core itself (its version, and its lazy public names)."""
    if module == "vis_core" or module.removeprefix("vis_core.") in vis_core.__all__:
        return None
    path = module.replace(".", "/") + "/"
    for level, rooms in enumerate(FLOORS):
        if any(path.startswith(room.removesuffix(".py").rstrip("/") + "/") for room in rooms.split()):
            return level
    pytest.fail(f"{module} stands on no floor; a new module is to be named in FLOORS")


def imports(path: Path) -> Iterator[str]:
    """Modules of this repository that a file imports anywhere in its text, as ``package.module[.name]``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from named(node, path)


def named(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """What an import names of this repository."""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    else:
        assert node.level == 0, f"{path}: a relative import"
        found = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.partition(".")[0] in ("vis_core", "vis_ros")]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def test_no_module_imports_from_a_floor_above_it():
    checked = 0
    for name, path in modules():
        own = floor(name)
        for imported in imports(path) if own is not None else ():
            other = floor(imported)
            if other is not None:
                assert other <= own, f"{name} (floor {own}) imports {imported} (floor {other})"
                checked += 1
    assert checked > 100


def test_no_module_below_the_commands_speaks_to_a_terminal():
    commands = floor("vis_core.commands")
    for name, path in modules():
        if (own := floor(name)) is not None and own < commands:
            assert not {"rich", "typer"} & set(packages(path)), name


def packages(path: Path) -> Iterator[str]:
    """Packages that a file imports anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def test_systems_never_import_each_other():
    checked = 0
    for name, path in modules():
        if name.startswith("vis_core.models."):
            own = name.split(".")[2]
            for imported in imports(path):
                if imported.startswith("vis_core.models."):
                    assert imported.split(".")[2] == own, f"{name} imports {imported}"
                    checked += 1
    assert checked


def test_no_modules_import_each_other_in_a_circle():
    """At import time; what a function imports when it runs, or a type checker alone reads, ties no knot."""
    known = dict(modules())
    edges = {
        name: {found for found in (module_of(x, known) for x in imports_at_once(path)) if found} - {name}
        for name, path in known.items()
    }
    while leaves := [name for name, needed in edges.items() if not needed & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges, f"these import each other: {sorted(edges)}"


def module_of(imported: str, known: dict[str, Path]) -> str | None:
    """The module that an imported name is, or is in."""
    while imported and imported not in known:
        imported = imported.rpartition(".")[0]
    return imported or None


def imports_at_once(path: Path) -> Iterator[str]:
    """As `imports`, of what runs when the module is imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from named(node, path)
