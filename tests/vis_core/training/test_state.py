from __future__ import annotations

import resource

import pytest
import torch

from vis_core.errors import CheckpointError, OptionError
from vis_core.training.state import NAME, PREVIOUS, check_unchanged, comparable, load_state, save_state


def state(step, size=10):
    return {"step": step, "model": {"weight": torch.full((size,), float(step))}}


def test_the_latest_state_is_loaded_and_the_one_before_is_kept(tmp_path):
    assert load_state(tmp_path) is None
    for step in (1, 2, 3):
        save_state(tmp_path, state(step))
    assert load_state(tmp_path)["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, NAME]
    (tmp_path / NAME).unlink()  # as if the process was killed between the two renames
    assert load_state(tmp_path)["step"] == 2
    save_state(tmp_path, state(4))
    assert load_state(tmp_path)["step"] == 4


def test_a_full_disk_leaves_the_state_before_and_names_the_file(tmp_path):
    save_state(tmp_path, state(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="the state before is untouched") as caught:
            save_state(tmp_path, state(2, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / NAME)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert load_state(tmp_path)["step"] == 1


class Code:
    def __reduce__(self):
        return print, ("executed",)


def test_a_state_that_holds_code_is_refused(tmp_path, capsys):
    torch.save({"format": "vis_core training 1", "step": Code()}, tmp_path / NAME)
    with pytest.raises(CheckpointError, match=r"state.pt: is no sound state"):
        load_state(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_damaged_state_is_told_with_where_the_one_before_is(tmp_path):
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"state\.previous\.pt"):
        load_state(tmp_path)


def test_a_state_of_another_version_is_refused(tmp_path):
    torch.save({"format": "vis_core training 9"}, tmp_path / NAME)
    with pytest.raises(CheckpointError, match="format 'vis_core training 9'"):
        load_state(tmp_path)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"seed": 1}, "seed: 1, was 0"),
        ({"steps": 9}, "steps: 9, was 8"),
        ({"batch": 2}, "batch: 2, was 4"),
        ({"optimizer": {"learning_rate": 1}}, "optimizer.learning_rate: 1.0, was 0.01"),
        ({"optimizer": {"learning_rate": 0.01, "groups": {}}}, "optimizer.groups: {}, was {'backbone'"),
        ({"clip": {"frames": 3, "size": [32, 48]}}, "clip.frames: 3, was 2"),
        ({"clip": {"frames": 2, "size": [32, 48], "augmentation": {"hue": 1}}}, "clip.augmentation.hue: 1.0, was"),
        ({"options": {"dropout": 0.5}}, "options.dropout: 0.5, was 0.3"),
        ({"ema": None}, "ema: None, was 0.999"),
    ],
)
def test_a_changed_config_is_refused_and_the_key_named(config, tmp_path, changed, key):
    with pytest.raises(OptionError) as caught:
        check_unchanged(comparable(config()), comparable(config(**changed)), tmp_path)
    assert f"another config: {key}" in str(caught.value) and "--restart" in str(caught.value)


def test_changed_annotations_are_refused_wherever_the_file_lies(config, content, annotations, tmp_path):
    moved = tmp_path / "moved.json"
    moved.write_bytes(annotations.read_bytes())
    entry = {"annotations": str(moved), "images": str(annotations.parent / "frames")}
    check_unchanged(comparable(config()), comparable(config(data=[entry])), tmp_path)
    moved.write_text(moved.read_text() + " ")
    with pytest.raises(OptionError, match=r"data.0.annotations: the file's content has changed"):
        check_unchanged(comparable(config()), comparable(config(data=[entry])), tmp_path)


def test_what_does_not_change_the_result_may_change(config, tmp_path):
    free = {"output": "x", "workers": 3, "save_every": 1, "log_every": 5, "evaluation": {"every": 3}}
    check_unchanged(comparable(config()), comparable(config(**free)), tmp_path)
    constant = {"kind": "constant"}
    longer = comparable(config(schedule=constant, steps=99))
    check_unchanged(comparable(config(schedule=constant)), longer, tmp_path)
