"""A node and its peer on a ROS domain of their own, and launch files read with stand-ins for ``launch``."""

from __future__ import annotations

import runpy
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rclpy.context import Context

    from tests.vis_ros.node.stage import Stage

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def context(ros_domain_id: int) -> Iterator[Context]:
    import rclpy
    from rclpy.context import Context

    context = Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def make_stage(context: Context) -> Iterator[Callable[..., Stage]]:
    from tests.vis_ros.node.stage import Stage

    stages: list[Stage] = []

    def make(load: Callable[..., Any], **parameters: Any) -> Stage:
        stages.append(Stage(context, load, parameters))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


class Recorded:
    """Stands for a class of ``launch``: keeps what it was made with."""

    def __init__(self, *arguments, **keywords):
        self.arguments, self.keywords = arguments, keywords


@pytest.fixture
def described(monkeypatch, tmp_path):
    """Runs a launch file with stand-ins for ``launch``; the arguments it declares, and the nodes it starts."""
    pytest.importorskip("lifecycle_msgs.msg", reason="needs ROS 2: 'make', or a sourced installation")
    (tmp_path / "config").mkdir()
    for path in (ROOT / "config").glob("*.yaml"):
        (tmp_path / "config" / path.name).write_bytes(path.read_bytes())

    class LaunchConfiguration(Recorded):
        def perform(self, context):
            return context.launch_configurations[self.arguments[0]]

    modules = {
        "ament_index_python.packages": {"get_package_share_directory": lambda name: str(tmp_path)},
        "launch": dict.fromkeys(("LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"), Recorded),
        "launch.actions": dict.fromkeys(("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "Shutdown"), Recorded),
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"LifecycleNode": type("LifecycleNode", (Recorded,), {})},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "vis_ros.launching", raising=False)

    def describe(file, **given):
        description = runpy.run_path(str(ROOT / "launch" / file))["generate_launch_description"]()
        *declared, started = description.arguments[0]
        configurations = {x.arguments[0]: x.keywords["default_value"] for x in declared} | given
        context = types.SimpleNamespace(environment={}, launch_configurations=configurations)
        found = started.keywords["function"](context, *started.keywords["args"])
        return configurations, [x.keywords for x in found if type(x).__name__ == "LifecycleNode"]

    yield describe
    monkeypatch.delitem(sys.modules, "vis_ros.launching", raising=False)
