"""Video instance segmentation systems behind one streaming interface.

    import vis_core

    segmenter = vis_core.load("visolo-lite")
    for instances in segmenter.run(vis_core.open_video("street.mp4")):
        print(instances.track_ids, instances.boxes)

The names below are loaded on first use, so that parts that need no network (``vis_core.evaluation``,
``vis_core.masks``) are importable without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vis_core.video.headers import bound_decoder

if TYPE_CHECKING:
    from vis_core.catalog import load as load
    from vis_core.structures import Frame as Frame
    from vis_core.structures import Instances as Instances
    from vis_core.structures import TrackState as TrackState
    from vis_core.system.segmenter import Segmenter as Segmenter
    from vis_core.tracking.shown import ShownTracks as ShownTracks
    from vis_core.video.opening import open_video as open_video
    from vis_core.video.overlay import draw_overlay as draw_overlay

    __version__: str

_HOME = {
    "load": "vis_core.catalog",
    "Segmenter": "vis_core.system.segmenter",
    "Frame": "vis_core.structures",
    "Instances": "vis_core.structures",
    "ShownTracks": "vis_core.tracking.shown",
    "TrackState": "vis_core.structures",
    "open_video": "vis_core.video.opening",
    "draw_overlay": "vis_core.video.overlay",
}
__all__ = [
    "Frame",
    "Instances",
    "Segmenter",
    "ShownTracks",
    "TrackState",
    "__version__",
    "draw_overlay",
    "load",
    "open_video",
]

bound_decoder()  # before anything of ours loads OpenCV


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("vis_ros")  # declared in package.xml
        except PackageNotFoundError:
            return "unknown: vis_ros is not installed"
    if name not in _HOME:
        raise AttributeError(f"module 'vis_core' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
