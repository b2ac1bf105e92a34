"""Weight files that are torn, lie, or want more than weights do: each is one short error, at no cost."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from vis_core import checkpoints
from vis_core.errors import CheckpointError

SIX = np.arange(6, dtype=np.float32).tobytes()


class Called:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Kept:
    """Pickled as a storage outside of the pickle."""

    def __init__(self, count=6, key="0", kind=torch.FloatStorage):
        self.identity = ("storage", kind, key, "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.identity if isinstance(value, Kept) else None


def pickled(content, protocol=2):
    out = BytesIO()
    Pickler(out, protocol).dump(content)
    return out.getvalue()


def archive(content, records=None, compression=zipfile.ZIP_STORED, **more):
    """A file as ``torch.save`` writes it, of a pickle (or what is to be pickled) and records."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr("w/data.pkl", content if isinstance(content, bytes) else pickled(content))
        for name, data in {"data/0": SIX, "version": b"3\n", **(records or {}), **more}.items():
            if data is not None:
                file.writestr(f"w/{name}", data)
    return out.getvalue()


def tensor(shape, strides, offset=0, storage=None, rebuild=torch._utils._rebuild_tensor_v2, *more):
    return Called(rebuild, Kept() if storage is None else storage, offset, shape, strides, False, OrderedDict(), *more)


def described(*arguments, **named):
    return archive({"a": tensor(*arguments, **named)})


def saved(content, **named):
    out = BytesIO()
    torch.save(content, out, **named)
    return out.getvalue()


def twice_named():
    out = BytesIO(archive({"a": tensor((6,), (1,))}))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as file:
        file.writestr("w/data/0", SIX)
    return out.getvalue()


def of_header(header, data=SIX, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(6,), start=0, end=24, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def nested_tuples(depth):
    """Of few bytes, whose hash or text takes 2 to the power of their depth: GET 0, GET 0, TUPLE2, PUT 0."""
    return b"\x80\x02K\x01q\x00" + b"h\x00h\x00\x86q\x00" * depth


def sparse():
    return torch.eye(3).to_sparse()


def quantised():
    return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


LEGACY = saved({"a": torch.arange(6.0)}, _use_new_zipfile_serialization=False)

ODD = {
    "empty.pth": (lambda: b"", "torn"),
    "text.pth": (lambda: b"these are no weights at all\n" * 9, "not a sound pickle of weights"),
    "page.pth": (lambda: b"<!DOCTYPE html><html>not found</html>", "is a web page"),
    "pointer.pth": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "torn.pth": (lambda: saved({"a": torch.zeros(99)})[:-300], "not a sound torch file"),
    "torn_pickle.pkl": (lambda: pickle.dumps({"a": np.zeros(99)})[:-300], "torn"),
    "nothing.pth": (lambda: b"PK\5\6" + bytes(18), "an archive without data.pkl"),
    "other_archive.pth": (lambda: archive({}).replace(b"w/data.pkl", b"w/dota.pkl"), "an archive without data.pkl"),
    "script.pth": (lambda: archive({}, {"code/a.py": b"", "constants.pkl": b""}), "is a TorchScript program"),
    "compressed.pth": (
        lambda: archive({"a": tensor((6,), (1,))}, {"data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "two_records.pth": (twice_named, r"two records 'w/data/0'"),
    "no_record.pth": (
        lambda: archive({"a": tensor((6,), (1,))}, {"data/0": None}),
        "entry 'a' .*record '0', which is not",
    ),
    "more_than_stored.pth": (
        lambda: described((6,), (1,), 0, Kept(10**12)),
        "entry 'a' has 24 bytes of values stored, and says 4000000000000",
    ),
    "less_than_stored.pth": (lambda: described((2,), (1,), 0, Kept(2)), "has 24 bytes of values stored, and says 8"),
    "past_the_end.pth": (
        lambda: archive({"a": tensor((6,), (1,))}).replace(struct.pack("<II", 24, 24), struct.pack("<II", 9999, 9999)),
        "goes past the end",
    ),
    "other_order.pth": (lambda: archive({"a": tensor((6,), (1,))}, {"byteorder": b"big"}), "in the order big"),
    "large_shape.pth": (lambda: described((10**6, 10**6), (10**6, 1)), r"'a' of shape \[1000000, 1000000\] reaches to"),
    "expanded.pth": (lambda: described((10**6, 10**6), (0, 0)), r"of shape .* written out, .* more than"),
    "much_expanded.pth": (lambda: described((2**39,) * 9, (0,) * 9), r"of shape .* written out, .* more than"),
    "negative_size.pth": (lambda: described((-6,), (1,)), "'a' has -6 among its sizes, strides and offset"),
    "negative_stride.pth": (lambda: described((6,), (-1,), 5), "has -1 among its sizes"),
    "negative_offset.pth": (lambda: described((6,), (1,), -1), "has -1 among its sizes"),
    "large_number.pth": (lambda: described((10**600,), (1,)), "has 1000.* among its sizes"),
    "shape_of_texts.pth": (lambda: described(("6",), (1,)), "has a str among its sizes"),
    "no_shape.pth": (lambda: described(None, (1,)), "'a' has no shape"),
    "other_strides.pth": (lambda: described((6,), (1, 1)), "and 2 strides"),
    "no_storage.pth": (lambda: described((6,), (1,), 0, {}), "'a' has no storage"),
    "no_such_storage.pth": (
        lambda: archive(pickled({"a": tensor((6,), (1,))}).replace(b"FloatStorage", b"FloatTensorr")),
        "would execute code: torch.FloatTensorr",
    ),
    "many_views.pth": (
        lambda: archive(
            {f"{i}": tensor((1 << 18,), (1,), 0, Kept(1 << 18)) for i in range(40)}, {"data/0": bytes(1 << 20)}
        ),
        r"entry '\d+' of shape \[262144\] is refused: written out",
    ),
    "complex.pth": (lambda: saved({"a": torch.zeros(3, dtype=torch.complex64)}), "'a' is of type torch.complex64"),
    "sparse.pth": (lambda: saved({"a": sparse()}), "'a' is a sparse tensor"),
    "quantised.pth": (lambda: saved({"a": quantised()}), "'a' is a quantised tensor"),
    "meta.pth": (lambda: saved({"a": torch.zeros(3, device="meta")}), "'a' is a meta tensor, which holds no values"),
    "negative_bit.pth": (
        lambda: described((6,), (1,), 0, None, torch._utils._rebuild_tensor_v2, {"neg": True}),
        "negative",
    ),
    "of_code.pth": (lambda: archive({"a": Called(Path.cwd)}), "would execute code: "),
    "network.pth": (lambda: saved(nn.Linear(2, 2)), r"would execute code: torch\.nn.*save the weights alone"),
    "room.pth": (lambda: archive({"a": Called(bytearray, 10**12)}), "'a' is a bytearray; weights are plain tensors"),
    "tensor_of_size.pth": (
        lambda: archive({"a": Called(torch.FloatTensor, 10**12)}),
        "'a' is a tensor of an old format",
    ),
    "key_of_tuples.pth": (lambda: archive(nested_tuples(99) + b"}h\x00K\x01s."), "a tuple is a key"),
    "tuples.pth": (lambda: archive(nested_tuples(99) + b"."), "holds a tuple, not weights by name"),
    "count_of_tuples.pth": (
        lambda: archive(nested_tuples(99) + b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aK\0h\0tQ."),
        "a storage that is none",
    ),
    "operation.pth": (lambda: archive(b"\x80\x02\x82\x01."), "no pickle of weights has operation 0x82"),
    "place_of_memo.pkl": (lambda: b"\x80\x02Nr\xff\xff\xff\x7f.", "holds a NoneType"),
    "many_steps.pkl": (lambda: b"\x80\x02" + b"N0" * 600_000 + b".", "takes more than 1000000 steps"),
    "copies.pkl": (
        lambda: (
            b"\x80\x02c_codecs\nencode\nq\x00X\x00\x10\x00\x00"
            + b"a" * 4096
            + b"q\x010"
            + b"h\x00h\x01\x85R" * 99
            + b"."
        ),
        "copies its content over and over",
    ),
    "long_text.pkl": (lambda: b"\x80\x04\x8d" + struct.pack("<Q", 10**15) + b"a", "1000000000000000 bytes are to come"),
    "long_bytes.pkl": (
        lambda: b"\x80\x05\x96" + struct.pack("<Q", 10**15) + b"a",
        "1000000000000000 bytes are to come",
    ),
    "deep.pkl": (lambda: b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "holds a list"),
    "objects.pkl": (
        lambda: pickle.dumps({"a": np.array([None, 1], object)}),
        "array of something else than plain numbers",
    ),
    "records.pkl": (
        lambda: pickle.dumps({"a": np.zeros(2, [("x", "f4")])}),
        "array of something else than plain numbers",
    ),
    "complex.pkl": (lambda: pickle.dumps({"a": np.zeros(2, complex)}), "array of something else than plain numbers"),
    "lying_array.pkl": (
        lambda: pickle.dumps({"a": np.zeros((77, 3), np.uint8)}, 2).replace(b"KMK\x03", b"KNK\x03"),
        r"shape \[78, 3\] needs 234 bytes, and 231 bytes are stored",
    ),
    "numbered.pth": (lambda: saved({1: torch.zeros(2)}), "entry 1 is named by a int, not a text"),
    "text_entry.pth": (lambda: saved({"\x1b[2J" * 999: "x"}), r"entry '\\x1b\[2J.*characters\) is a str"),
    "torn_old.pth": (lambda: LEGACY[:-3], "goes past the end|torn"),
    "torn_old_head.pth": (lambda: LEGACY[:-30], "torn"),
    "short.safetensors": (lambda: b"\x01", "not a sound"),
    "long_header.safetensors": (
        lambda: of_header({"a": entry()}, length=10**15),
        "header should have 1000000000000000",
    ),
    "huge_header.safetensors": (lambda: of_header(b"{}" + b" " * (17 << 20)), "header has 17825794 bytes"),
    "twice.safetensors": (
        lambda: of_header(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}"),
        "the key 'a' stands twice",
    ),
    "deep.safetensors": (lambda: of_header(b'{"a":' * 99_999), "not a sound"),
    "digits.safetensors": (lambda: of_header(b'{"a":' + b"1" * 9_999 + b"}"), "not a sound"),
    "overlapping.safetensors": (lambda: of_header({"a": entry(), "b": entry()}), "not a sound"),
    "hole.safetensors": (lambda: of_header({"a": entry((5,), 4)}), "not a sound"),
    "shape.safetensors": (lambda: of_header({"a": entry((10**9, 10**9))}), "not a sound"),
    "negative.safetensors": (lambda: of_header({"a": entry((-6,))}), "not a sound"),
    "list.safetensors": (lambda: of_header([1]), "not a sound"),
    "metadata.safetensors": (lambda: of_header({"__metadata__": {"a": {"b": 1}}, "a": entry()}), "not a sound"),
    "complex.safetensors": (lambda: of_header({"a": entry((3,), dtype="C64")}), "entry 'a' is of type 'C64'"),
    "none.safetensors": (lambda: of_header({}, b""), "holds no tensors"),
    "cut.safetensors": (lambda: save({"a": torch.zeros(9)})[:-5], "not a sound"),
}


@pytest.mark.filterwarnings(
    "ignore:torch.quantize", "ignore:.*quant.*:UserWarning", "ignore:.*quant.*:DeprecationWarning"
)
@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_one_short_error_that_names_it_and_what_is_odd(tmp_path, name):
    make, words = ODD[name]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.read_tensors(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ") and len(told) < len(str(path)) + 400 and told.isprintable()
    runs = ("of_code.pth", "network.pth", "no_such_storage.pth")
    assert ("would execute code" in told) == (name in runs)


@pytest.mark.filterwarnings("ignore:.*quant.*")
def test_odd_files_take_no_memory(tmp_path):
    for name, (make, _) in ODD.items():
        (tmp_path / name).write_bytes(make())
    program = """
import resource, sys
from vis_core import checkpoints
from vis_core.errors import CheckpointError
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, refused = most(), 0
for path in sys.argv[1:]:
    try:
        checkpoints.read_tensors(path)
    except CheckpointError:
        refused += 1
print(refused, most() - before)
"""
    arguments = [sys.executable, "-c", program, *(str(tmp_path / name) for name in ODD)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    refused, kibibytes = map(int, done.stdout.split())
    assert refused == len(ODD)
    assert kibibytes < 150 << 10


@pytest.mark.parametrize("name", ["old.pth", "new.pth", "arrays.pkl", "new.safetensors"])
def test_a_file_with_any_bytes_changed_is_read_or_refused_in_words(tmp_path, name):
    state = nn.Linear(3, 2).state_dict()
    content = {
        "old.pth": lambda: saved({"model": state, "epoch": 3}, _use_new_zipfile_serialization=False),
        "new.pth": lambda: saved({"model": state, "epoch": 3}),
        "arrays.pkl": lambda: pickle.dumps({key: x.numpy() for key, x in state.items()}, 4),
        "new.safetensors": lambda: save(state),
    }[name]()
    random, path = np.random.default_rng(1), tmp_path / name
    for _ in range(150):
        changed = bytearray(content)
        for at in random.integers(0, len(content), random.integers(1, 5)):
            changed[at] = random.choice([0, 255, 127, *b".R(b0}s", random.integers(256)])
        path.write_bytes(changed)
        try:
            assert checkpoints.read_tensors(path)[0]
        except CheckpointError as error:
            assert len(str(error)) < len(str(path)) + 400 and str(error).isprintable()  # noqa: PT017


def test_weights_that_two_entries_share_and_views_are_read_as_they_are(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    content = {
        "whole": whole,
        "again": whole,
        "turned": whole.T,
        "part": whole[1:3, ::2],
        "none": whole[:0],
        "one": whole[3, 5],
    }
    content["spread"] = torch.arange(3.0).expand(5, 3)
    for legacy in (False, True):
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
        tensors, _ = checkpoints.read_tensors(tmp_path / "w.pth")
        assert all(torch.equal(tensors[key], x) and tensors[key].stride() == x.stride() for key, x in content.items())


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
    ],
)
def test_every_type_of_plain_numbers_is_read(tmp_path, dtype):
    x = torch.arange(6.0).reshape(2, 3).to(getattr(torch, dtype))
    torch.save({"a": x, "b": nn.Parameter(x.float())}, tmp_path / "w.pth")
    tensors, _ = checkpoints.read_tensors(tmp_path / "w.pth")
    assert tensors["a"].dtype == x.dtype and torch.equal(tensors["a"].float(), x.float())
    assert torch.equal(tensors["b"], x.float())


def test_what_lies_beside_the_weights_is_left_there(tmp_path):
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    beside = {
        "optimizer": optimizer.state_dict(),
        "sparse": sparse(),
        "seen": {1, 2},
        "path": tmp_path,
        "device": torch.device("cpu"),
    }
    torch.save({"state_dict": network.state_dict(), **beside}, tmp_path / "w.pth")
    tensors, _ = checkpoints.read_tensors(tmp_path / "w.pth")
    assert {key: x.tolist() for key, x in tensors.items()} == {
        key: x.tolist() for key, x in network.state_dict().items()
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(10**6, 1).expand(10**6, 10**6), r"1 misshapen: weight \[1000000, 1000000\], expected \[2, 3\]"),
        (torch.zeros(2, 3, device="meta"), "1 misshapen: weight of torch.float32 .meta"),
        (torch.zeros(2, 3).to_sparse(), "1 misshapen: weight of torch.float32 .torch.sparse_coo"),
        (torch.zeros(2, 3, dtype=torch.complex64), "1 misshapen: weight of torch.complex64"),
        (torch.zeros(2, 3, dtype=torch.int8), "1 misshapen: weight of torch.int8, expected torch.float32"),
        (torch.zeros(2, 3, dtype=torch.bool), "1 misshapen: weight of torch.bool, expected torch.float32"),
        (torch.full((2, 3), 1e300, dtype=torch.float64), "1 not finite: weight"),
        (torch.full((2, 3), float("inf"), dtype=torch.float16), "1 not finite: weight"),
        (torch.full((2, 3), float("nan"), dtype=torch.bfloat16), "1 not finite: weight"),
        (torch.full((2, 3), float("nan")).to(torch.float8_e4m3fn), "1 not finite: weight"),
        (torch.full((2, 3), float("inf")).to(torch.float8_e5m2), "1 not finite: weight"),
    ],
)
def test_tensors_that_cannot_be_the_network_s_are_named_whatever_their_type(given, words):
    module = nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match=words):
        checkpoints.load_tensors(module, {"weight": given, "bias": torch.zeros(2)}, "w.pth")
    if "not finite" in words:
        with pytest.raises(CheckpointError, match=words.removeprefix("1 ")):
            checkpoints.load_fitting(module, {"weight": given, "bias": torch.zeros(2)}, "w.pth")
    else:
        checkpoints.load_fitting(module, {"weight": given, "bias": torch.zeros(2)}, "w.pth")
    assert bool(module.weight.isfinite().all())


def test_a_count_stored_as_a_float_must_be_finite():
    module = nn.BatchNorm2d(1)
    state = module.state_dict()
    checkpoints.load_tensors(module, {**state, "num_batches_tracked": torch.tensor(5.0)}, "w.pth")
    assert int(module.num_batches_tracked) == 5
    with pytest.raises(CheckpointError, match="1 not finite: num_batches_tracked"):
        checkpoints.load_tensors(module, {**state, "num_batches_tracked": torch.tensor(float("nan"))}, "w.pth")
