"""A window that shows frames as they are answered: OpenCV's where it has one, else Tk's."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import MissingDependencyError, OptionError

Image = npt.NDArray[np.uint8]

_LARGEST = (1280, 800)  # width and height of what is shown: larger frames are made smaller
_STOP_KEYS = ("q", "Q", "Escape")


class Window(ABC):
    """A window on the screen.

    Attributes:
        closed: the user has closed it, or has pressed q or Escape in it; then nothing more is shown.
    """

    closed = False

    def show(self, image: Image) -> None:
        """Show a frame.

        Args:
            image: uint8 ``[H, W, 3]`` RGB.
        """
        if self.closed:
            return
        height, width = image.shape[:2]
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        if scale < 1:
            size = (max(round(scale * width), 1), max(round(scale * height), 1))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._show(image)

    @abstractmethod
    def _show(self, image: Image) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Take it from the screen. Closing again does nothing."""


def open_window(title: str) -> Window:
    """A window on the screen of this machine.

    Raises:
        OptionError: there is no screen that it could open on.
        MissingDependencyError: neither OpenCV nor Python can open windows here.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OptionError("--show: there is no display here (DISPLAY is not set); the overlay video shows the same")
    with suppress(cv2.error):
        return _OpenCVWindow(title)
    try:
        import tkinter
    except ImportError:
        raise MissingDependencyError(
            "--show: this OpenCV is built without windows (opencv-python-headless), and Python without Tk; install "
            "python3-tk, or opencv-python in place of opencv-python-headless"
        ) from None
    try:
        return _TkWindow(title)
    except tkinter.TclError as error:
        raise OptionError(f"--show: no window opens on DISPLAY={os.environ.get('DISPLAY', '')}: {error}") from None


class _OpenCVWindow(Window):
    def __init__(self, title: str) -> None:
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def _show(self, image: Image) -> None:
        cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        visible = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        if key in (ord("q"), ord("Q"), 27) or not visible:
            self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            with suppress(cv2.error):
                cv2.destroyWindow(self._title)


class _TkWindow(Window):
    def __init__(self, title: str) -> None:
        import tkinter

        self._root = tkinter.Tk()
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in _STOP_KEYS:
            self._root.bind(f"<Key-{key}>", lambda event: self.close())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._picture: Any = None
        self._root.update()

    def _show(self, image: Image) -> None:
        import tkinter

        height, width = image.shape[:2]
        data = b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(image).tobytes()
        self._picture = tkinter.PhotoImage(master=self._root, data=data, format="PPM")
        self._label.configure(image=self._picture)
        self._root.update()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._root.destroy()
