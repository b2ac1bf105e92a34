"""Mask2Former-VIS and MinVIS around any network, on frames as they come."""

from vis_core.models.mask2former_vis.minvis import MinVISModel, MinVISVideoModel
from vis_core.models.mask2former_vis.model import Mask2FormerVISModel, PixelEncoder
from vis_core.models.mask2former_vis.slots import SlotAssociator
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator


def mask2former_vis(
    network, class_names, clip_length=5, stride=1, unbounded=False, score_threshold=0.3, max_lost_frames=30
):
    encoder = PixelEncoder(network, None, 1333)
    model = Mask2FormerVISModel(network, class_names, encoder, unbounded, score_threshold, max_instances=50)
    lifecycle = TrackLifecycle(None if unbounded else max_lost_frames)
    return StreamSegmenter(model, OverlapAssociator(0.3), lifecycle, None if unbounded else clip_length, stride)


def minvis(network, class_names, score_threshold=0.3, max_instances=50, max_lost_frames=30):
    encoder = PixelEncoder(network, None, 1333)
    model = MinVISModel(network, class_names, encoder, score_threshold, max_instances)
    return StreamSegmenter(model, SlotAssociator(0.5, 0.75), TrackLifecycle(max_lost_frames))


def minvis_whole_video(network, class_names):
    model = MinVISVideoModel(network, class_names, PixelEncoder(network, None, 1333))
    return StreamSegmenter(model, OverlapAssociator(0.3), TrackLifecycle(None, None), clip_length=None)
