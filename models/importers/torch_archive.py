"""What a `.pt2` file of torch.export says: calls, shapes and weights, read without torch and without pickle.

A `.pt2` file is a zip archive, stored without compression, with the program as JSON and each tensor as raw
bytes. torch's own reader unpickles some of its parts; here these are refused (weights) or never looked at
(example inputs). Layout: torch/_export/serde/schema.py of torch 2.8 to 2.13, schema version 8.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Value
from ..graph.graph import MAX_ELEMENTS

__all__ = ["Call", "Program", "Ref", "SizeRef", "read_program"]

_SCHEMA = 8
_JSON_LIMIT = 1 << 25
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
}
"""torch's numbers of element types, those that NumPy has."""
_STRIDED = 7


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor by its name in the program."""

    name: str


@dataclass(frozen=True, slots=True)
class SizeRef:
    """A size that the program computes as it runs, by its name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of an operator."""

    name: str
    target: str
    """e.g. `torch.ops.aten.conv2d.default`."""
    arguments: Mapping[str, Any]
    """By the names of the operator's schema, those that differ from their defaults: plain values, `Ref`,
    `SizeRef` or lists of them."""
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """An exported program."""

    calls: tuple[Call, ...]
    inputs: tuple[Value, ...]
    """With the shapes that the file declares; a leading axis of unknown length is 1."""
    outputs: tuple[str, ...]
    constants: Mapping[str, tuple[str, NDArray[Any]]]
    """By name in the program: name in the module (`layer1.0.conv1.weight`) and values."""
    dtypes: Mapping[str, np.dtype[Any]]
    """As the file declares them, of what calls make."""


def read_program(file: IO[bytes]) -> Program:
    """The program in a `.pt2` file.

    Raises:
        ValueError: it is no such file, damaged, of another version, has pickled parts, more than one
            program, a size that isn't fixed other than the batch, or a type NumPy lacks.
        KeyError, TypeError, RecursionError: its JSON lacks something or is of another form.
        zipfile.BadZipFile, OSError: it can't be read.
    """
    with zipfile.ZipFile(file) as archive:
        return _Reader(archive).program()


class _Reader:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._bytes: dict[str, bytearray] = {}
        for member in archive.infolist():
            # The folder on top is called as the file was when it was written.
            path = member.filename.partition("/")[2] or member.filename
            if path in self._members:
                raise ValueError(f"its part {path!r:.80} stands twice")
            self._members[path] = member

    def _read(self, path: str) -> bytearray:
        """A part of the archive; arrays over it can be written, which torch asks of what it is lent."""
        if path not in self._members:
            raise ValueError(f"it lacks the part {path!r:.80}")
        member = self._members[path]
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"its part {path!r:.80} is compressed, which torch.export.save never does")
        if path not in self._bytes:
            self._bytes[path] = bytearray(self._archive.read(member))
        return self._bytes[path]

    def _json(self, path: str) -> Any:
        if path in self._members and self._members[path].file_size > _JSON_LIMIT:
            raise ValueError(f"its part {path!r:.80} is larger than {_JSON_LIMIT >> 20} MiB")
        return json.loads(self._read(path).decode("utf-8"))

    def program(self) -> Program:
        if "serialized_exported_program.json" in self._members or "version" in self._members:
            raise ValueError("it is of torch 2.7 or older, with pickled weights: export it again")
        if "archive_format" not in self._members or self._read("archive_format") != b"pt2":
            raise ValueError("it is no .pt2 file of torch.export.save")
        if self._read("byteorder") != b"little":
            raise ValueError("its byte order must be little")
        models = [
            path[7:-5] for path in self._members if path.startswith("models/") and path.endswith(".json")
        ]
        if len(models) != 1:
            raise ValueError(f"it must hold one program, not {len(models)}")
        table = self._json(f"models/{models[0]}.json")
        if table["schema_version"]["major"] != _SCHEMA:
            found = table["schema_version"]["major"]
            raise ValueError(f"its schema version is {found!r:.20}; {_SCHEMA} is read (torch 2.8 and later)")
        module = table["graph_module"]
        graph, signature = module["graph"], module["signature"]
        inputs, constants = self._inputs(signature["input_specs"], models[0])
        declared = graph["tensor_values"]
        return Program(
            calls=tuple(_call(entry) for entry in _list(graph["nodes"], "nodes")),
            inputs=tuple(_input(name, declared[name]) for name in inputs),
            outputs=_outputs(signature["output_specs"]),
            constants=constants,
            dtypes={
                name: np.dtype(_DTYPES[meta["dtype"]])
                for name, meta in declared.items()
                if meta["dtype"] in _DTYPES
            },
        )

    def _inputs(self, specs: Any, model: str) -> tuple[tuple[str, ...], dict[str, tuple[str, NDArray[Any]]]]:
        """Names of the program's inputs, and the constants among them."""
        inputs: list[str] = []
        constants: dict[str, tuple[str, NDArray[Any]]] = {}
        payloads: dict[str, Any] = {}
        for folder, part in (("weights", "weights"), ("constants", "constants")):
            config = self._json(f"data/{folder}/{model}_{part}_config.json")["config"]
            payloads |= {name: (folder, entry) for name, entry in config.items()}
        for spec in _list(specs, "input_specs"):
            ((kind, entry),) = spec.items()
            if kind == "user_input":
                if "as_tensor" not in entry["arg"]:
                    raise ValueError("an input of the program is no tensor")
                inputs.append(_text(entry["arg"]["as_tensor"]["name"]))
            elif kind in ("parameter", "buffer", "tensor_constant"):
                name = _text(entry[f"{kind}_name"])
                if name not in payloads:
                    raise ValueError(f"it lacks the values of {name!r:.80}")
                folder, payload = payloads[name]
                constants[_text(entry["arg"]["name"])] = name, self._tensor(name, folder, payload)
            else:
                raise ValueError(f"an input of the program is a {kind!r:.40}, which can't be read")
        return tuple(inputs), constants

    def _tensor(self, name: str, folder: str, payload: Any) -> NDArray[Any]:
        """A tensor of the archive; a view of the bytes as they lie there."""
        if payload["use_pickle"] is not False:
            raise ValueError(f"{name!r:.80} is pickled, and nothing is unpickled here")
        meta = payload["tensor_meta"]
        dtype = _dtype(name, meta)
        if meta["layout"] != _STRIDED:
            raise ValueError(f"{name!r:.80} must be a dense tensor, not of layout {meta['layout']!r:.20}")
        sizes = [_whole(entry["as_int"], name) for entry in meta["sizes"]]
        strides = [_whole(entry["as_int"], name) for entry in meta["strides"]]
        offset = _whole(meta["storage_offset"]["as_int"], name)
        data = self._read(f"data/{folder}/{_text(payload['path_name'])}")
        stored = len(data) // dtype.itemsize
        count = math.prod(sizes)
        if len(strides) != len(sizes) or count > min(stored, MAX_ELEMENTS):
            raise ValueError(f"{name!r:.80} claims shape {sizes!s:.60}, but {stored} values are stored")
        if count == 0:
            raise ValueError(f"{name!r:.80} has no values")
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if last >= stored:
            raise ValueError(f"{name!r:.80} reaches beyond the {stored} values that are stored")
        flat = np.frombuffer(data, dtype, stored)[offset:]
        if dtype.kind == "b" and flat.view(np.uint8).max() > 1:
            raise ValueError(f"{name!r:.80} holds bytes other than 0 and 1")
        return np.lib.stride_tricks.as_strided(flat, sizes, [step * dtype.itemsize for step in strides])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name must be text, not {type(value).__name__}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{what} must be a list, not {type(value).__name__}")
    return value


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ELEMENTS:
        raise ValueError(f"{what!r:.80}: a size must be 0 to 2^28, not {value!r:.40}")
    return value


def _dtype(name: str, meta: Any) -> np.dtype[Any]:
    if meta["dtype"] not in _DTYPES:
        raise ValueError(f"{name!r:.80} has torch's element type {meta['dtype']!r:.20}, which NumPy lacks")
    return np.dtype(_DTYPES[meta["dtype"]])


def _input(name: str, meta: Any) -> Value:
    shape: list[int] = []
    for axis, size in enumerate(_list(meta["sizes"], "sizes")):
        if "as_int" in size:
            shape.append(_whole(size["as_int"], name))
        elif axis == 0:
            shape.append(1)
        else:
            raise ValueError(f"{name!r:.80}: axis {axis} has no fixed size; only the batch may vary")
    if shape[:1] not in ([], [1]):
        raise ValueError(f"{name!r:.80}: its batch of {shape[0]} is fixed; export with a batch of 1 or any")
    return Value(name=name, shape=tuple(shape), dtype=_dtype(name, meta))


def _outputs(specs: Any) -> tuple[str, ...]:
    outputs = []
    for spec in _list(specs, "output_specs"):
        ((kind, entry),) = spec.items()
        if kind == "user_output":
            if "as_tensor" not in entry["arg"]:
                raise ValueError("an output of the program is no tensor")
            outputs.append(_text(entry["arg"]["as_tensor"]["name"]))
        elif kind != "user_input_mutation":  # a ReLU that writes over the input: nobody sees it here
            raise ValueError(f"the program changes its state ({kind!r:.40}): export it after .eval()")
    return tuple(outputs)


def _call(entry: Any) -> Call:
    outputs: list[str] = []
    for output in _list(entry["outputs"], "outputs"):
        ((kind, value),) = output.items()
        if kind == "as_tensor":
            outputs.append(_text(value["name"]))
        elif kind == "as_tensors":
            outputs += [_text(part["name"]) for part in value]
        elif kind == "as_sym_int":
            outputs.append(_text(value["as_name"]))
        else:
            outputs.append("")
    target = _text(entry["target"])
    return Call(
        name=_text(entry["name"]) if entry.get("name") else (outputs or [target])[0],
        target=target,
        arguments={_text(arg["name"]): _argument(arg["arg"]) for arg in _list(entry["inputs"], "inputs")},
        outputs=tuple(outputs),
    )


def _argument(entry: Any) -> Any:
    """A value of the union that torch calls Argument; what can't be read is its kind, as text."""
    ((kind, value),) = entry.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Ref(_text(value["name"]))
    if kind == "as_tensors":
        return [Ref(_text(part["name"])) for part in value]
    if kind == "as_sym_int":
        return _size(value)
    if kind == "as_sym_ints":
        return [_size(part) for part in value]
    if kind in ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats", "as_bools"):
        return value
    return f"<{kind}>"


def _size(entry: Any) -> int | SizeRef:
    if "as_name" in entry:
        return SizeRef(_text(entry["as_name"]))
    value: int = entry["as_int"]
    return value
