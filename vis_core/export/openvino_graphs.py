"""Pieces of a network as OpenVINO's graphs, and the folder that holds them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vis_core.errors import MissingDependencyError
from vis_core.files.atomic import errors_name
from vis_core.system.exported import ABOUT_FILE


def converted(model: Any) -> Any:
    """The `openvino.Model` of an ONNX one.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError("openvino is needed for this: pip install 'vis_ros[openvino]'") from error
    return openvino.Core().read_model(model.SerializeToString())


def write_openvino(folder: Path, models: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write graphs as a folder: ``NAME.xml`` and ``NAME.bin`` of each, and what is stated; one that is there goes.

    Raises:
        OSError: it cannot be written.
    """
    import openvino

    partial = folder.with_name(f".{folder.name}.part")
    with errors_name(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            for name, model in models.items():
                openvino.save_model(model, partial / f"{name}.xml", compress_to_fp16=False)
            (partial / ABOUT_FILE).write_text(json.dumps(about, indent=1), "utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
