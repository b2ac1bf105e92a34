"""Folders of images for tests of what reads them."""

from __future__ import annotations

import struct
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


def exif_segment(orientation: int, order: str = "<") -> bytes:
    """A segment of a JPEG with one entry, the orientation."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    exif = b"Exif\0\0" + mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    return jpeg[:2] + exif_segment(orientation) + jpeg[2:]


def read_all(video):
    video.on_skip = lambda skipped: None
    return list(video)
