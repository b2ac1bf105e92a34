"""What several cameras cost in one node, which share its network, against as many nodes with one camera each.

    python benchmarks/cameras.py vtest.avi
    python benchmarks/cameras.py --quick

Real nodes, each in a process of its own. Every camera has two images under way at any time, so that the nodes are never
idle and no image is dropped. Memory is that of the nodes' processes together after the last answer, what they share of
it, such as the libraries, counted once (PSS). The first answers of each camera are not timed. On a machine that others
use too, more processes get more of it: there CPU seconds an answer compare, and answers a second do not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

from conditions import QUICK, cpu_name, first_frames, tell
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZE = (360, 640)
UNDER_WAY = 2
WARMING = 4
PATIENCE_SECONDS = 120.0
MEMORY_LIMIT, ANSWERS_LIMIT = 0.5, 1.2


@dataclass
class Eye:
    """One camera: publishes the next image when an answer has come, and keeps the answers.

    Args:
        session: in whose namespace it publishes.
        name: before its topics; empty: they have none.
        frames: that it shows, one after the other, from the start again after the last.
        changed: told of every answer.
    """

    session: Any
    name: str
    frames: Sequence[Any]
    changed: Condition
    answers: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    sent: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image

        from vis_ros.msg import InstanceTrackArray

        before = f"{self.name}/" if self.name else ""
        self._publisher = self.session.node.create_publisher(Image, f"{before}image", QoSProfile(depth=10))
        self.session.node.create_subscription(InstanceTrackArray, f"{before}instances", self._take, 10)

    def heard(self) -> bool:
        """Whether a node listens."""
        return bool(self._publisher.get_subscription_count())

    def send(self) -> None:
        """The next image, if there is one more to send."""
        from std_msgs.msg import Header

        from vis_ros import messages

        if self.sent < self.total:
            self.sent += 1
            header = Header(frame_id="camera", stamp=messages.to_stamp(self.sent * 100_000_000))
            image = self.frames[self.sent % len(self.frames)].image
            self._publisher.publish(messages.rgb_message(image, header))

    def _take(self, message: Any) -> None:
        self.send()
        with self.changed:
            self.answers.append([(t.roi, list(t.runs), t.score, t.state) for t in message.tracks])
            self.times.append(time.perf_counter())
            self.changed.notify()


@dataclass(frozen=True)
class Outcome:
    """Of one arrangement: answers a second of all cameras, CPU seconds of one, MiB of all nodes, answers by camera."""

    rate: float
    cpu: float
    memory: float
    answers: list[list[Any]]


@contextmanager
def nodes(cameras: int, one: bool, options: argparse.Namespace, changed: Condition) -> Iterator[tuple[Any, list[Eye]]]:
    """The processes, and the cameras before them: one node for all, or a node for each."""
    from vis_ros.recordings.node_process import NodeProcess
    from vis_ros.recordings.session import Session, free_domain

    names = [f"camera{i}" for i in range(cameras)]
    frames = first_frames(options.video, options.frames, SIZE)
    shown = [[*frames[7 * i % len(frames) :], *frames[: 7 * i % len(frames)]] for i in range(cameras)]
    parameters = {
        "system": options.system,
        "weights": "" if options.weights is None else str(options.weights),
        "device": "cpu",
        "drop_policy": "every_frame",
        "cameras": ",".join(names) if one else "",
    }
    with ExitStack() as stack:
        domain = stack.enter_context(free_domain())
        places = ["/together"] if one else [f"/{name}" for name in names]
        sessions = [stack.enter_context(Session(domain, place)) for place in places]
        eyes = [Eye(sessions[0 if one else i], names[i] if one else "", shown[i], changed) for i in range(cameras)]
        processes = [stack.enter_context(NodeProcess(session, parameters)) for session in sessions]
        for process in processes:
            process.configure()
            process.activate()
        yield processes, eyes


def measure(cameras: int, one: bool, options: argparse.Namespace) -> Outcome:
    """Run one arrangement."""
    changed = Condition()
    with nodes(cameras, one, options, changed) as (processes, eyes):
        wait(changed, lambda: all(eye.heard() for eye in eyes), processes)
        cpu = sum(cpu_seconds(process.pid) for process in processes)
        for eye in eyes:
            eye.total = WARMING + options.frames
            for _ in range(UNDER_WAY):
                eye.send()
        wait(changed, lambda: all(len(eye.answers) == eye.total for eye in eyes), processes)
        cpu = sum(cpu_seconds(process.pid) for process in processes) - cpu
        memory = sum(proportional_memory(process.pid) for process in processes)
        begun = max(eye.times[WARMING - 1] for eye in eyes)
        ended = min(eye.times[-1] for eye in eyes)  # while all of them are busy
        count = sum(begun < at <= ended for eye in eyes for at in eye.times)
        cpu /= sum(len(eye.answers) for eye in eyes)
        return Outcome(count / (ended - begun), cpu, memory, [eye.answers for eye in eyes])


def wait(changed: Condition, holds: Any, processes: Sequence[Any]) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not: an image was lost, or nothing works.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    with changed:
        while not changed.wait_for(holds, 0.5):
            for process in processes:
                process.check()
            if time.monotonic() > end:
                raise TimeoutError(f"not every image was answered in {PATIENCE_SECONDS:.0f} s")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has taken, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def proportional_memory(pid: int) -> float:
    """MiB of a process, what it shares with others divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{pid}/smaps_rollup tells no Pss")


def main() -> None:
    """Measure, print a table, and fail where a goal is not reached or an answer is another one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, nargs="?", help="file or folder of images; default: noise")
    parser.add_argument("--system", default="visolo-lite")
    parser.add_argument("--weights", type=Path, help="default: the system's own, else random ones")
    parser.add_argument("--frames", type=int, default=100, help="of each camera")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--quick", action="store_true", help=QUICK)
    options = parser.parse_args()
    if options.quick:
        options.cameras, options.frames = [2], 10  # and no goal
    table = Table(
        *("cameras", "in", "MiB", "answers/s", "CPU s an answer", "answers"),
        title=f"{options.system}, {SIZE[1]}x{SIZE[0]}, {options.frames} frames a camera; {cpu_name()}, "
        f"{len(os.sched_getaffinity(0))} cores",
    )
    missed = []
    for count in options.cameras:
        together = measure(count, True, options)
        tell(f"{count} cameras in one node: {together.rate:.2f} answers/s")
        apart = measure(count, False, options)
        tell(f"{count} cameras in {count} nodes: {apart.rate:.2f} answers/s")
        memory, rate = together.memory / apart.memory, together.rate / apart.rate
        equal = together.answers == apart.answers
        shown = sum(bool(runs) for camera in together.answers for tracks in camera for _, runs, *_ in tracks)
        for name, outcome in (("one node", together), (f"{count} nodes", apart)):
            figures = (f"{outcome.memory:.0f}", f"{outcome.rate:.2f}", f"{outcome.cpu:.3f}")
            table.add_row(f"{count}", name, *figures, f"{shown} masks")
        ratios = (f"{memory:.2f}x", f"{rate:.2f}x", f"{together.cpu / apart.cpu:.2f}x")
        table.add_row("", "one to all", *ratios, "equal" if equal else "DIFFERENT", end_section=True)
        if not equal:
            missed.append(f"answers of {count} cameras differ")
        if count == 4 and memory > MEMORY_LIMIT:
            missed.append(f"memory with 4 cameras is {memory:.2f}x, goal {MEMORY_LIMIT}x")
        if count > 1 and rate < ANSWERS_LIMIT and not options.quick:
            missed.append(f"answers a second with {count} cameras are {rate:.2f}x, goal {ANSWERS_LIMIT}x")
    Console(width=140).print(table)
    print("; ".join(missed) or ("answers are equal; no goal is judged" if options.quick else "goals kept"))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
