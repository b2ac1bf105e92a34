"""include/vis_ros/mask_decoder.hpp: what a C++ subscriber decodes is what Python packed."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vis_core import masks

ROOT = Path(__file__).resolve().parents[2]
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror", "-O1"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
UNTOUCHED, PADDING = 7, 3

Case = tuple[int, int, tuple[int, int, int, int], Sequence[int]]
"""Height and width of the image, box x, y, width, height, runs."""


def compiler() -> str:
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("needs a C++ compiler")
    return found


def sanitizers(folder: Path) -> list[str]:
    """The sanitizers, where compiler and system have them."""
    source, program = folder / "probe.cpp", folder / "probe"
    source.write_text("int main() { return 0; }\n")
    built = subprocess.run([compiler(), *SANITIZERS, source, "-o", program], capture_output=True)
    return SANITIZERS if built.returncode == 0 and subprocess.run([program]).returncode == 0 else []


def build(program: Path, *flags: str | Path) -> Path:
    source = Path(__file__).with_name("mask_decoder.cpp")
    command = [compiler(), *STRICT, "-I", ROOT / "include", *flags, source, "-o", program]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module")
def without_ros(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    return build(folder / "without_ros", *sanitizers(folder))


@pytest.fixture(scope="module")
def with_messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    included = Path(sys.prefix) / "include"
    if not (included / "vis_ros" / "vis_ros" / "msg" / "instance_track_array.hpp").is_file():
        pytest.skip(f"needs the generated C++ messages under {included} ('make' builds them)")
    flags: list[str | Path] = ["-DWITH_MESSAGES"]
    for folder in sorted(included.iterdir()):
        flags += ["-isystem", folder]  # headers that are not ours may warn
    folder = tmp_path_factory.mktemp("decoder")
    return build(folder / "with_messages", *flags, *sanitizers(folder))


@pytest.fixture(params=["without_ros", "with_messages"])
def decode(request: pytest.FixtureRequest) -> Callable[[Sequence[Case]], list[npt.NDArray[np.uint8] | None]]:
    program = request.getfixturevalue(request.param)
    return lambda cases: run(program, cases)


def run(program: Path, cases: Sequence[Case]) -> list[npt.NDArray[np.uint8] | None]:
    """The masks that the program decodes, uint8 [H, W]; None where it refuses."""
    questions = b"".join(
        struct.pack(f"<{7 + len(runs)}I", height, width, *box, len(runs), *runs) for height, width, box, runs in cases
    )
    done = subprocess.run([program], input=questions, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    answers: list[npt.NDArray[np.uint8] | None] = []
    rest = memoryview(done.stdout)
    for height, width, _, _ in cases:
        refused, rest = rest[0], rest[1:]
        if refused:
            answers.append(None)
            continue
        area, padded_area = height * width, height * (width + PADDING)
        decoded = np.frombuffer(rest[:area], np.uint8).reshape(height, width)
        painted = np.frombuffer(rest[area : 2 * area], np.uint8).reshape(height, width)
        end = 2 * area + 2 * padded_area
        padded = np.frombuffer(rest[2 * area : end], np.uint16).reshape(height, width + PADDING)
        rest = rest[end:]
        np.testing.assert_array_equal(painted, decoded)  # each pixel visited once
        np.testing.assert_array_equal(padded[:, :width], np.where(decoded, 1000, UNTOUCHED))
        assert (padded[:, width:] == UNTOUCHED).all()
        answers.append(decoded)
    assert not rest
    return answers


def random_masks(count: int) -> list[npt.NDArray[np.bool_]]:
    random = np.random.default_rng(20)
    found = []
    for index in range(count):
        height, width = random.integers(1, 40, 2)
        mask = random.random((height, width)) < random.choice([0.02, 0.3, 0.7, 0.98])
        if index % 3 == 0:  # stretches over several rows
            mask = np.repeat(mask, 4, axis=0)
        found.append(mask)
    return found


def edge_masks() -> list[npt.NDArray[np.bool_]]:
    single = np.zeros((6, 9), bool)
    single[5, 8] = True
    corner = np.zeros((6, 9), bool)
    corner[0, 0] = True
    columns = np.zeros((6, 9), bool)
    columns[:, ::2] = True
    return [
        np.zeros((6, 9), bool),
        np.ones((6, 9), bool),
        np.ones((1, 1), bool),
        np.ones((1, 50), bool),
        np.ones((50, 1), bool),
        single,
        corner,
        columns,
    ]


def test_cpp_decodes_what_python_packs(decode):
    dense = edge_masks() + random_masks(400)
    cases = []
    for mask in dense:
        packed = masks.encode(mask)
        cases.append((*mask.shape, packed.box, packed.runs.tolist()))
    answers = decode(cases)
    for mask, answer in zip(dense, answers):
        np.testing.assert_array_equal(answer, mask)


HIGHEST = 2**32 - 1


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((4, 5, (0, 0, 2, 2), [0, 3]), id="runs sum to less than the roi"),
        pytest.param((4, 5, (0, 0, 2, 2), [0, 5]), id="runs sum to more than the roi"),
        pytest.param((4, 5, (4, 0, 2, 2), []), id="no runs, and a roi that leaves the image"),
        pytest.param((4, 5, (0, 0, 0, 0), [0, 1]), id="runs without a roi"),
        pytest.param((4, 5, (0, 0, 2, 2), [0, 2**31, 2**31, 4]), id="runs that overflow 32 bit to the right sum"),
        pytest.param((4, 5, (4, 0, 2, 2), [0, 4]), id="roi leaves the image to the right"),
        pytest.param((4, 5, (0, 3, 2, 2), [0, 4]), id="roi leaves the image below"),
        pytest.param((4, 5, (HIGHEST, HIGHEST, 2, 2), [0, 4]), id="roi that wraps around to the image"),
        pytest.param((4, 5, (0, 0, 2**16, 2**16), [0]), id="roi whose area overflows 32 bit to the right sum"),
        pytest.param((0, 0, (0, 0, 1, 1), [0, 1]), id="image without pixels"),
        pytest.param((HIGHEST, HIGHEST, (0, 0, 1, 1), [0, 1]), id="image of an absurd size"),
        pytest.param((4, 5, (0, 0, HIGHEST, HIGHEST), [HIGHEST] * 9), id="roi and runs as large as can be"),
    ],
)
def test_a_mask_that_contradicts_itself_or_its_image_is_refused(decode, case):
    good = (2, 2, (0, 0, 2, 1), [1, 1])
    refused, next_one = decode([case, good])
    assert refused is None
    np.testing.assert_array_equal(next_one, [[0, 1], [0, 0]])


def test_no_runs_are_an_empty_mask_whatever_the_roi_as_of_a_lost_track(decode):
    nothing, expected = decode([(4, 5, (0, 0, 0, 0), []), (4, 5, (1, 1, 3, 2), [])])
    assert nothing.shape == expected.shape == (4, 5)
    assert not nothing.any() and not expected.any()


def test_runs_of_no_pixels_and_boxes_without_area_are_empty_or_harmless(decode):
    nothing, flat, mixed = decode(
        [(3, 3, (3, 3, 0, 0), [0, 0, 0]), (3, 3, (0, 0, 3, 0), [0]), (1, 3, (0, 0, 3, 1), [0, 1, 0, 1, 1, 0, 0])]
    )
    assert not nothing.any()
    assert not flat.any()
    np.testing.assert_array_equal(mixed, [[1, 1, 0]])
