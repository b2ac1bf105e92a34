"""Inputs answered on a Ray cluster: an actor for each that is at work, whose results come back by the object store.

Nodes need this package in the version that is here, and no common file system: what they do not find as it is here,
inputs, weights and ground truth, is sent to them. An answer takes its place here when all of it has come, so that
nothing is lost or done twice when a node dies: what it was at work on is placed anew, when Ray says that it has died.
"""

from __future__ import annotations

import io
import socket
import sys
import tempfile
import time
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import vis_core
from vis_core.commands.fleet_processes import Answer, Process, Work, scratch
from vis_core.commands.fleet_records import fingerprint
from vis_core.commands.terminal import say
from vis_core.errors import InputError, MissingDependencyError, OptionError
from vis_core.files.outputs import output_folder

if TYPE_CHECKING:
    from vis_core.commands.fleet import Fleet

_TRIES = 3
_TICK, _AGAIN, _KNOCKS = 0.5, 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Returned:
    """What a worker gives back.

    Attributes:
        answer: of the command; None: it needs files that are not there.
        missing: their paths.
        log: all that the command said.
        results: what it wrote, packed.
    """

    answer: Answer | None
    missing: tuple[str, ...] = ()
    log: str = ""
    results: bytes = b""


class Worker:
    """An actor: answers one input after the other, each by the command in a process of its own."""

    def __init__(self) -> None:
        self._last: tuple[int, Returned] | None = None

    def version(self) -> str:
        """Of the package there."""
        return vis_core.__version__

    def run(
        self,
        number: int,
        command: Sequence[str],
        files: Mapping[str, str],
        sent: Sequence[str],
        threads: int,
        *packed: bytes,
    ) -> Returned:
        """Answer an input; asked again for the last one, what came of it.

        Args:
            number: of the input.
            command: as of `Work`; its results are to go to the folder that stands after ``--out``.
            files: fingerprint of each file and folder that the command names.
            sent: paths of those that are sent.
            threads: of the process.
            packed: what is sent.
        """
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        missing = tuple(path for path, mark in files.items() if path not in sent and fingerprint(path) != mark)
        if missing:
            return Returned(None, missing)
        with scratch() as name:
            out, log, words = Path(name, "out"), Path(name, "log.txt"), [sys.executable, *command[1:]]
            for i, (path, content) in enumerate(zip(sent, packed, strict=True)):
                local = str(_unpacked(content, Path(name, str(i))))
                words = [local if word == path else word for word in words]
            place = words.index("--out") + 1
            words[place] = str(out)
            process = Process(words, log, threads)
            try:
                answer = process.wait()
            finally:
                process.end()
            answer = replace(answer, message=answer.message.replace(name, ""))
            returned = Returned(answer, (), log.read_text("utf-8", "replace"), _packed(out) if out.exists() else b"")
        self._last = number, returned
        return returned


class Cluster:
    """A Ray cluster.

    Args:
        address: of its head, or ``auto``.
        fleet: whose inputs it answers.
        jobs: how many at a time; None: one a CPU.
        count: how many there are.

    Raises:
        MissingDependencyError: Ray is not installed.
        InputError: there is no such cluster.
    """

    def __init__(self, address: str, fleet: Fleet, jobs: int | None, count: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(f"--ray needs Ray: pip install 'vis_ros[ray]' ({error})") from None
        self._ray, self._fleet = ray, fleet
        try:
            _knock(address)
            ray.init(address, log_to_driver=False, logging_level="ERROR", namespace="vis")
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--ray {address}: no cluster there that lets us in: {error}; 'ray start --head' begins one, and its "
                "token ('ray get-auth-token') must be the one here"
            ) from None
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        cpus = [number for number in cpus if number]
        if not cpus:
            ray.shutdown()
            raise InputError(f"--ray {address}: no node of the cluster has a CPU to give")
        self.jobs = max(1, min(jobs or sum(cpus), count))
        self.threads = fleet.threads or max(1, min(min(cpus), sum(cpus) // self.jobs))
        say(f"Ray: {len(cpus)} nodes, {sum(cpus)} CPUs; {self.jobs} inputs at a time, {self.threads} threads each")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ray.shutdown()

    def run(
        self,
        works: Sequence[Work],
        count: int,
        threads: int,
        received: Sequence[int],
        on_end: Callable[[Work, Answer], None],
    ) -> None:
        """As `run_here`; a signal ends all that is at work."""
        _Round(self._ray, self._fleet, works, threads, on_end).run(count, received)


class _Round:
    """The workers, and what each is at work on."""

    def __init__(
        self, ray: Any, fleet: Fleet, works: Sequence[Work], threads: int, on_end: Callable[[Work, Answer], None]
    ) -> None:
        self._ray, self._fleet, self._works, self._threads, self._on_end = ray, fleet, works, threads, on_end
        self._waiting = deque(range(len(works)))
        self._tries = Counter[int]()
        self._asked: dict[Any, tuple[Any, int | None]] = {}
        self._sent: dict[int, tuple[str, ...]] = {}
        self._shared = cache(lambda path: ray.put(_packed(Path(path))))

    def run(self, count: int, received: Sequence[int]) -> None:
        """Until all inputs have ended, or a signal comes."""
        for _ in range(count):
            self._begin_worker()
        while self._asked and not received:
            for done in self._ray.wait(list(self._asked), timeout=_TICK)[0]:
                self._take(done)
            if not self._waiting and all(number is None for _, number in self._asked.values()):
                return  # workers that are not placed yet have nothing to do
        for worker, _ in self._asked.values():
            self._ray.kill(worker)

    def _begin_worker(self) -> None:
        worker = self._ray.remote(Worker).options(num_cpus=self._threads, max_restarts=0).remote()
        self._asked[worker.version.remote()] = worker, None

    def _take(self, done: Any) -> None:
        worker, number = self._asked.pop(done)
        try:
            found = self._ray.get(done)
        except self._ray.exceptions.ActorUnavailableError:
            # Its node may be dead, or out of reach for a while: it is asked again, and answers what it has done.
            time.sleep(_AGAIN)
            self._ask(worker, number)
            return
        except (self._ray.exceptions.ActorDiedError, self._ray.exceptions.ObjectLostError) as error:
            self._place_anew(number, error)
            return
        if number is None and found != vis_core.__version__:
            raise OptionError(
                f"--ray: a node has vis_core {found}, and here is {vis_core.__version__}; install the same on all"
            )
        if number is not None:
            if found.answer is None:
                self._sent[number] = (*self._sent.get(number, ()), *found.missing)
                self._ask(worker, number)
                return
            self._end(number, found)
        if self._waiting:  # else nobody holds the worker any longer, and Ray takes it and its CPUs back
            self._ask(worker, self._waiting.popleft())

    def _place_anew(self, number: int | None, error: Exception) -> None:
        if number is not None:
            self._sent.pop(number, None)
            self._tries[number] += 1
            if self._tries[number] < _TRIES:
                say(f"{self._works[number].source}: its worker died; placed anew")
                self._waiting.appendleft(number)
            else:
                first = str(error).strip().splitlines()[0]
                self._on_end(self._works[number], Answer(1, f"{_TRIES} workers died at it: {first}"))
        self._begin_worker()

    def _ask(self, worker: Any, number: int | None) -> None:
        if number is None:
            self._asked[worker.version.remote()] = worker, None
            return
        work = self._works[number]
        source = str(Path(work.source).absolute())
        absolute = {path: str(Path(path).absolute()) for path in self._fleet.asked.files}
        command = [*(absolute.get(word, word) for word in work.command[:-1]), source]
        files = {path: fingerprint(path) for path in (*absolute.values(), source)}
        sent = self._sent.get(number, ())
        packed = [self._ray.put(_packed(Path(path))) if path == source else self._shared(path) for path in sent]
        asked = worker.run.remote(number, command, files, sent, self._threads, *packed)
        self._asked[asked] = worker, number

    def _end(self, number: int, found: Returned) -> None:
        """Let what came take its place."""
        work, answer = self._works[number], found.answer
        assert answer is not None
        work.log.write_text(found.log, "utf-8")
        if answer.code == 0:
            force = self._fleet.force or self._fleet.resume
            try:
                with output_folder(work.folder, "fleet", self._fleet.patterns, force=force, tell=say) as folder:
                    _unpack(found.results, folder.path)
            except (InputError, OptionError) as error:
                answer = Answer(2, str(error))
        self._on_end(work, answer)


def _knock(address: str) -> None:
    """See whether anybody is at an address, after which Ray asks for minutes.

    Raises:
        OSError: nobody is.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCKS).close()


def _packed(path: Path) -> bytes:
    """A file, or a folder with all that does not begin with a dot, as one piece."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(path if path.is_dir() else path.parent)
            if not any(part.startswith(".") for part in name.parts):
                archive.write(file, path.name / name if path.is_dir() else name, zipfile.ZIP_STORED)
    return buffer.getvalue()


def _unpacked(content: bytes, folder: Path) -> Path:
    """What was packed, in a folder; its path there."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)  # names that lead elsewhere are mended by it
    (only,) = folder.iterdir()
    return only


def _unpack(results: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".vis-fleet-", dir=folder) as name:
        for path in sorted(_unpacked(results, Path(name)).iterdir()):
            path.replace(folder / path.name)
