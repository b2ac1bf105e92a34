"""What imports what: each floor those below, vis_core no ROS, the evaluation no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROS = (
    "ament_index_python, builtin_interfaces, cv_bridge, diagnostic_msgs, launch, launch_ros, lifecycle_msgs, "
    "message_filters, rcl_interfaces, rclpy, rosbag2_py, rosbags, rpyutils, sensor_msgs, std_msgs, std_srvs, vis_ros"
)

FLOORS = (
    (
        "vis_core",
        "errors structures masks reading images video video_sources video_writer output_files checkpoints overlay "
        "results interrupts",
    ),
    ("vis_core", "nn"),
    ("vis_core", "streaming clip_segmenter tracking data trainable"),
    ("vis_core", "models"),
    ("vis_core", "catalog training evaluation"),
    ("vis_core", "cli export segmenting terminal"),
    ("vis_ros", ""),
)
"""From the lowest: a package, and what of it is on the floor (empty: all)."""

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
    assert {"vis_core.cli", "vis_core.evaluation", "vis_core.models.visolo.network"} <= set(modules)


def test_every_module_of_the_evaluation_imports_without_torch_and_without_opencv():
    modules = run(f"block({'cv2, safetensors, torch, ' + ROS!r})\nprint(*import_everything('vis_core.evaluation'))")
    assert "vis_core.evaluation.average_precision" in modules.split()


def test_the_evaluation_scores_without_torch(tmp_path):
    program = f"""
block({"cv2, safetensors, torch, " + ROS!r})
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


def floor(module: str) -> int | None:
    """The floor of a module, None for the package vis_core itself (its version, and its lazy public names)."""
    package, _, rest = module.partition(".")
    if package == "vis_core" and not rest:
        return None
    for level, (owner, names) in enumerate(FLOORS):
        if package == owner and (not names or rest.partition(".")[0] in names.split()):
            return level
    pytest.fail(f"{module} stands on no floor; a new module is to be named in FLOORS")


def imports(path: Path) -> Iterator[str]:
    """Modules of this repository that a file imports anywhere in its text, as ``package.module[.name]``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in found if name.partition(".")[0] in ("vis_core", "vis_ros"))


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*(ROOT / "vis_core").rglob("*.py"), *(ROOT / "vis_ros").rglob("*.py")]):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def test_no_module_imports_from_a_floor_above_it():
    checked = 0
    for name, path in modules():
        own = floor(name)
        for imported in imports(path) if own is not None else ():
            if imported in ("vis_core", "vis_core.__version__"):
                continue
            other = floor(imported)
            assert other is not None
            assert other <= own, f"{name} (floor {own}) imports {imported} (floor {other})"
            checked += 1
    assert checked > 100


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


def test_the_evaluation_needs_the_lowest_floor_alone():
    for name, path in modules():
        if name.startswith("vis_core.evaluation"):
            for imported in imports(path):
                allowed = imported == "vis_core" or imported.startswith("vis_core.evaluation") or floor(imported) == 0
                assert allowed, f"{name} imports {imported}"
