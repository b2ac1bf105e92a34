"""Weights by name: files of the folder that the user names, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vis_core.errors import InputError
from vis_core.files.weights_folder import find_weights, weights_folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VIS_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.mark.parametrize("asked", ["tevit_msgshift", "tevit_msgshift.pth"])
def test_a_file_is_found_by_its_name_with_its_suffix_or_without(folder, asked):
    (folder / "tevit_msgshift.pth").touch()
    assert find_weights(asked) == folder / "tevit_msgshift.pth"


def test_names_may_hold_dots_and_exported_networks_are_found_too(folder):
    (folder / "lite.v2.onnx").touch()
    (folder / "lite_openvino_model").mkdir()
    assert find_weights("lite.v2") == folder / "lite.v2.onnx"
    assert find_weights("lite") == folder / "lite_openvino_model"


def test_what_is_here_comes_first(folder):
    (folder / "a.pth").touch()
    Path("a.pth").touch()
    assert find_weights("a.pth") == Path("a.pth")
    assert find_weights("a") == folder / "a.pth"


@pytest.mark.parametrize("asked", ["sub/a", "./a", "../weights/a", "/a", "b", ".", "..", "", "a\0b"])
def test_paths_and_unknown_names_stay_what_they_are(folder, asked):
    (folder / "a.pth").touch()
    assert find_weights(asked) == Path(asked)


def test_two_files_of_one_name_are_told_apart_by_the_user(folder):
    (folder / "a.pth").touch()
    (folder / "a.safetensors").touch()
    with pytest.raises(InputError, match=r"a: .*weights holds a\.safetensors and a\.pth; say which"):
        find_weights("a")
    assert find_weights("a.pth") == folder / "a.pth"


def test_the_folder_is_among_the_users_data_where_none_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("VIS_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert weights_folder() == tmp_path / "vis" / "weights"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".local" / "share" / "vis" / "weights"
