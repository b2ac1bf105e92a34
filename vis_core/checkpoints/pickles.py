"""Pickles of weights, read without calling anything that they name.

A pickle is a program: it names functions and has them called. Here a name stands for a function of this module, which
makes a description (`StoredTensor`, `StoredArray`), or for `Other`, which holds nothing; every other name is refused.
So what reading takes is bounded by the length of the file, and by a number of steps.

PyTorch's own ``weights_only=True`` executes nothing either, but calls ``bytearray``, ``Tensor`` and what sets a
tensor's size with what the file says, each of which may take all memory. A child process with a limit would bound that
too, at the price of loading torch once more for each file, and of a limit that suits every machine and file.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch

from vis_core.errors import CheckpointError, printable

MAX_STEPS = 1_000_000
"""Of a pickle, each of a few bytes: a thousand tensors take fifty thousand, and their optimizer's state thrice that."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where values of tensors lie: the key of the record, the type of a value (None: bytes), and how many there are."""

    key: str
    dtype: torch.dtype | None
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it is described, its numbers not yet checked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    dtype: torch.dtype | None


@dataclass(slots=True)
class StoredArray:
    """A NumPy array as it is described, its numbers not yet checked."""

    dtype: Any = None
    shape: Any = ()
    data: Any = b""
    fortran: bool = False


class Other:
    """Something harmless that is no plain tensor; arguments and state are left away."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, *_: object) -> Other:
        return Other(self.what)


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any = None, __: Any = None, metadata: Any = None
) -> Any:
    return _typed_tensor(storage, offset, shape, strides, None, None, None, metadata)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, metadata: Any = None
) -> Any:
    if metadata:
        return Other("tensor whose values are stored conjugate or negative")
    return StoredTensor(storage, offset, shape, strides, dtype)


def _first(data: Any = None, *_: object) -> Any:
    return data


def _of_a_class(function: Any, _: Any, arguments: Any, *__: object) -> Any:
    return _of_file(function)(*arguments)


def _dtype(text: Any, *_: object) -> Any:
    plain = isinstance(text, str) and len(text) <= 3 and text[-1:].isdigit() and text[:1] in tuple("fiub")
    return np.dtype(text) if plain else Other("NumPy type")


def _array_of_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> StoredArray:
    return StoredArray(dtype, shape, data, order == "F")


def _empty_array(*_: object) -> StoredArray:
    return StoredArray()


_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
_STORAGES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
        "QInt8": torch.qint8,
        "QUInt8": torch.quint8,
        "QInt32": torch.qint32,
    }.items()
}


class _StorageType:
    """A class of storages, which is only ever an argument."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype


_NAMES: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type_v2": _of_a_class,
    "torch._utils._rebuild_sparse_tensor": Other("sparse tensor"),
    "torch._utils._rebuild_qtensor": Other("quantised tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": Other("meta tensor, which holds no values"),
    "torch._utils._rebuild_nested_tensor": Other("nested tensor"),
    "torch._utils._rebuild_wrapper_subclass": Other("tensor of a class of its own"),
    "torch._utils._rebuild_device_tensor_from_numpy": Other("tensor of another device"),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": Other("tensor of another device"),
    "torch.Size": _first,
    "torch.Tensor": Other("tensor of an old format"),
    "torch.device": Other("device"),
    "torch.serialization._get_layout": Other("layout"),
    "argparse.Namespace": Other("list of arguments"),
    "numpy.ndarray": Other("NumPy array"),
    "numpy.dtype": _dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _empty_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Other("NumPy number") for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array_of_bytes for core in ("core", "_core")},
    **{f"numpy.dtypes.{kind}DType": Other("NumPy type") for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")},
    **{f"pathlib.{kind}": Other("path") for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")},
    **{f"builtins.{name}": Other(name) for name in ("set", "frozenset", "complex", "bytearray", "slice", "range")},
    **{f"torch.{name}Tensor": Other("tensor of an old format") for name in ("Float", "Double", "Half", "Long")},
    **{f"torch.{name}": _StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch.{place}UntypedStorage": _StorageType(None) for place in ("", "storage.", "storage._")},
    **{name: dtype for name, dtype in _DTYPES.items() if name.startswith("torch.")},
    **{f"torch.per_{kind}": Other("kind of quantisation") for kind in ("tensor_affine", "channel_affine")},
}
_CALLED = frozenset(id(entry) for entry in _NAMES.values() if callable(entry))


def _of_file(function: Any) -> Callable[..., Any]:
    """What a pickle wants called, if it is one of ours: anything else has come in as a value."""
    if id(function) not in _CALLED and not isinstance(function, Other):
        raise CheckpointError(f"refused: it calls a {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def _check_key(key: object) -> None:
    # The hash of tuples within tuples may take for ever, and their depth the stack.
    if key is not None and not isinstance(key, (str, int, float, bytes)):
        raise CheckpointError(f"a {type(key).__name__} is a key of a mapping")


class _Operations(dict[int, Any]):
    def __missing__(self, code: int) -> Any:
        raise CheckpointError(f"not a sound file: no pickle of weights has operation {code:#04x}")


_PLAIN = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING
    SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 TUPLE TUPLE1
    TUPLE2 TUPLE3 EMPTY_TUPLE LIST EMPTY_LIST EMPTY_DICT GLOBAL STACK_GLOBAL BINPERSID PUT BINPUT LONG_BINPUT
    MEMOIZE GET BINGET LONG_BINGET POP POP_MARK
"""
_OWN = "BYTEARRAY8 FRAME REDUCE BUILD APPEND APPENDS SETITEM SETITEMS DICT EMPTY_SET ADDITEMS"
_MAX_ARGUMENTS = 32
_Pure: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the one in C makes room for what a file says


class _Unpickler(_Pure):  # type: ignore[misc]
    """Python's unpickler with the operations of weights alone, and none that calls or changes anything but ours."""

    dispatch = _Operations(
        {getattr(pickle, name)[0]: _Pure.dispatch[getattr(pickle, name)[0]] for name in _PLAIN.split()}
    )

    def __init__(self, source: _Source) -> None:
        super().__init__(source, encoding="latin1")
        self._room = source.size
        self._own = {
            "_codecs.encode": self._latin_bytes,
            "collections.OrderedDict": self._dictionary,
            "collections.Counter": self._dictionary,
        }

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        full = f"{module}.{name}"
        if full in _NAMES:
            return _NAMES[full]
        if full in self._own:
            return self._own[full]
        raise CheckpointError(
            f"refused, since loading it would execute code: {printable(full, 100)}; save the weights alone, as "
            "torch.save(model.state_dict(), PATH) does"
        )

    def persistent_load(self, identity: Any) -> Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise CheckpointError(
                "not a sound pickle of weights: something else than a storage lies outside of the pickle"
            )
        _, kind, key, _, count = identity[:5]
        if len(identity) == 6 and identity[5] is not None:
            raise CheckpointError("its storages are parts of others, as in old versions of torch; save it anew")
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise CheckpointError("not a sound pickle of weights: a storage that is none")
        return Storage(key, kind.dtype, count)

    def _latin_bytes(self, text: Any = "", *_: object) -> bytes:
        if not isinstance(text, str):
            raise CheckpointError(f"refused: it encodes a {type(text).__name__}")
        self._copy(len(text))
        return text.encode("latin1")

    def _dictionary(self, items: Any = (), *_: object) -> dict[Any, Any]:
        if isinstance(items, dict):
            return items
        self._copy(len(items))
        for key, _value in items:
            _check_key(key)
        return dict(items)

    def _copy(self, count: int) -> None:
        """Count what is copied: together it is no more than the file has."""
        self._room -= count
        if self._room < 0:
            raise CheckpointError("refused: it copies its content over and over")

    def load_bytearray8(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_frame(self) -> None:
        self.read(8)  # frames are for reading ahead

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if len(arguments) > _MAX_ARGUMENTS:
            raise CheckpointError(f"not a sound pickle of weights: something is made of {len(arguments)} arguments")
        own = any(function is entry for entry in self._own.values())
        self.stack[-1] = (function if own else _of_file(function))(*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, StoredArray):
            _, built.shape, built.dtype, built.fortran, built.data = state
        elif isinstance(built, np.dtype):
            if state[1] == (">" if sys.byteorder == "little" else "<"):
                raise CheckpointError("its arrays have their bytes in the other order; save it anew on this machine")
        elif not isinstance(built, (dict, Other, StoredTensor)):
            raise CheckpointError(f"refused: it changes a {type(built).__name__}")

    def load_append(self) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        if type(self.stack[-1]) is not list:
            raise CheckpointError(f"not a sound pickle of weights: it appends to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]  # type: ignore[no-any-return]

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise CheckpointError(f"not a sound pickle of weights: it sets keys of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key)
            target[key] = value

    def load_empty_set(self) -> None:
        self.append(Other("set"))

    def load_additems(self) -> None:
        self.pop_mark()


for _name in _OWN.split():
    _Unpickler.dispatch[getattr(pickle, _name)[0]] = getattr(_Unpickler, f"load_{_name.lower()}")
_Unpickler.dispatch[pickle.NEWOBJ[0]] = _Unpickler.load_reduce


class _Source:
    """The bytes of a file from where it stands: no more are taken than there are, nor more often than is due."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size
        self._steps = 0

    def read(self, count: int) -> bytes:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise CheckpointError(f"refused: its pickle takes more than {MAX_STEPS} steps, too many for weights")
        if count > self.size:
            raise CheckpointError(f"torn: {count} bytes are to come, more than it has")
        data = self._file.read(count)
        if len(data) < count:
            raise CheckpointError("torn: it ends within its pickle")
        return data

    def readline(self) -> bytes:
        self._steps += 1
        line = self._file.readline(self.size)
        if not line.endswith(b"\n"):
            raise CheckpointError("torn: a line does not end")
        return line


def load_pickle(file: BinaryIO, size: int) -> Any:
    """What the pickle holds that begins where a file stands; the file then stands behind it.

    Args:
        file: to read.
        size: bytes that it may take.

    Returns:
        Dicts, lists, tuples, texts, numbers, `StoredTensor`, `StoredArray`, `Other`.

    Raises:
        CheckpointError: it is torn, names something that would be called, or takes too much.
    """
    try:
        return _Unpickler(_Source(file, size)).load()
    except CheckpointError:
        raise
    except Exception as error:  # a torn or hostile pickle raises nearly anything
        told = f"{type(error).__name__}: {printable(error, 100)}"
        raise CheckpointError(f"not a sound pickle of weights: {told}") from error
