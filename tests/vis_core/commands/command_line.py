"""Running ``vis`` with a catalogue that holds a fake system, for tests of its commands."""

from __future__ import annotations

import json
import os
import sys

import cv2
import numpy as np
import pytest

import vis_core
from tests.vis_core.fake_system import catalog
from vis_core.commands import main as cli
from vis_core.commands import terminal


def bright_square(at, size=(48, 64)):
    image = np.zeros((*size, 3), np.uint8)
    if at is not None:
        image[10:30, at : at + 12] = 255
    return image


def write_frames(folder, count, dark=()):
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:05d}.png"), bright_square(None if i in dark else 2 * i))
    return folder


def run(monkeypatch, segmenter, *arguments, code=0, options=()):
    """Run ``vis`` with the fake catalogue, its system with more options; returns the module that stands for it."""
    fake = catalog(segmenter)
    fake.find("fake").options.update(options)
    monkeypatch.setitem(sys.modules, "vis_core.catalog", fake)
    monkeypatch.setattr(vis_core, "catalog", fake, raising=False)
    monkeypatch.setattr(sys, "argv", ["vis", *map(str, arguments)])
    monkeypatch.setattr("warnings.showwarning", terminal.show_warning)
    for name in ("OMP_WAIT_POLICY", "OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, "x"))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert (caught.value.code or 0) == code
    return fake


def read_results(folder):
    return json.loads((folder / "results.json").read_text())


def segment(source, out, *more):
    return ("segment", source, "--system", "fake", "--out", out, *more)
