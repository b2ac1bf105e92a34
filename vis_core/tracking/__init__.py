"""Identity over time: the life cycle of tracks."""

from vis_core.tracking.lifecycle import TrackLifecycle

__all__ = ["TrackLifecycle"]
