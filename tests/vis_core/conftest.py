"""Recorded cases of the evaluation: ours first, the others from the shared folder beside the repository."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_REPOSITORY = Path(__file__).parents[2]
_FOLDERS = (
    _REPOSITORY / "tests" / "parity" / "cases" / "evaluation",
    _REPOSITORY.parent / "shared" / "parity" / "evaluation",
)


@dataclass(frozen=True)
class Case:
    folder: Path
    ground_truth: Any
    results: Any
    expected: dict[str, Any]
    headline: dict[str, Any]


def _read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else None


@pytest.fixture
def case_folder():
    def find(name: str) -> Path:
        for folder in _FOLDERS:
            if (folder / name).is_dir():
                return folder / name
        pytest.skip(f"{name} stands neither in {_FOLDERS[0]} nor in {_FOLDERS[1]}")

    return find


@pytest.fixture
def load_case(case_folder):
    def load(name: str) -> Case:
        folder = case_folder(name)
        expected = folder / "expected.npz"
        return Case(
            folder,
            _read(folder / "ground_truth.json.gz"),
            _read(folder / "results.json.gz"),
            dict(np.load(expected)) if expected.exists() else {},
            json.loads((folder / "case.json").read_text()),
        )

    return load


@pytest.fixture
def sound_pair(case_folder):
    """A sound ground truth and results: two videos of three frames at 40 x 60."""
    base = json.loads((case_folder("malformed") / "index.json").read_text())["base"]
    return base["ground_truth"], base["results"]
