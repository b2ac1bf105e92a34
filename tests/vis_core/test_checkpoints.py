import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vis_core import checkpoints
from vis_core.errors import CheckpointError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


class Evil:
    """Writes a file when it is unpickled, if it ever is."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def same(tensors):
    return tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)


def test_safetensors_keep_tensors_and_metadata(tmp_path):
    checkpoints.write_tensors(tmp_path / "w.safetensors", TENSORS, {"system": "x"})
    tensors, metadata = checkpoints.read_tensors(tmp_path / "w.safetensors")
    assert same(tensors) and metadata == {"system": "x"}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("nest", [lambda t: t, lambda t: {"model": t, "iteration": 3}, lambda t: {"state_dict": t}])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_are_read_with_the_weights_at_any_usual_place(tmp_path, nest, legacy):
    torch.save(nest(TENSORS), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert same(checkpoints.read_tensors(tmp_path / "w.pth")[0])


def test_numpy_scalars_beside_the_weights_do_no_harm(tmp_path):
    torch.save({"model": TENSORS, "best": np.float64(0.3), "epoch": np.int64(4)}, tmp_path / "w.pth")
    assert same(checkpoints.read_tensors(tmp_path / "w.pth")[0])


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_are_read(tmp_path, protocol):
    arrays = collections.OrderedDict((k, v.numpy()) for k, v in TENSORS.items())
    content = {"model": arrays, "__author__": "someone", "n": np.float32(2)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    assert same(checkpoints.read_tensors(tmp_path / "w.pkl")[0])


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".pt", ".bin"])
def test_a_file_that_would_execute_code_is_refused_and_nothing_runs(tmp_path, suffix):
    mark, file = tmp_path / "executed", tmp_path / f"w{suffix}"
    content = {"model": {"a": Evil(mark)}}
    if suffix == ".pkl":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"w\.\w+: refused, since loading it would execute code"):
        checkpoints.read_tensors(file)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "os.system", "numpy.load", "numpy.ndarray", "numpy.testing.run_module_suite"]
)
def test_pickled_names_that_could_act_are_refused(tmp_path, name):
    module, function = name.rsplit(".", 1)
    # GLOBAL module function; a huge shape; TUPLE1; REDUCE; STOP
    (tmp_path / "w.pkl").write_bytes(f"c{module}\n{function}\n".encode() + b"(L1000000000000L\nt\x85R.")
    with pytest.raises(CheckpointError, match=r"w\.pkl"):
        checkpoints.read_tensors(tmp_path / "w.pkl")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl"])
@pytest.mark.parametrize("content", [b"", b"not a weight file at all", b"\x80\x04"])
def test_a_torn_file_is_an_error_that_names_it(tmp_path, suffix, content):
    file = tmp_path / f"torn{suffix}"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="torn"):
        checkpoints.read_tensors(file)


def test_a_truncated_safetensors_file_is_an_error(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:-5])
    with pytest.raises(CheckpointError, match="not a sound safetensors"):
        checkpoints.read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {"a": "text"}}, "'a' is a str"),
        ([1, 2], "holds a list"),
        ({}, "no tensors"),
        ({"model": {}}, "no tensors"),
    ],
)
def test_other_content_is_named(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=words):
        checkpoints.read_tensors(tmp_path / "w.pth")


def test_missing_and_unknown_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such"):
        checkpoints.read_tensors(tmp_path / "nowhere.pth")
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown kind of weight file '\.onnx'"):
        checkpoints.read_tensors(tmp_path / "w.onnx")


def test_every_fault_of_the_keys_is_listed_at_once():
    module = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(1, 1)})
    given = {
        "a.weight": torch.zeros(3, 2),
        "a.bias": torch.tensor([1.0, float("nan")]),
        "c.weight": torch.zeros(1),
        "b.bias": torch.zeros(1),
    }
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_tensors(module, given, "w.pth")
    text = str(caught.value)
    assert "w.pth" in text
    assert "1 missing: b.weight" in text
    assert "1 left over: c.weight" in text
    assert "1 misshapen: a.weight [3, 2], expected [2, 3]" in text
    assert "1 not finite: a.bias" in text


def test_half_precision_weights_fill_a_float32_module():
    module = nn.Linear(3, 2)
    checkpoints.load_tensors(module, {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2).half()}, "w")
    assert module.weight.dtype == torch.float32 and bool((module.weight == 1).all())


def test_written_weights_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    checkpoints.write_tensors(tmp_path / "w.safetensors", {"x": torch.zeros(1)}, {})
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"w\.safetensors"):
        checkpoints.write_tensors(tmp_path / "file" / "w.safetensors", TENSORS, {})
    with pytest.raises(CheckpointError, match=r"written as \.safetensors"):
        checkpoints.write_tensors(tmp_path / "w.pth", TENSORS, {})
