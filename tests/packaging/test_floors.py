"""What imports without what: vis_core without ROS, the evaluation without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROS = (
    "ament_index_python, builtin_interfaces, cv_bridge, diagnostic_msgs, launch, launch_ros, lifecycle_msgs, "
    "message_filters, rcl_interfaces, rclpy, rosbag2_py, rosbags, rpyutils, sensor_msgs, std_msgs, std_srvs, vis_ros"
)

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
