"""Fixtures that tests share."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; see the README on threads
# Without it a field of the wrong type goes out as another value, in silence.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")

import json
import signal
import warnings
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pytest

from tests.ros_fixtures import context, described, make_stage

__all__ = ["context", "described", "make_stage"]

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The benchmarks come last: together they take as long as all other slow tests."""
    items.sort(key=lambda item: item.path.name == "test_benchmarks.py" and "slow" in item.keywords)


_unasked: list[str] = []


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    if Path(warning_message.filename).is_relative_to(ROOT) or issubclass(warning_message.category, UserWarning):
        _unasked.append(f"{nodeid}: {warning_message.category.__name__}: {warning_message.message}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A warning that no test asks for is a fault of ours, or becomes one."""
    if _unasked and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _unasked:
        terminalreporter.section("warnings that no test asks for: the run fails")
        terminalreporter.write_line("\n".join(_unasked))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded answers and data sets beside the repository; a test that needs it skips without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (recorded answers and data sets), which is absent here")
    return folder


@pytest.fixture(autouse=True)
def _signals_are_handled_as_before() -> Iterator[None]:
    """A command that a signal has ended leaves signals ignored, since its process ends; a test's does not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ros_domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain that nobody else uses, so that tests that run side by side never hear each other.

    It is that of the environment too, for processes that a test starts.
    """
    pytest.importorskip("rclpy", reason="needs ROS 2: 'make', or a sourced installation")
    from vis_ros.recordings.session import free_domain

    with free_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


@pytest.fixture(scope="session")
def fill():
    """Weights of a recorded case: arrays by published key, made from the rules that a manifest states."""
    return fill_manifest


def fill_manifest(manifest: Path) -> dict[str, np.ndarray]:
    """Arrays of a manifest: rows of key, shape and rule; the generator is seeded with the CRC-32 of the key."""
    arrays: dict[str, np.ndarray] = {}
    for row in json.loads(manifest.read_text()):
        key, shape, rule = row["key"], tuple(row["shape"]), row.get("rule", "normal")
        random = np.random.RandomState(zlib.crc32(key.encode()))
        if rule == "copy":
            values = arrays[row["of"]]
        elif rule == "normal":
            values = row.get("a", 0.02) * random.standard_normal(shape) + row.get("b", 0.0)
        elif rule == "fan_in":
            values = row.get("a", 1.0) * random.standard_normal(shape) / np.sqrt(max(prod(shape[1:]), 1))
        elif rule == "uniform":
            values = random.uniform(row.get("a", 0.5), row.get("b", 1.5), shape)
        elif rule == "constant":
            values = np.full(shape, row.get("a", 0.0))
        elif rule == "arange":
            values = np.arange(prod(shape))
        elif rule == "stored":
            values = np.load(manifest.with_name("stored.npz"))[key]
        else:
            raise ValueError(f"{manifest}: {key}: rule {rule!r} is unknown")
        dtype = row.get("dtype", "int64" if rule == "arange" else "float32")
        arrays[key] = np.asarray(values).astype(dtype).reshape(shape)
    return arrays


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch in one thread, as training steps were recorded: with two, single sums round otherwise on some CPUs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def narrow_visolo(tmp_path_factory) -> Path:
    """Weights of a VISOLO a quarter as wide as the published one: quick, and it finds several instances in noise."""
    import torch

    from vis_core.checkpoints import write_tensors
    from vis_core.models.visolo.network import VISOLONetwork

    random = torch.Generator().manual_seed(2)
    tensors = VISOLONetwork(50, classes=5, width=64).state_dict()
    for key, value in tensors.items():
        if value.dim() == 4:
            value.normal_(0, value[0].numel() ** -0.5, generator=random)
        elif key.endswith("norm.weight"):
            value.uniform_(0.5, 1.5, generator=random)
        elif not key.endswith("var"):
            value.normal_(0, 0.02, generator=random)
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    write_tensors(path, tensors, {"format": "vis_core 1", "system": "visolo"})
    return path
