from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from vis_core.commands.train import _EXAMPLE
from vis_core.data.augmentation import Augmentation
from vis_core.errors import InputError, OptionError
from vis_core.training import config as keys
from vis_core.training.config_file import config_of, plain, print_config, read_config

LEAST = {"system": "visolo-lite", "classes": ["a", "b"], "data": [{"annotations": "x.json"}], "output": "run"}


@pytest.fixture
def written(tmp_path):
    def write(**changed):
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump({**LEAST, **changed}))
        return path

    return write


def test_a_file_of_four_keys_is_a_config_with_every_default(written):
    config = read_config(written())
    assert config.clip.augmentation == Augmentation() and config.optimizer == keys.Optimizer()
    assert config.steps == 10000 and config.ema == 0.999 and config.evaluation.data == ()


@pytest.mark.parametrize(
    ("changed", "key", "text"),
    [
        ({"optimiser": {}}, "optimiser", "did you mean 'optimizer'?"),
        ({"optimizer": {"learningrate": 1}}, "optimizer.learningrate", "did you mean 'learning_rate'?"),
        ({"clip": {"augmentation": {"flipp": 1}}}, "clip.augmentation.flipp", "did you mean 'flip'?"),
        ({"data": [{"annotation": "x"}]}, "data.0.annotation", "did you mean 'annotations'?"),
        ({"data": [{"weight": 1}]}, "data.0.annotations", "is missing"),
        ({"data": {"annotations": "x"}}, "data", "is not a list"),
        ({"data": []}, "data", "give at least one set"),
        ({"steps": 1.5}, "steps", "1.5 is not a whole number"),
        ({"steps": True}, "steps", "True is not a whole number"),
        ({"steps": 0}, "steps", "0 is not in [1, 1e+09]"),
        ({"ema": "much"}, "ema", "'much' is not a number"),
        ({"ema": float("nan")}, "ema", "nan is not in"),
        ({"clip": {"augmentation": {"hue": float("inf")}}}, "clip.augmentation.hue", "inf is not finite"),
        ({"precision": "fp8"}, "precision", "'fp8' is none of fp32, bf16, fp16"),
        ({"clip": {"size": [256]}}, "clip.size", "has 1 values, not 2"),
        ({"clip": {"size": [256, "x"]}}, "clip.size.1", "'x' is not a whole number"),
        ({"clip": [3]}, "clip", "[3] is not a mapping"),
        ({"clip": {"order": "random"}}, "clip.order", "'random' is none of shuffled, distinct, sorted, successive"),
        ({"clip": {"reach": 0}}, "clip.reach", "0 is not in [1,"),
        ({"clip": {"order": "successive", "frames": 1}}, "clip.frames", "successive needs at least 2, not 1"),
        ({"clip": {"order": "distinct", "frames": 6, "reach": 4}}, "clip.reach", "at least 5, or null"),
        ({"clip": {"order": "sorted", "frames": 22}}, "clip.reach", "20 does not hold 22 different frames"),
        ({"optimizer": {"groups": {"backbone": 0.1}}}, "optimizer.groups.backbone", "is not a mapping"),
        ({"optimizer": {"groups": {"backbone": {"lr": 0.1}}}}, "optimizer.groups.backbone.lr", "unknown key"),
        ({"classes": []}, "classes", "at least one"),
        ({"classes": ["a", "a"]}, "classes", "twice"),
        ({"batch": 9, "accumulate": 2}, "batch", "9 is not a multiple of accumulate, 2"),
        ({"output": 3}, "output", "3 is not a path"),
        ({"data": [{"annotations": "x", "categories": {"cat": "c"}}]}, "data.0.categories.cat", "not among"),
        ({"evaluation": {"metric": "mAP"}}, "evaluation.metric", "is none of AP,"),
        ({"options": ["width"]}, "options", "is not a mapping of names"),
    ],
)
def test_a_fault_is_told_with_file_key_and_what_would_be_right(written, changed, key, text):
    path = written(**changed)
    with pytest.raises(OptionError, match=re.escape(f"{path}: {key}: ")) as caught:
        read_config(path)
    assert text in str(caught.value)


def test_how_frames_are_drawn_is_free_where_it_can_be_kept(written):
    assert read_config(written()).clip.order == "shuffled" and read_config(written()).clip.reach == 20
    for clip in (
        {"order": "distinct", "frames": 30, "reach": None},
        {"order": "sorted", "frames": 5, "reach": 4},
        {"order": "successive", "frames": 7, "reach": 1},
        {"order": "shuffled", "frames": 9, "reach": 1},
        {"order": "distinct", "frames": 1, "reach": 1},
    ):
        read = read_config(written(clip=clip)).clip
        assert (read.order, read.frames, read.reach) == tuple(clip[key] for key in ("order", "frames", "reach"))


def test_a_file_that_is_no_yaml_or_not_there_is_told_by_name(tmp_path):
    (tmp_path / "torn.yaml").write_text("a: [1,")
    for name in ("torn.yaml", "absent.yaml"):
        with pytest.raises(InputError, match=name):
            read_config(tmp_path / name)
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(OptionError, match=r"list.yaml: the file: \[1\] is not a mapping"):
        read_config(tmp_path / "list.yaml")


def test_paths_are_relative_to_the_file_and_those_of_the_command_line_to_the_working_directory(
    written, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = read_config(written(data=[{"annotations": "sub/../x.json"}]), ["initial_weights=w.pth", "data.0.images=i"])
    assert config.output == tmp_path / "run"
    assert config.data[0].annotations == tmp_path / "x.json"
    assert config.initial_weights == tmp_path / "elsewhere/w.pth"
    assert config.data[0].images == tmp_path / "elsewhere/i"


def test_the_command_line_has_the_last_word(written):
    path = written(optimizer={"weight_decay": 0.2})
    given = ["steps=7", "optimizer.learning_rate=1e-3", "data.0.weight=2", "ema=null", "clip.size=[32, 64]"]
    config = read_config(path, [*given, "optimizer.groups.backbone.learning_rate=0.5"])
    assert (config.steps, config.ema, config.clip.size, config.data[0].weight) == (7, None, (32, 64), 2.0)
    assert config.optimizer.learning_rate == 1e-3 and config.optimizer.weight_decay == 0.2
    assert config.optimizer.groups == {"backbone": keys.Group(0.5, 1.0)}


@pytest.mark.parametrize("text", ["steps", "=3", "data.5.weight=1", "data.x.weight=1", "system.a=1", "clip=[1"])
def test_a_fault_on_the_command_line_is_told(written, text):
    with pytest.raises(OptionError, match=re.escape(text)):
        read_config(written(), [text])


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {
            "initial_weights": "w.pth",
            "options": {"depth": 50, "name": "yes", "size": [1, 2]},
            "optimizer": {"groups": {"backbone": {"learning_rate": 1e-5}, "no": {}}, "clip_norm": None},
            "schedule": {"kind": "step", "milestones": [5, 9]},
            "evaluation": {"data": [{"annotations": "v.json", "name": "näme: #1"}, {"annotations": "u.json"}]},
            "data": [
                {"annotations": "x y.json", "categories": {"Cat: 1": "a"}},
                {"annotations": "z.json", "weight": 3},
            ],
            "ema": None,
        },
    ],
)
def test_a_printed_config_reads_back_as_the_same(written, tmp_path, changed):
    config = read_config(written(**changed))
    other = tmp_path / "other" / "printed.yaml"
    other.parent.mkdir()
    other.write_text(print_config(config))
    assert read_config(other) == config
    assert max(map(len, other.read_text().splitlines())) <= 120


def test_every_key_is_printed_with_its_meaning():
    text = print_config(config_of(_EXAMPLE, "example", Path("/data")))

    def check(value):
        for field in fields(value):
            assert re.search(rf"^[ -]*{field.name}:.*(#|\n *#) \w", text, re.MULTILINE), field.name
            inner = getattr(value, field.name)
            for part in inner if isinstance(inner, tuple) else (inner,):
                if is_dataclass(part):
                    check(part)

    check(config_of(_EXAMPLE, "example", Path("/data")))
    assert plain(config_of(yaml.safe_load(text), "printed", Path("/"))) == yaml.safe_load(text)
