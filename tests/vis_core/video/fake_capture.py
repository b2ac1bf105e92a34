"""A camera for tests, in place of ``cv2.VideoCapture``."""

from __future__ import annotations

import cv2

from tests.vis_core.video.image_files import picture


class FakeCapture:
    """Stands for a camera that gives three pictures and is then unplugged."""

    def __init__(self, device):
        self.device, self.left, self.released = device, 4, False

    def isOpened(self):
        return self.device != 9

    def set(self, *_):
        return True

    def get(self, what):
        return 30.0 if what == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        self.left -= 1
        return (True, picture(self.left)) if self.left >= 0 else (False, None)

    def release(self):
        self.released = True
