"""An exported network from its file: what that states, and its graphs, ready to run; nothing here needs PyTorch."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vis_core.errors import CheckpointError, OptionError, printable
from vis_core.nn.concurrency import thread_count
from vis_core.nn.runtimes import PRECISIONS, Run, onnx_session, openvino_model

FORMAT = "vis-export-1"
ABOUT, GRAPH_KEY = "vis_export", "vis_graph:"
"""Keys of an ONNX file's metadata: the JSON of what is stated, and each further graph, in base64."""
ABOUT_FILE = "about.json"
_STATED: Mapping[str, Callable[[Any], bool]] = {
    "system": lambda x: isinstance(x, str),
    "class_names": lambda x: isinstance(x, list) and all(isinstance(name, str) for name in x),
    "options": lambda x: isinstance(x, dict),
    "precision": lambda x: x in PRECISIONS,
    "weights": lambda x: x is None or isinstance(x, dict),
    "weights_metadata": lambda x: isinstance(x, dict),
    "graphs": lambda x: isinstance(x, dict) and len(x) > 0 and all(_is_graph(*row) for row in x.items()),
}


@dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """An exported network, ready to run.

    Attributes:
        path: of the file or folder.
        about: what it states: system, class names, options, precision, shapes of the weights, source, versions, proof.
        runs: of each graph, on arrays.
    """

    path: Path
    about: Mapping[str, Any]
    runs: Mapping[str, Run]

    @property
    def runs_on(self) -> dict[str, str]:
        """Device and precision, for diagnostics."""
        devices = {run.device for run in self.runs.values()}
        return {"device": ", ".join(sorted(devices)), "precision": self.about["precision"]}

    def options(self, system: str, precision: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are given and those that are part of the graphs.

        Raises:
            CheckpointError: it is of another system.
            OptionError: a given option, or precision, contradicts what it was made with.
        """
        if self.about["system"] != system:
            raise CheckpointError(
                f"{self.path}: is an exported {printable(self.about['system'], 60)!r}, not {system!r}"
            )
        own = self.about["precision"]
        if precision not in ("auto", own):
            raise OptionError(
                f"precision {precision!r}: {self.path} was exported with {own}; export it anew, or use auto"
            )
        for name, value in self.about["options"].items():
            if name in given and json.loads(json.dumps(given[name])) != value:
                raise OptionError(
                    f"{system}: {name}={given[name]}: {self.path} was exported with {name}={value}, which is part of "
                    "its graphs; leave the option out, or export anew"
                )
        fixed = {name: tuple(x) if isinstance(x, list) else x for name, x in self.about["options"].items()}
        return {**given, **fixed}


def read(path: str | Path, device: str) -> ExportedNetwork:
    """An exported network from its file.

    Args:
        path: ``.onnx``, or a folder ``..._openvino_model``.
        device: see `vis_core.nn.runtimes`.

    Raises:
        CheckpointError: it is none of ours, or of another version.
        MissingDependencyError: the runtime is not installed.
        OptionError: the runtime has no such device.
    """
    path, threads = Path(path), thread_count()
    if path.suffix == ".onnx":
        session = onnx_session(path, device, threads)
        metadata = session.metadata()
        about = _about(path, metadata.get(ABOUT))
        first, *others = about["graphs"]
        runs: dict[str, Run] = {first: session}
        for name in others:
            if (content := metadata.get(GRAPH_KEY + name)) is None:
                raise CheckpointError(f"{path}: graph {name!r} is missing; export it anew")
            try:
                graph = base64.b64decode(content, validate=True)
            except ValueError as error:
                raise CheckpointError(f"{path}: graph {name!r}: {printable(error)}") from error
            runs[name] = onnx_session(graph, device, threads)
    else:
        try:
            text = (path / ABOUT_FILE).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text in UTF-8"
            raise CheckpointError(f"{path}: no exported network: {ABOUT_FILE}: {reason}") from error
        about = _about(path, text)
        runs = {
            name: openvino_model(path / f"{name}.xml", device, threads, graph["precision"])
            for name, graph in about["graphs"].items()
        }
    for name, graph in about["graphs"].items():
        for what in ("inputs", "outputs"):
            if (found := list(getattr(runs[name], what))) != graph[what]:
                raise CheckpointError(f"{path}: graph {name!r} has {what} {found}, and states {graph[what]}")
    return ExportedNetwork(path, about, runs)


def _is_graph(name: str, stated: Any) -> bool:
    return (
        name.isidentifier()
        and isinstance(stated, dict)
        and all(isinstance(stated.get(what), list) for what in ("inputs", "outputs"))
        and stated.get("precision") in PRECISIONS
    )


def _about(path: Path, text: str | None) -> dict[str, Any]:
    """What an exported network states, of a form that can be read."""
    if text is None:
        raise CheckpointError(f"{path}: was not written by 'vis export', which also states what a network is")
    try:
        about = json.loads(text)
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: format {printable(about.get('format'), 60)!r} is not {FORMAT!r}, which this version reads"
            )
        for key, fits in _STATED.items():
            if not fits(about[key]):
                raise ValueError(f"{key}: {printable(about[key], 100)}")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: what it states of itself cannot be read: {printable(error)}") from error
    return about  # type: ignore[no-any-return]
