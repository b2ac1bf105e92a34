"""Ten thousand images through the real node, with what may happen to it in a long life, and an account of each.

    python -m tests.campaign.scenario [--images N]

Cameras end, and are killed; the node is killed and started again; sizes and encodings change, time jumps, images come
late or contradict themselves; of two recordings beside the node one finds no more room on its disk. Every image that
was published has to be answered or counted, no process may hold more at its end than after its first round, and nothing
may be left in shared memory. Prints a table; the exit code is 1 where anything was not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.campaign import bookkeeping
from tests.campaign.bookkeeping import Account, Observer
from tests.campaign.camera import CHANNELS
from vis_ros.recordings.node_process import NodeProcess
from vis_ros.recordings.session import Session, free_domain

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 10_000
ROUND = 400  # images
BURST = 40
ANSWER_SECONDS = 5.0  # an image that is not answered by then is not waited for
HELLO_SECONDS = 1.0  # nor one that may come before publisher and subscriber know of each other
END_SECONDS = 60.0
DISK_BYTES = 20_000
SIZES = ((24, 32), (48, 64), (24, 64), (120, 160))
MALFORMED: tuple[dict[str, Any], ...] = (
    {"changes": {"step": 1}},
    {"changes": {"encoding": "unheard\x1b[31m of\n"}},
    {"changes": {"height": 0}},
    {"changes": {"width": 2**31, "height": 2**31}},
    {"cut": 100},
)
RECORD = "from vis_ros.cli import main; main()"


class Camera:
    """A camera in a process of its own, told image by image what to publish."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.camera"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self._news = self._process.stdin, self._process.stdout
        assert self._news.readline() == "ready\n"
        self.pid = self._process.pid

    def order(self, image: dict[str, Any]) -> None:
        """Have an image published."""
        self._orders.write(json.dumps(image) + "\n")
        self._orders.flush()

    def wait(self, images: int = 1) -> None:
        """Until so many more are published."""
        for _ in range(images):
            assert self._news.readline() == "out\n"

    def end(self, kill: bool = False) -> int:
        """End the process in order, or not; returns how many images more it has published."""
        if kill:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._orders.close()
        published = self._news.read().count("out\n")
        self._news.close()
        self._process.wait(END_SECONDS)
        return published


class Campaign:
    """Cameras, nodes and recordings on one ROS domain.

    Args:
        images: to publish, about.
        domain: that nobody else uses; it is that of the environment.
        folder: for the recordings.

    Attributes:
        accounts: of the images.
        holdings: what processes held, as rows of a table.
        problems: what was not as it should be.
    """

    def __init__(self, images: int, domain: int, folder: Path) -> None:
        self._rounds = max(6, images // ROUND)
        self._images = images // self._rounds
        self._domain, self._folder = domain, folder
        self._random = random.Random(0)
        self._clock = 10**18
        self._serial = 0
        self._shape: tuple[tuple[int, int], str] = SIZES[0], "rgb8"
        self._camera: Camera | None = None
        self._cameras = 0
        self._before: dict[str, int] = {}
        self._segments: set[Path] = set()
        self._asked: set[int] = set()
        self._killed: list[tuple[Account, list[int]]] = []
        self.accounts: list[Account] = []
        self.holdings: list[list[str]] = []
        self.problems: list[str] = []

    def run(self) -> None:
        """Three nodes that are killed, and one that lives as long as they together."""
        with ExitStack() as at_end, Session(self._domain) as session:
            self._observer = Observer(session)
            recording, small = self._record("whole.jsonl"), self._record("small.jsonl", DISK_BYTES)
            for process in (recording, small):
                at_end.callback(process.kill)
            first: dict[str, int] = {}
            rounds = self._rounds // 6
            for life, last in enumerate((rounds, rounds, rounds, self._rounds - 3 * rounds)):
                self._live(f"node {life + 1}", last, "every_frame" if life % 2 else "latest", kill=life < 3)
                first = first or bookkeeping.footprint(recording.pid)
            self._compare("recording", first, bookkeeping.footprint(recording.pid))
            self._check_recordings(recording, small)
        self._check_answers()
        left = [str(path) for path in self._segments if path.exists()]
        self.holdings.append(["left at the end", "segments of shared memory", "0", f"{len(left)}"])
        self.problems += [f"{path} is left in shared memory" for path in left]

    # One node

    def _live(self, name: str, rounds: int, policy: str, kill: bool) -> None:
        parameters = {"system": "bright", "device": "cpu", "drop_policy": policy, "threads": 1}
        command = (sys.executable, "-m", "tests.campaign.node")
        # In a session of its own, which never knew the services of the node before.
        with Session(self._domain) as session, NodeProcess(session, parameters, command=command) as node:
            node.configure()
            node.activate()
            self._before = dict.fromkeys(bookkeeping.COUNTED, 0)
            first: dict[str, int] = {}
            for number in range(rounds):
                camera = self._camera = self._camera or self._begin_camera()
                self._play(Account(f"{name}, {camera.name}"), camera)
                held = bookkeeping.footprint(node.pid)
                first = first or held
                self._segments |= bookkeeping.segments_of(node.pid) | bookkeeping.segments_of(camera.pid)
                if number < rounds - 1:
                    self._end_camera(camera, kill=number % 2 == 0)
                elif kill:
                    self._kill_node(node, camera)
                else:
                    self._end_camera(camera)
                    node.deactivate()
            self._compare(name, first, held)

    def _kill_node(self, node: NodeProcess, camera: Camera) -> None:
        stamps = [self._order(camera) for _ in range(BURST)]
        at = self._random.randrange(BURST)
        camera.wait(at)
        os.kill(node.pid, signal.SIGKILL)
        camera.wait(BURST - at)
        node.ended.wait(END_SECONDS)
        self._killed.append((Account(f"{camera.name}, node killed", sent=BURST, at_stake=BURST), stamps))

    def _begin_camera(self) -> Camera:
        self._cameras += 1
        return Camera(f"camera {self._cameras}")

    def _end_camera(self, camera: Camera, kill: bool = False) -> None:
        self._camera = None
        if not kill:
            camera.end()
            return
        account = Account(f"{camera.name} killed", at_stake=BURST)
        for _ in range(BURST):
            self._order(camera)
        account.sent = self._random.randrange(BURST)
        camera.wait(account.sent)
        account.sent += camera.end(kill=True)
        self._settle(account, self._observer.settled())
        if account.open() == -1:  # it was published, and the camera killed before it said so
            account.sent += 1
        account.cut_off = account.open()

    def _settle(self, account: Account, counters: dict[str, int]) -> None:
        account.counted = {name: count - self._before[name] for name, count in counters.items()}
        self._before = counters
        print(f"{account.name}: {account.sent} images", file=sys.stderr, flush=True)
        self.accounts.append(account)

    # The images of a round

    def _play(self, account: Account, camera: Camera) -> None:
        self._account, self._in_turn = account, camera
        hellos: list[int] = []
        while not any(map(self._observer.has, hellos)):
            hellos.append(self._exchange(HELLO_SECONDS))
            if len(hellos) > 60:
                raise RuntimeError(
                    f"{account.name}: no image is answered: {self._observer.answers.total()} answers so far"
                )
        account.unheard = [self._observer.has(stamp) for stamp in hellos].index(True)
        phases: tuple[tuple[float, Callable[[], Any]], ...] = (
            (0.40, self._exchange),
            (0.10, self._send),
            (0.20, self._reshape),
            (0.08, self._come_late),
            (0.10, self._jump),
            (0.12, self._contradict),
        )
        for share, act in phases:
            for _ in range(round(share * self._images)):
                act()
        for _ in range(20):  # a later image shows by its number which ones did not come
            if self._observer.has(self._exchange()):
                break
        self._settle(account, self._observer.settled())
        # The observer may be known to the node later than the camera, and then misses the first answers.
        account.unheard -= min(max(-account.open(), 0), account.unheard)

    def _exchange(self, seconds: float = ANSWER_SECONDS) -> int:
        stamp = self._send()
        self._observer.hears(stamp, seconds)
        return stamp

    def _send(self, back: float = 0.0, **changes: Any) -> int:
        stamp = self._order(self._in_turn, back, **changes)
        self._in_turn.wait()
        self._account.sent += 1
        return stamp

    def _reshape(self) -> None:
        self._shape = self._random.choice(SIZES), self._random.choice(sorted(CHANNELS))
        self._exchange()

    def _come_late(self) -> None:
        if self._random.random() < 0.5:
            self._exchange()
        else:
            self._send(back=0.1)
            self._account.late += 1

    def _jump(self) -> None:
        if self._random.random() < 0.2:
            jump = self._random.choice((-1000, -1, 1, 1000))
            self._clock += jump * 10**9
            self._account.back += jump < 0
        self._exchange(HELLO_SECONDS)  # where time often jumps back, the first images after it count as late

    def _contradict(self) -> None:
        if self._random.random() < 0.5:
            self._exchange()
        else:
            self._send(**self._random.choice(MALFORMED))
            self._account.bad += 1

    def _order(self, camera: Camera, back: float = 0.0, cut: int = 0, changes: Any = None) -> int:
        """Order an image from a camera; returns its stamp, which no other image has."""
        self._serial += 1
        if not back:
            self._clock += 33_000_000
        stamp = self._clock - round(back * 1e9) + self._serial
        (size, encoding), changes = self._shape, changes or {}
        camera.order({"stamp": stamp, "size": size, "encoding": encoding, "cut": cut, "changes": changes})
        self._asked.add(stamp)
        return stamp

    # What is beside

    def _record(self, name: str, bytes_at_most: int = -1) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", RECORD, "record", str(self._folder / name), "--topic", "/vis/instances"]
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_at_most, bytes_at_most)),
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Recording"):
                break
        return process

    def _check_recordings(self, recording: subprocess.Popen[str], small: subprocess.Popen[str]) -> None:
        recording.send_signal(signal.SIGINT)
        for process, name, code, words in ((recording, "whole", 0, "messages"), (small, "small", 1, "so large")):
            told, _ = process.communicate(timeout=END_SECONDS)
            if process.returncode != code or words not in " ".join(told.split()):
                self.problems.append(f"{name}.jsonl: the recording ended with {process.returncode}: {told}")
            *lines, _ = (self._folder / f"{name}.jsonl").read_text().split("\n")
            stamps = [json.loads(line)["stamp"] for line in lines]
            if not stamps or len(set(stamps)) < len(stamps) or not set(stamps) <= self._asked:
                self.problems.append(f"{name}.jsonl: {len(stamps)} answers, {len(set(stamps))} of them different")
            self.holdings.append([f"{name}.jsonl", "answers", f"{len(self._observer.answers)}", f"{len(stamps)}"])
            if process is recording:
                self._show_absent(set(stamps), " ".join(told.split()))

    def _show_absent(self, recorded: set[int], told: str) -> None:
        """Shown and not judged: answers of a node that the recording had not found yet leave no gap in the numbers."""
        found = re.search(r"(\d+) messages were published and did not come", told)
        killed = {stamp for _, stamps in self._killed for stamp in stamps}
        absent = len(set(self._observer.answers) - recorded - killed)
        self.holdings.append(["whole.jsonl", "absent, and told so", f"{absent}", found[1] if found else "0"])

    def _check_answers(self) -> None:
        answers = self._observer.answers
        for account, stamps in self._killed:
            answered = sum(stamp in answers for stamp in stamps)
            account.counted = dict.fromkeys(bookkeeping.COUNTED, 0) | {"received": answered, "answered": answered}
            account.cut_off = account.open()
            self.accounts.append(account)
        for account in self.accounts:
            self.problems += account.problems()
        if strange := set(answers) - self._asked:
            self.problems.append(f"{len(strange)} answers to no image")
        if twice := [stamp for stamp, count in answers.items() if count > 1]:
            self.problems.append(f"{len(twice)} images were answered more than once")

    def _compare(self, name: str, before: dict[str, int], after: dict[str, int]) -> None:
        self.holdings += [[name, kind, f"{before[kind]}", f"{after[kind]}"] for kind in before]
        self.problems += bookkeeping.drifts(name, before, after)


def run(images: int) -> list[str]:
    """Run the campaign and print its tables; returns what was not as it should be."""
    with free_domain() as domain, tempfile.TemporaryDirectory() as folder:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        campaign = Campaign(images, domain, Path(folder))
        campaign.run()
    accounts = [*campaign.accounts, bookkeeping.total(campaign.accounts)]
    print(bookkeeping.table([bookkeeping.COLUMNS, *(account.row() for account in accounts)]))
    print()
    print(bookkeeping.table([["", "", "before", "after"], *campaign.holdings]))
    for problem in campaign.problems:
        print(f"not as promised: {problem}")
    return campaign.problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES, help="to publish, about (%(default)s)")
    sys.exit(bool(run(parser.parse_args().images)))
