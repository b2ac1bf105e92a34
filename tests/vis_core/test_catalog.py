import logging
from typing import Annotated

import pytest
import torch
from torch import nn

import vis_core
from vis_core import catalog, checkpoints
from vis_core.errors import CheckpointError, OptionError
from vis_core.system.entry import PublishedFormat, System
from vis_core.system.option import Option, options_of
from vis_core.system.segmenter import Segmenter


class Built(Segmenter):
    def __init__(
        self,
        tensors,
        metadata,
        device,
        precision,
        *,
        threshold: Annotated[float, Option("a score", 0, 1, live=True)] = 0.1,
        size: Annotated[tuple[int, int], Option("height and width", 16, 4096, multiple_of=16)] = (32, 64),
        frames: Annotated[int | None, Option("frames", 1, 100, former="images")] = 6,
        rule: Annotated[str, Option("how", choices=("published", "ours"))] = "published",
        quirks: Annotated[bool, Option("as published")] = False,
        limit: Annotated[int | None, Option("of frames", 1)] = None,
    ):
        options = {"threshold": threshold, "size": size, "frames": frames, "rule": rule, "quirks": quirks}
        self.network = nn.Linear(3, 2)
        self.class_names = ("a", "b")
        self.given = {"metadata": metadata, "device": device, "precision": precision, **options}
        if tensors is not None:
            checkpoints.load_tensors(self.network, tensors, "the weights")

    def step(self, frame):
        return []

    def reset(self):
        pass

    def state_bytes(self):
        return 0


def system(name):
    published = PublishedFormat(
        lambda keys: any(key.startswith(f"{name}.") for key in keys),
        lambda tensors: {key.removeprefix(f"{name}."): value for key, value in tensors.items()},
    )
    return System(name, name.title(), "a paper", Built, published, "non-commercial", "a place")


@pytest.fixture(autouse=True)
def systems(monkeypatch):
    monkeypatch.setattr(catalog, "SYSTEMS", {name: system(name) for name in ("alpha", "beta")})


WEIGHTS = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


def published(tmp_path, name="alpha"):
    torch.save({"model": {f"{name}.{key}": value for key, value in WEIGHTS.items()}}, tmp_path / "published.pth")
    return tmp_path / "published.pth"


def test_a_published_checkpoint_is_converted_on_the_fly_and_its_licence_shown(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        segmenter = vis_core.load("alpha", published(tmp_path), device="cpu")
    assert bool((segmenter.network.weight == 1).all())
    assert "non-commercial" in caplog.text


def test_a_converted_file_loads_to_the_same_network(tmp_path):
    assert catalog.convert("alpha", published(tmp_path), tmp_path / "ours.safetensors") == 2
    segmenter = vis_core.load("alpha", tmp_path / "ours.safetensors", device="cpu")
    assert bool((segmenter.network.weight == 1).all())
    assert segmenter.given["metadata"]["licence"] == "non-commercial"


def test_weights_in_half_the_space_load_as_float32(tmp_path):
    catalog.convert("alpha", published(tmp_path), tmp_path / "half.safetensors", half=True)
    tensors, _ = checkpoints.read_tensors(tmp_path / "half.safetensors")
    assert {x.dtype for x in tensors.values()} == {torch.float16}
    segmenter = vis_core.load("alpha", tmp_path / "half.safetensors", device="cpu")
    assert segmenter.network.weight.dtype == torch.float32
    assert bool((segmenter.network.weight == 1).all())


def test_a_checkpoint_of_another_system_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="published Beta checkpoint, load it as 'beta'"):
        vis_core.load("alpha", published(tmp_path, "beta"))
    catalog.convert("beta", published(tmp_path, "beta"), tmp_path / "ours.safetensors")
    with pytest.raises(CheckpointError, match="holds weights of 'beta', not of 'alpha'"):
        vis_core.load("alpha", tmp_path / "ours.safetensors")


def test_a_checkpoint_of_no_system_is_refused_with_its_first_keys(tmp_path):
    torch.save({"x.y": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: not a checkpoint of Alpha.*x\.y"):
        vis_core.load("alpha", tmp_path / "w.pth")


def test_a_file_of_a_later_format_is_refused(tmp_path):
    checkpoints.write_tensors(tmp_path / "w.safetensors", WEIGHTS, {"format": "vis_core 2", "system": "alpha"})
    with pytest.raises(CheckpointError, match="vis_core 2"):
        vis_core.load("alpha", tmp_path / "w.safetensors")


def test_nothing_is_written_when_the_checkpoint_does_not_fit(tmp_path):
    torch.save({"alpha.weight": torch.ones(2, 3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="1 missing: bias"):
        catalog.convert("alpha", tmp_path / "w.pth", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_random_weights_are_said_to_be_random():
    with pytest.warns(UserWarning, match="random"):
        segmenter = vis_core.load("alpha", frames=None)
    assert segmenter.given["frames"] is None and segmenter.given["size"] == (32, 64)


@pytest.mark.filterwarnings("ignore:.*random")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"treshold": 0.3}, "alpha: treshold: unknown option; did you mean 'threshold'"),
        ({"threshold": 1.5}, r"threshold: 1.5 is not in \[0, 1\]"),
        ({"threshold": "high"}, "threshold: expected float, got 'high'"),
        ({"threshold": None}, "threshold: expected float, got None"),
        ({"threshold": float("nan")}, "threshold: nan"),
        ({"size": (32, 60)}, r"size\[1\]: 60 is not a multiple of 16"),
        ({"size": 32}, "size: expected 2 values"),
        ({"size": (32, 64.0)}, r"size\[1\]: expected int"),
        ({"frames": 0}, "frames: 0 is not in"),
        ({"frames": True}, "frames: expected int"),
        ({"rule": "theirs"}, "rule: 'theirs' is none of published, ours"),
        ({"quirks": 1}, "quirks: expected bool"),
        ({"limit": "none"}, "limit: expected int"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, words):
    with pytest.raises(OptionError, match=words):
        vis_core.load("alpha", **options)


def test_whole_numbers_and_lists_are_taken_where_they_fit():
    with pytest.warns(UserWarning, match="random"):
        segmenter = vis_core.load("alpha", threshold=1, size=[64, 64])
    assert segmenter.given["threshold"] == 1.0 and isinstance(segmenter.given["threshold"], float)
    assert segmenter.given["size"] == (64, 64)


def test_options_are_read_from_the_signature_of_what_takes_them():
    options = options_of(Built)
    assert list(options) == ["threshold", "size", "frames", "rule", "quirks", "limit"]
    assert [option.kind for option in options.values()] == [float, tuple, int, str, bool, int]
    assert [name for name, option in options.items() if option.optional] == ["frames", "limit"]
    assert options["threshold"] == Option("a score", 0, 1, live=True, default=0.1)

    def without(*, threshold: Annotated[float, Option("a score")]): ...

    with pytest.raises(TypeError, match=r"option threshold of .* has no default"):
        options_of(without)


@pytest.mark.filterwarnings("ignore:.*random")
def test_an_option_is_taken_under_its_former_name_with_a_warning():
    with pytest.warns(FutureWarning, match="alpha: images is called alpha: frames now"):
        segmenter = vis_core.load("alpha", images=3)
    assert segmenter.given["frames"] == 3


@pytest.mark.filterwarnings("ignore:.*random")
def test_what_is_loaded_knows_the_options_of_its_system():
    assert vis_core.load("alpha").options == catalog.SYSTEMS["alpha"].options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "alhpa"}, "did you mean 'alpha'"),
        ({"name": "alpha", "precision": "int8"}, "precision 'int8'"),
        ({"name": "alpha", "device": "tpu9"}, "device 'tpu9'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*random")
def test_unknown_names_are_refused_with_the_nearest_one(arguments, words):
    with pytest.raises(OptionError, match=words):
        vis_core.load(**arguments)
