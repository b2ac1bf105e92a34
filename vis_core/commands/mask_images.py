"""The mask images of a video: track ids to compute with, or colours to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.atomic import atomic_write
from vis_core.structures import Instances
from vis_core.video.overlay import track_color

MaskKind = Literal["labels", "color"]


class MaskImages:
    """Writes a PNG a frame, under the name of its image or, of a video file, its number in six digits.

    ``labels``: 16 bits, 0 = background, else the track id. ``color``: RGB, black = background, else the colour that the
    track has in the overlay video. Where masks overlap the better score has the pixel.

    Args:
        folder: to write to.
        kind: which of the two.
        file_names: of the images, by frame; none for a video file.
    """

    def __init__(self, folder: Path, kind: MaskKind, file_names: Sequence[str] = ()) -> None:
        self.folder = folder
        self._kind = kind
        stems = [Path(name).stem for name in file_names]
        self._stems = stems if len(set(stems)) == len(stems) else []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, instances: Instances) -> None:
        """The image of one frame, whole or not at all.

        Raises:
            InputError: a track id does not fit.
            OSError: the file cannot be written.
        """
        stem = self._stems[instances.index] if self._stems else f"{instances.index:06d}"
        path = self.folder / f"{stem}.png"
        ids = np.concatenate(([0], instances.track_ids))
        if self._kind == "color":
            colors = [(0, 0, 0), *(track_color(int(number))[::-1] for number in ids[1:])]  # BGR, as OpenCV takes it
            values: npt.NDArray[Any] = np.array(colors, np.uint8)
        elif ids.max() > np.iinfo(np.uint16).max:
            raise InputError(f"{path}: track id {ids.max()} does not fit the 16 bits of a mask image")
        else:
            values = ids.astype(np.uint16)
        _, png = cv2.imencode(".png", values[instances.label_image()])
        with atomic_write(path) as partial:
            partial.write_bytes(png.tobytes())
