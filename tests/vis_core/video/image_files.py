"""Folders of images for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def picture(value: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    rng = np.random.default_rng(value)
    return cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), dtype=np.uint8), (9, 9), 3)


def write_folder(folder: Path, count: int = 3, suffix: str = ".png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}{suffix}" for i in range(count)]
    for i, file in enumerate(files):
        cv2.imwrite(str(file), picture(i)[:, :, ::-1])
    return files


def read_all(video):
    video.on_skip = lambda skipped: None
    return list(video)
