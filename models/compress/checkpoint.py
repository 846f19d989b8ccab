"""A subject between passes as one file, so that an interrupted run goes on; nothing is pickled."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, Value
from .subject import Encoding, Mask, Masked, Subject
from .trainable import TrainableGraph
from .weight_codes import code_from_arrays, code_to_arrays

__all__ = ["read_checkpoint", "write_checkpoint"]

_Arrays = dict[str, NDArray[Any]]
_VERSION = 1


def write_checkpoint(path: Path, subject: Subject, record: dict[str, Any]) -> None:
    """Nothing; writes the subject and the run's record so far, whole or not at all."""
    arrays: _Arrays = {}
    graph = subject.model.to_graph()
    header: dict[str, Any] = {
        "version": _VERSION,
        "record": record,
        "notes": subject.notes,
        "graph": _graph_header(graph, arrays),
        "masks": {},
        "codes": {},
        "encodings": {name: dataclasses.astuple(code) for name, code in subject.encodings.items()},
    }
    for name, mask in subject.masks.items():
        header["masks"][name] = [mask.granularity, _put(arrays, mask.kept)]
    for name, code in subject.codes.items():
        header["codes"][name] = {key: _put(arrays, array) for key, array in code_to_arrays(code).items()}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path, subject: Subject) -> dict[str, Any] | None:
    """The record that was written with a subject, whose state `subject` takes on; None if there is none.

    A file that is damaged or of another version counts as none.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays["header"].tobytes())
        if header["version"] != _VERSION:
            return None
        model = TrainableGraph(_graph(header["graph"], arrays))
        masks = {
            name: Mask(kept=arrays[key], granularity=granularity)
            for name, (granularity, key) in header["masks"].items()
        }
        codes = {
            name: code_from_arrays({key: arrays[place] for key, place in parts.items()})
            for name, parts in header["codes"].items()
        }
        encodings = {
            name: Encoding(name=kind, streams=streams)
            for name, (kind, streams) in header["encodings"].items()
        }
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return None
    subject.model, subject.masks, subject.codes, subject.encodings = model, masks, codes, encodings
    subject.notes = header["notes"]
    for name, mask in masks.items():
        if name not in codes:
            model.set_transform(name, Masked(mask.kept))
    record: dict[str, Any] = header["record"]
    return record


def _put(arrays: _Arrays, array: NDArray[Any]) -> str:
    key = f"a{len(arrays)}"
    arrays[key] = array
    return key


def _graph_header(graph: Graph, arrays: _Arrays) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {"array": _put(arrays, value)}
        return list(value) if isinstance(value, tuple) else value

    return {
        "name": graph.name,
        "source": graph.source,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "nodes": [
            [n.op, n.name, list(n.inputs), list(n.outputs), {k: plain(v) for k, v in n.attributes.items()}]
            for n in graph.nodes
        ],
        "constants": {name: _put(arrays, array) for name, array in graph.constants.items()},
        "values": [[v.name, list(v.shape), v.dtype.str] for v in graph.values.values()],
    }


def _graph(header: dict[str, Any], arrays: _Arrays) -> Graph:
    def value(found: Any) -> Any:
        if isinstance(found, dict):
            return arrays[found["array"]]
        return tuple(found) if isinstance(found, list) else found

    return Graph(
        name=header["name"],
        source=header["source"],
        inputs=tuple(header["inputs"]),
        outputs=tuple(header["outputs"]),
        nodes=tuple(
            Node(
                op=op,
                name=name,
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                attributes={key: value(found) for key, found in attributes.items()},
            )
            for op, name, inputs, outputs, attributes in header["nodes"]
        ),
        constants={name: arrays[key] for name, key in header["constants"].items()},
        values={
            name: Value(name=name, shape=tuple(shape), dtype=np.dtype(dtype))
            for name, shape, dtype in header["values"]
        },
    )
