"""VISOLO answers what the published code answers, with the same weights through the converter."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vis_core
from vis_core.masks import RunLengths
from vis_core.models.visolo import detection
from vis_core.models.visolo.association import GridAssociator
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.instances import VISOLOInstances
from vis_core.nn import winograd
from vis_core.nn.arrays import product, sigmoid
from vis_core.nn.input_transform import InputTransform
from vis_core.structures import Frame
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle

ROOT = Path(__file__).resolve().parents[3]
OURS = ROOT / "tests" / "parity" / "cases" / "visolo"
SHARED = ROOT.parent / "shared" / "parity" / "visolo"


def case_folder(name):
    for folder in (OURS / name, SHARED / name):
        if folder.is_dir():
            return folder
    pytest.skip(f"recorded case {name} is larger than what the repository holds, and ../shared/parity is absent")


class Case:
    """One recorded case: its configuration, what went in, what came out."""

    def __init__(self, name):
        folder = case_folder(name)
        self.config = json.loads((folder / "case.json").read_text())
        self.inputs = np.load(folder / "inputs.npz")
        self.expected = np.load(folder / "expected.npz")

    def check(self, name, found):
        found, expected = np.asarray(found, np.float64), self.expected[name].astype(np.float64)
        tolerance = self.config["tolerances"].get("final/scores" if name.startswith("final/") else "default")
        np.testing.assert_allclose(found, expected, err_msg=name, **tolerance)

    def check_equal(self, name, found):
        np.testing.assert_array_equal(np.asarray(found), self.expected[name], err_msg=name)

    def check_masks(self, name, found):
        """Each mask by IoU, and their mean, as the case's tolerances say; none are recorded for a frame without any."""
        if name not in self.expected:
            assert len(found) == 0, name
            return
        expected = np.unpackbits(self.expected[name], axis=-1, count=found.shape[-1]).astype(bool)
        assert found.shape == expected.shape, name
        union = (found | expected).sum((-1, -2))
        iou = np.where(union == 0, 1.0, (found & expected).sum((-1, -2)) / np.maximum(union, 1))
        assert iou.size == 0 or (iou.min() >= 0.97 and iou.mean() >= 0.995), (name, iou.min(), iou.mean())


@pytest.fixture(scope="module")
def checkpoint(weights_folder, fill):
    """Maker of a published checkpoint file from a manifest's name."""
    made = {}

    def make(manifest):
        if manifest not in made:
            arrays = fill(case_folder(".") / manifest)
            made[manifest] = weights_folder / f"{Path(manifest).stem}.pth"
            torch.save({"model": {key: torch.from_numpy(x) for key, x in arrays.items()}}, made[manifest])
        return made[manifest]

    return make


class Recorder:
    """Intermediates of a segmenter's steps, by the names of the recorded arrays."""

    def __init__(self, segmenter):
        self.seen = {}
        net = segmenter.network
        for module, name, pick in (
            (net.category_pre, ("track_features", "category_features"), lambda out: out),
            (net.kernel_pre, ("kernel_features",), lambda out: (out,)),
            (net.mask, ("mask_features",), lambda out: (out,)),
            (net.kernel_post, ("kernels",), lambda out: (out,)),
        ):
            module.register_forward_hook(lambda _m, _i, out, n=name, p=pick: self.seen.update(zip(n, p(out))))
        for module, name in ((net.category_post, "category_aggregated"), (net.kernel_post, "kernel_aggregated")):
            module.register_forward_pre_hook(lambda _m, inputs, n=name: self.seen.update({n: inputs[0]}))
        self.wrap(segmenter.model.grid, "read", lambda out: {"reading": out})
        self.wrap(segmenter.model, "detect", lambda out: {"found": out})

    def wrap(self, owner, name, pick):
        method = getattr(owner, name)

        def wrapped(*arguments):
            out = method(*arguments)
            self.seen.update(pick(out))
            return out

        setattr(owner, name, wrapped)


FEATURES = (
    "track_features",
    "category_features",
    "kernel_features",
    "category_aggregated",
    "kernel_aggregated",
    "kernels",
)


def check_intermediates(case, at, seen, previous_query):
    """Everything recorded of a frame's network, from backbone to score weights."""
    for name in (name for name in FEATURES if at + name in case.expected):
        stored = case.expected[at + name]
        case.check(at + name, seen[name][0][:: 256 // len(stored)].reshape(stored.shape))
    if at + "mask_features" in case.expected:
        case.check(at + "mask_features", seen["mask_features"][0][:: 256 // len(case.expected[at + "mask_features"])])
    if at + "category_scores" in case.expected:
        case.check(at + "category_scores", seen["reading"].categories.reshape(-1, 12, 21))
    if at + "similarity" in case.expected:
        rows, columns = case.expected[at + "similarity"].shape
        similarity = sigmoid(previous_query.T @ seen["reading"].reference)
        case.check(at + "similarity", similarity[:: 252 // rows, :: -(-252 // columns)])
    if at + "reweighting" in case.expected:
        case.check(at + "reweighting", seen["reading"].weight)


def check_detections(case, at, found, instances):
    """The instances of a frame, and the tracks that they were given."""
    for name in ("cells", "labels"):
        case.check_equal(at + name, getattr(found, name))
    case.check(at + "scores", found.scores)
    case.check_masks(at + "masks", found.masks)
    case.check_equal(at + "tracks", instances.track_ids[: len(found)] - 1)


VIDEOS = [
    "case_1_small",
    "case_2_other_size",
    "case_3_long",
    "case_4_published_size",
    "case_5_bounded_memory",
    "case_9_resnet101",
]
SLOW = ("case_3_long", "case_4_published_size", "case_5_bounded_memory", "case_9_resnet101")


def asked(name, quirks=False, convolution="direct"):
    """One of the parameters of the next test; the longer cases are slow, and each kind is left in a shorter one."""
    marks = [pytest.mark.slow] if name in SLOW or convolution != "direct" else []
    return pytest.param(name, quirks, convolution, marks=marks)


@pytest.mark.parametrize(
    ("name", "quirks", "convolution"),
    [asked(name, name == "case_2_other_size") for name in VIDEOS]
    + [asked("case_2_other_size"), asked("case_1_small", convolution="winograd")],
)
def test_a_video_gives_the_published_intermediates_identities_and_masks(
    name, quirks, convolution, checkpoint, monkeypatch
):
    """Case 2 holds both answers: the published one, and that of our rule for empty masks from frame 5 on."""
    case = Case(name)
    monkeypatch.setattr(winograd, "_MIN_TILES", 0)
    size = shown = tuple(case.config["output_size"])
    segmenter = vis_core.load(
        "visolo",
        checkpoint(case.config["manifest"]),
        device="cpu",
        precision="fp32",
        input_size=tuple(case.config["network_size"]),
        memory_frames=case.config["memory_limit"],
        max_lost_frames=None,
        published_quirks=quirks,
        convolution=convolution,
    )
    recorder = Recorder(segmenter)
    own = quirks != case.config.get("published_quirks", False)
    images = case.inputs["frames"]
    if images.shape[1:3] != size:  # recorded at network size: only the answer is asked for at the original one
        encode = segmenter.model.encode_masks
        segmenter.model.encode_masks = lambda found, seen, size: encode(found, seen, shown)
    masks = np.zeros((100, len(images), *size), bool)
    scores, labels, memory_frames, query = {}, {}, [], None
    for t, image in enumerate(images):
        recorder.seen.clear()
        memory_frames.append(len(segmenter.model.memory.readable))
        (instances,) = segmenter.step(Frame(image, stamp=t, index=t))
        seen = recorder.seen
        ours = own and f"default/frame{t}/cells" in case.expected
        if not ours:
            check_intermediates(case, f"frame{t}/", seen, query)
        check_detections(case, f"{'default/' if ours else ''}frame{t}/", seen["found"], instances)
        query = seen["reading"].query
        visible = instances[instances.visible]
        masks[visible.track_ids - 1, t] = np.array([m.dense() for m in visible.masks]).reshape(-1, *size)
        scores |= dict(zip(visible.track_ids.tolist(), visible.track_scores.tolist(), strict=True))
        labels |= dict(zip(visible.track_ids.tolist(), visible.labels.tolist(), strict=True))
    prefix = "default/final/" if own else "final/"
    case.check(prefix + "scores", [scores[i] for i in sorted(scores)])
    case.check_equal(prefix + "labels", [labels[i] for i in sorted(labels)])
    if not own:
        case.check_masks("final/masks", masks[: len(scores)])
    if case.config["memory_limit"] is None:
        assert memory_frames[1:] == case.expected["memory_frames"][1:].tolist()


def test_the_resize_to_the_published_size_is_pillows():
    case = Case("case_4_published_size")
    resized = InputTransform(tuple(case.config["network_size"])).resize(case.inputs["frames"][0])
    np.testing.assert_array_equal(resized.numpy(), case.expected["resized"][0])


@pytest.mark.parametrize("problem", range(8))
@pytest.mark.parametrize("quirks", [True, False])
def test_network_outputs_give_the_published_detections(problem, quirks):
    case, at = Case("case_7_detections"), f"{problem}/"
    features, kernels, categories = (case.inputs[at + name] for name in ("mask_features", "kernels", "category_scores"))
    weight = case.inputs.get(at + "weight")
    kept = detection.kept_cells(categories, weight, 0.1, quirks)
    logits = product(kernels[:, kept[0]].T, features.reshape(len(features), -1)).reshape(-1, *features.shape[1:])
    found = detection.candidates(logits, categories, kept, 0.5, quirks)
    if quirks and at + "sorted_scores" in case.expected:
        by_cell = found.chosen(found.cells.argsort())
        case.check(at + "probabilities", detection.mask_probabilities(by_cell.logits)[:, ::12, ::12])
        # The published code sorts NaN first and ours last or first, which nothing that follows depends on.
        sound = ~np.isnan(case.expected[at + "sorted_scores"])
        ours = ~np.isnan(found.scores)
        assert ours.sum() == sound.sum()
        for name, values in (("sorted_scores", found.scores), ("sorted_areas", found.masks.sum((1, 2)))):
            np.testing.assert_allclose(values[ours], case.expected[at + name][sound], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found.labels[ours], case.expected[at + "sorted_labels"][sound])
        suppressed = detection.matrix_nms(found.scores, found.labels, detection.intersections(found.masks))
        np.testing.assert_allclose(
            suppressed[ours], case.expected[at + "suppressed_scores"][sound], rtol=1e-3, atol=1e-4
        )
    result = detection.suppress(found, 0.05, 100)
    prefix = at + "default/" if not quirks and at + "default/cells" in case.expected else at
    for name in ("cells", "labels", "scores", "vectors"):
        if prefix + name in case.expected:
            check = case.check if name in ("scores", "vectors") else case.check_equal
            check(prefix + name, getattr(result, name))
    case.check_masks(prefix + "masks", result.masks)


@pytest.mark.parametrize("rule", ["tracks", "tracks_max_lost"])
def test_detections_get_the_published_identities(rule):
    case = Case("case_8_identities")
    bounded = rule == "tracks_max_lost"
    lifecycle = TrackLifecycle(case.config["max_lost_frames"] if bounded else None, max_lost_tracks=None)
    associator = GridAssociator(threshold=0.1)
    scores, labels = {}, {}
    image = np.zeros((4, 4, 3), np.uint8)
    for t in range(case.config["frames"]):
        query, reference = (case.inputs[f"{t}/{name}"].T for name in ("query", "reference"))
        vectors = case.inputs[f"{t}/vectors"]
        count = len(vectors)
        associator.forget(lifecycle.expire())
        none = np.zeros((count, 0))
        detections = Detections(np.arange(count), none, np.ones(count), vectors, none, none)
        found, window = VISOLOInstances(t, detections, query, reference, lambda chosen: []), Window(t, 1, (4, 4))
        rows, continues = associator.associate(found, window, lifecycle)
        assert list(rows) == list(range(count))
        packed = [RunLengths((4, 4))] * count
        instances = lifecycle.update(Frame(image, t, t), continues, np.ones(count), vectors, packed)
        ids = instances.track_ids[:count].tolist()
        associator.remember(ids, found, window)
        case.check_equal(f"{t}/{rule}", np.array(ids, int) - 1)
        scores |= dict(zip(ids, instances.track_scores.tolist(), strict=False))
        labels |= dict(zip(ids, instances.labels.tolist(), strict=False))
    if not bounded:
        case.check("final/scores", [scores[i] for i in sorted(scores)])
        case.check_equal("final/labels", [labels[i] for i in sorted(labels)])
