"""Writing the panoptic images of a video, one PNG a frame: things over a map of all classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.atomic import atomic_write
from vis_core.files.panoptic_images import MAX_NUMBER, encode_panoptic
from vis_core.structures import Instances


class PanopticWriter:
    """Writes ``FOLDER/VIDEO/INDEX.png`` in KITTI-STEP's form: red is the class, green and blue are the track id.

    Pixels of a track have its label's class and its id; where masks overlap, the better score has the pixel. All other
    pixels have the class of the map and number 0, those of things among them that no track has.

    Args:
        folder: of all videos.
        video: name of the video.
        thing_classes: of each label, its class in the images.
    """

    def __init__(self, folder: Path, video: str, thing_classes: Sequence[int]) -> None:
        self.folder = folder / video
        self._thing_classes = np.array(thing_classes, np.uint8)

    def add(self, index: int, semantic: npt.NDArray[np.uint8], instances: Instances) -> Path:
        """Write the image of a frame, whole or not at all; returns its path.

        Args:
            index: of the frame.
            semantic: class of each pixel, uint8 ``[H, W]``; 255: none.
            instances: of the frame.

        Raises:
            InputError: the map is not of the frame's size, or a track id or a label does not fit.
            OSError: the file cannot be written.
        """
        path = self.folder / f"{index:06d}.png"
        if semantic.shape != instances.size or semantic.dtype != np.uint8:
            found, wanted = f"{semantic.dtype} {semantic.shape}", f"uint8 {instances.size}"
            raise InputError(f"{path}: the map of classes is {found}, but the frame's is {wanted}")
        shown = instances[instances.visible]
        for name, values, end in (
            ("track id", shown.track_ids, MAX_NUMBER + 1),
            ("label", shown.labels, len(self._thing_classes)),
        ):
            least = 1 if name == "track id" else 0
            wrong = values[(values < least) | (values >= end)]
            if len(wrong):
                raise InputError(f"{path}: {name} {wrong[0]} is not between {least} and {end - 1}")
        rows = shown.label_image()
        classes = np.concatenate(([0], self._thing_classes[shown.labels])).astype(np.uint8)[rows]
        numbers = np.concatenate(([0], shown.track_ids)).astype(np.uint16)[rows]
        png = encode_panoptic(np.where(rows > 0, classes, semantic), numbers)
        with atomic_write(path) as partial:
            partial.write_bytes(png)
        return path
