"""ONNX and QONNX files as graphs: parsed without trust, brought to the current opset, shapes inferred."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.graph import Graph, Node, Value
from ..graph.shapes import ShapeTracker
from ..storage import ImportModelError
from .onnx_checks import check_attributes, check_numbers
from .onnx_schema import QONNX_DOMAINS, check_types, conform
from .onnx_tensors import TensorReader, dtype_of
from .onnx_versions import OLDEST_OPSET, modernise
from .onnx_wire import check_wire

__all__ = ["load_onnx"]

_FILE_LIMIT = (1 << 31) - 1


def load_onnx(path: str | Path) -> Graph:
    """The graph that an ONNX or QONNX file holds, opset 9 to current, with every shape known.

    Constants that nodes compute from constants stay nodes; `fold_constants` computes them.

    Raises:
        ImportModelError: the file is missing, damaged, or holds what isn't supported; one line with the
            file, the node and the reason.
    """
    source = Path(path)
    try:
        return _Reader(source).graph()
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
    except (MemoryError, RecursionError) as fault:
        reason = f"it is too large or nested too deeply ({type(fault).__name__})"
    except (ValueError, TypeError, OverflowError) as fault:
        reason = str(fault)
    raise ImportModelError(f"{_one_line(str(source))}: {_one_line(reason)}")


def _one_line(text: str) -> str:
    """`text` without line breaks and control characters, at most 300 characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:300]


def _parse(source: Path) -> Any:
    """The file's ModelProto."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > _FILE_LIMIT:
            raise ValueError(f"it has {size} bytes; an ONNX file has at most {_FILE_LIMIT}")
        data = file.read(size)
    check_wire(data, onnx.ModelProto.DESCRIPTOR)
    try:
        # what it says of external files is ignored here, and read by TensorReader
        return onnx.load_model_from_string(data)
    except DecodeError:
        raise ValueError("it is no ONNX file, or damaged: its protocol buffer can't be read") from None


class _Reader:
    """One file on its way to a graph."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._model = _parse(source)
        self._opset = _opset(self._model)
        self._tensors = TensorReader(source.parent)
        self._tracker = ShapeTracker()
        self._constants: dict[str, NDArray[Any]] = {}
        self._nodes: list[Node] = []

    def graph(self) -> Graph:
        """The whole file."""
        proto = self._model.graph
        if self._model.functions or proto.sparse_initializer:
            raise ValueError("local functions and sparse tensors are not supported: export without them")
        for tensor in proto.initializer:
            if not tensor.name or tensor.name in self._constants:
                raise ValueError(f"initializer {tensor.name!r:.80}: the name is empty or stands twice")
            with _at(f"initializer {tensor.name!r:.80}"):
                array = self._tensors.read(tensor)
            self._constant(tensor.name, array)
        inputs = self._inputs(proto)
        qonnx = any(node.domain in QONNX_DOMAINS for node in proto.node)
        for node in _ordered(self._raw(proto), {*self._constants, *inputs}):
            self._add(node)
        outputs = tuple(value.name for value in proto.output)
        if not outputs or len(set(outputs)) != len(outputs):
            raise ValueError("a graph must have outputs, and each once")
        return Graph(
            name=proto.name or self._source.stem,
            source="qonnx" if qonnx else "onnx",
            inputs=inputs,
            outputs=outputs,
            nodes=tuple(self._nodes),
            constants=self._constants,
            values=self._tracker.values,
        )

    def _constant(self, name: str, array: NDArray[Any]) -> None:
        if name in self._tracker.values:
            raise ValueError(f"value {name!r:.80} is made twice")
        self._constants[name] = array
        self._tracker.add_value(Value(name=name, shape=array.shape, dtype=array.dtype), array)

    def _inputs(self, proto: Any) -> tuple[str, ...]:
        names: list[str] = []
        seen: set[str] = set()
        for info in proto.input:
            if not info.name or info.name in seen:
                raise ValueError(f"input {info.name!r:.80}: the name is empty or stands twice")
            seen.add(info.name)
            # before IR version 4 every initialiser was an input, too
            if info.name not in self._constants:
                with _at(f"input {info.name!r:.80}"):
                    self._tracker.add_value(_input(info))
                names.append(info.name)
        return tuple(names)

    def _raw(self, proto: Any) -> list[Node]:
        """The file's nodes as they stand, each checked against its operator's schema."""
        nodes: list[Node] = []
        taken = {node.name for node in proto.node}
        seen: set[str] = set()
        for i, node in enumerate(proto.node):
            name = node.name
            if not name:
                name = f"{node.op_type}_{i}"
                while name in taken:
                    name += "_"
                taken.add(name)
            if name in seen:
                raise ValueError(f"node {name!r:.80}: the name stands twice")
            seen.add(name)
            with _at(f"node {name!r:.80} ({node.op_type:.40})"):
                nodes.append(conform(node, name, self._opset, self._tensors))
        return nodes

    def _add(self, node: Node) -> None:
        if node.op == "Constant":
            (array,) = node.attributes.values()
            self._constant(node.outputs[0], np.asarray(array))
            return

        where = f"node {node.name!r:.80} ({node.op})"
        with _at(where):
            check_types(node, self._opset, self._tracker.values)
            modern = modernise(node, self._opset, self._tracker.values, self._tracker.known)
            for name, array in modern.constants.items():
                self._constant(name, array)
        for new in modern.nodes:
            if taken := [name for name in new.outputs if name in self._tracker.values]:
                raise ValueError(f"{where}: its result {taken[0]!r:.80} is already made")
            with _at(where):
                check_attributes(new)
            self._tracker.add_node(new)
            with _at(where):
                check_numbers(new, [self._constants.get(n, self._tracker.known.get(n)) for n in new.inputs])
            self._nodes.append(new)


@contextmanager
def _at(where: str) -> Iterator[None]:
    """A context whose errors get `where` before them."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, OSError) as fault:
        raise ValueError(f"{where}: {fault}") from None


def _opset(model: Any) -> int:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if domain in versions:
            raise ValueError(f"it imports the operators of {domain or 'ai.onnx'!r:.40} twice")
        versions[domain] = entry.version
    if not model.HasField("graph") or "" not in versions:
        raise ValueError("it is no ONNX model: it has no graph, or names no opset of ai.onnx")
    if not OLDEST_OPSET <= versions[""] <= newest:
        raise ValueError(
            f"it has opset {versions['']}; {OLDEST_OPSET} to {newest} are read: "
            "bring it there with onnx.version_converter"
        )
    return versions[""]


def _input(info: Any) -> Value:
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField("shape"):
        raise ValueError("it must be a tensor whose shape is given")
    dtype = dtype_of(info.type.tensor_type.elem_type)
    shape: list[int] = []
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        size = dim.dim_value if dim.WhichOneof("value") == "dim_value" else 0
        if size < 1:
            if axis or size < -1:
                named = f" ({dim.dim_param:.40})" if dim.dim_param else ""
                raise ValueError(f"axis {axis}{named} is dynamic: export the network with a fixed size")
            size = 1
        shape.append(size)
    return Value(name=info.name, shape=tuple(shape), dtype=dtype)


def _ordered(nodes: Sequence[Node], known: set[str]) -> list[Node]:
    """The nodes in an order in which they can run, the file's own where that is one."""
    made: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in node.outputs:
            if not name:
                continue
            if name in made or name in known:
                raise ValueError(f"node {node.name!r:.80}: its result {name!r:.80} is already made")
            made[name] = i
    waits: list[int] = []
    takers: Mapping[int, list[int]] = {i: [] for i in range(len(nodes))}
    for i, node in enumerate(nodes):
        sources = set()
        for name in node.inputs:
            if name in made:
                sources.add(made[name])
            elif name and name not in known:
                raise ValueError(f"node {node.name!r:.80}: its operand {name!r:.80} is made by no node")
        waits.append(len(sources))
        for source in sources:
            takers[source].append(i)
    ready = [i for i, n in enumerate(waits) if not n]
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for taker in takers[i]:
            waits[taker] -= 1
            if not waits[taker]:
                heapq.heappush(ready, taker)
    if len(order) < len(nodes):
        stuck = next(i for i, n in enumerate(waits) if n)
        raise ValueError(f"node {nodes[stuck].name!r:.80}: it waits for its own result, a cycle")
    return [nodes[i] for i in order]
