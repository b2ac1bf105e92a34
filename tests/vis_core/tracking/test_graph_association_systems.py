"""Every frame-by-frame system can be linked by graph matching, by an option of one name."""

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.painted_queries import CLASSES, PaintedQueries, picture
from tests.vis_core.models.small_lite import small, write
from tests.vis_core.models.test_video_knet_online import frames_like, small_network
from vis_core import catalog
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.mask2former_vis.minvis import MinVISModel
from vis_core.models.mask2former_vis.model import PixelEncoder
from vis_core.models.video_knet import build_online, building
from vis_core.models.video_knet.network import ClipNetwork, Sizes
from vis_core.structures import Frame
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import check_options, options_of
from vis_core.tracking.graph_association import Detections, GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.motion import MotionAssociator

GRAPH = {"association": "graph", "edge_weight": 0.5}
SIZES = (64, 96)


def scene(count):
    """Blocks of colour that move by a pixel a frame."""
    image = np.random.default_rng(0).integers(0, 256, (8, 14, 3), dtype=np.uint8).repeat(11, 0).repeat(11, 1)
    return [Frame(np.roll(image, t, 1), t * 10**8, t) for t in range(count)]


def lite(tmp_path, **options):
    weights = write(tmp_path / "w.safetensors", small(), ["a", "b", "c"])
    thresholds = {"score_threshold": 0.0, "birth_threshold": 0.0, "update_threshold": 0.0, "mask_resize": "published"}
    return vis_core.load("visolo-lite", weights, device="cpu", input_size=SIZES, **thresholds, **options)


def minvis(tmp_path, **options):
    with pytest.warns(UserWarning, match="no weights given"):
        return vis_core.load("minvis", device="cpu", short_side=64, score_threshold=0.0, max_instances=8, **options)


@pytest.fixture
def video_knet(monkeypatch):
    def load(network=None, **options):
        monkeypatch.setattr(building, "online_network", lambda *_: network or small_network())
        given = {"score_threshold": 0.0, "birth_score": 0.0, **options}
        return build_online(None, {}, torch.device("cpu"), "fp32", **check_options(options_of(build_online), given))

    return load


@pytest.fixture
def visolo(narrow_visolo):
    def load(tmp_path, **options):
        return vis_core.load("visolo", narrow_visolo, device="cpu", precision="fp32", input_size=SIZES, **options)

    return load


def check(segmenter, frames):
    """It is linked by graphs, by the scores that it shows and the boxes of its masks, and tracks go on."""
    associator, shown = segmenter.associator, []
    assert isinstance(associator, GraphAssociator) and associator.edge_weight == 0.5
    for frame in frames:
        (answer,) = segmenter.step(frame)
        assert answer.index == frame.index
        shown.append(answer[answer.visible])
        if not frame.index:
            for track_id, score, mask in zip(shown[0].track_ids.tolist(), shown[0].scores, shown[0].masks):
                track, (x, y, width, height) = associator.remembered[track_id], mask.box
                assert track.score_sum == pytest.approx(score, rel=1e-5)
                assert track.embedding.any() and not track.features
                np.testing.assert_allclose(track.box, (x, y, x + width, y + height), atol=8)
    assert set(shown[0].track_ids) & set(shown[-1].track_ids)
    size = segmenter.state_bytes()
    segmenter.reset()
    assert segmenter.state_bytes() < size and not associator.remembered


def test_visolo(visolo, tmp_path):
    check(visolo(tmp_path, **GRAPH), scene(3))


def test_visolo_lite(tmp_path):
    check(lite(tmp_path, **GRAPH), scene(3))


def test_minvis(tmp_path):
    check(minvis(tmp_path, **GRAPH), scene(2))


@pytest.mark.parametrize("embeddings", [True, False])
def test_video_knet_online_by_embeddings_or_where_there_are_none_by_kernels(video_knet, embeddings):
    network = small_network(0, **({} if embeddings else {"embedding_layers": None}))
    assert (network.association is not None) == embeddings
    check(video_knet(network=network, **GRAPH), frames_like(3))


@pytest.mark.parametrize("name", ["visolo", "visolo-lite", "minvis", "video-knet-online"])
def test_each_is_linked_in_its_own_way_unless_asked(name, tmp_path):
    option = catalog.SYSTEMS[name].options["association"]
    assert option.default != "graph" and option.choices[-1] == "graph" and option.default in option.choices
    assert catalog.SYSTEMS[name].options["edge_weight"] == catalog.SYSTEMS["visolo"].options["edge_weight"]


def test_its_own_way_is_what_it_was(tmp_path):
    assert isinstance(lite(tmp_path).associator, MotionAssociator)
    with pytest.raises(OptionError, match="none of motion, graph"):
        lite(tmp_path, association="slots")


def test_minvis_keeps_its_objects_by_graph_too():
    model = MinVISModel(PaintedQueries(), CLASSES, PixelEncoder(PaintedQueries(), None, 1333), 0.3, 50)
    associator = GraphAssociator(birth_score=0, memory_features=0, describe=Detections.of)
    segmenter = StreamSegmenter(model, associator, TrackLifecycle())
    frames = [picture(i, (50, i), *([] if 8 <= i < 20 else [(200, 60 - i)])) for i in range(30)]
    values = {}
    for frame in frames:
        (answer,) = segmenter.step(frame)
        for track_id, mask in zip(answer.track_ids.tolist(), answer.masks):
            if mask.area:
                values.setdefault(track_id, set()).add(int(np.median(frame.image[..., 0][mask.dense()])))
    assert values == {1: {50}, 2: {200}} or values == {1: {200}, 2: {50}}


def test_weights_of_any_k_net_can_be_linked_by_graph():
    network = ClipNetwork("resnet50", "fpn", 40, Sizes(kernels=8, width=32, heads=8, hidden=64))
    with pytest.raises(CheckpointError, match="'kernel' or 'graph'"):
        building.online_network(network.state_dict(), "embedding")
    assert building.online_network(network.state_dict(), "graph").association is None


def test_published_alignment_of_identities_belongs_to_the_published_association(video_knet):
    with pytest.raises(OptionError, match="published_id_alignment"):
        video_knet(association="graph", published_id_alignment=True)
