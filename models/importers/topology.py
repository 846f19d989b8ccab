"""SCALE-Sim's topology files: a row a layer, as a convolution's sizes or as M, N, K of a product.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
    Layer, M, N, K,

The first row is the heading and a row ends in a comma, which may be missing. A ninth number under a heading
with "stride" in it is the stride along the width. A sparsity ratio (`N:M`) may come last; only dense ones are
read. A convolution whose name contains `DP` is depthwise: every channel has its own filters. Sizes include
the padding. Source: SCALE-Sim's `topology_utils.py`, version 3.0.0.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..graph import Graph, Node, Value
from ..storage import ImportModelError
from ..topology import MAX_SIZE, Topology, TopologyLayer, graph_topology, network_topology
from .model import HostStep, Model

__all__ = ["load_topology", "model_topology", "topology_graph", "topology_model"]

_FILE_LIMIT = 1 << 20
_ROWS = 10_000
_NAME_LIMIT = 200
_CONV = ("IFMAP height", "IFMAP width", "filter height", "filter width", "channels", "num filter", "strides")
_GEMM = ("M", "N", "K")


def load_topology(path: str | Path) -> Topology:
    """The layers of a SCALE-Sim topology file (`.csv`), in order; its name is the file's.

    Layers of the same name get a number behind it from the second on, since names tell layers apart.

    Raises:
        ImportModelError: no such file's form; names file, row, column and fault.
        OSError: the file can't be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        data = file.read(_FILE_LIMIT + 1)
    if len(data) > _FILE_LIMIT:
        raise ImportModelError(f"{path}: a topology must have at most {_FILE_LIMIT} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ImportModelError(f"{path}: byte {fault.start} is no UTF-8 text: not a topology file") from None
    rows = [
        (number, _cells(line)) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()
    ]
    if len(rows) > _ROWS:
        raise ImportModelError(f"{path}: a topology must have at most {_ROWS} rows, not {len(rows)}")
    if not rows:
        raise ImportModelError(f"{path}: is empty; row 1 must be the heading")
    (first, heading), *body = rows
    if len(heading) > 1 and all(cell.isdecimal() for cell in heading[1:4] if cell):
        raise ImportModelError(
            f"{path}: row {first}: must be the heading (SCALE-Sim skips it), not a layer's numbers"
        )
    if not body:
        raise ImportModelError(f"{path}: has a heading and no layers")
    form = _CONV if max(len(cells) for _, cells in body) > len(_GEMM) + 2 else _GEMM
    wide = form is _CONV and len(heading) > len(form) + 1 and "stride" in heading[len(form) + 1].lower()
    layers: list[TopologyLayer] = []
    taken: set[str] = set()
    for number, cells in body:
        try:
            layers.append(_layer(cells, form, wide, taken))
        except ValueError as fault:
            raise ImportModelError(f"{path}: row {number}: {fault}") from None
    return Topology(name=path.stem, layers=tuple(layers))


def topology_graph(topology: Topology) -> Graph:
    """The layers as a graph's Conv and MatMul nodes, each with an input and an output of its own.

    Weights are zeros that take no memory; a topology doesn't say how layers follow from one another.

    Raises:
        ValueError: a tensor with more values than a graph may hold; names it.
    """
    nodes, constants, values = [], {}, {}
    shapes: tuple[tuple[int, ...], ...]
    for layer in topology.layers:
        operands = (f"{layer.name}.input", f"{layer.name}.weight")
        height, width = layer.outputs()
        channels, filters = layer.channels * layer.groups, layer.filters * layer.groups
        if layer.is_product:
            node = Node(op="MatMul", name=layer.name, inputs=operands, outputs=(layer.name,))
            shapes = ((1, height, layer.window), (layer.window, filters), (1, height, filters))
        else:
            attributes = {
                "kernel_shape": (layer.filter_h, layer.filter_w),
                "strides": (layer.stride_h, layer.stride_w),
                "pads": (0, 0, 0, 0),
                "dilations": (layer.dilation_h, layer.dilation_w),
                "group": layer.groups,
            }
            node = Node(
                op="Conv", name=layer.name, inputs=operands, outputs=(layer.name,), attributes=attributes
            )
            shapes = (
                (1, channels, layer.ifmap_h, layer.ifmap_w),
                (filters, layer.channels, layer.filter_h, layer.filter_w),
                (1, filters, height, width),
            )
        nodes.append(node)
        for name, shape in zip((*operands, layer.name), shapes, strict=True):
            values[name] = Value(name=name, shape=shape, dtype=np.dtype(np.float32))
        constants[operands[1]] = np.broadcast_to(np.float32(0), shapes[1])
    return Graph(
        name=topology.name,
        source="topology",
        inputs=tuple(node.inputs[0] for node in nodes),
        outputs=tuple(node.name for node in nodes),
        nodes=tuple(nodes),
        constants=constants,
        values=values,
    )


def topology_model(path: str | Path) -> Model:
    """The model of a topology file: its graph, none of which runs on a core, since it has no values.

    Raises:
        ImportModelError: as `load_topology`; or a tensor is too large.
        OSError: the file can't be read.
    """
    try:
        graph = topology_graph(load_topology(path))
    except ImportModelError:
        raise
    except ValueError as fault:
        raise ImportModelError(f"{path}: {fault}") from None
    return Model(graph=graph, steps=(HostStep(nodes=graph.nodes, reason="a topology has sizes, no values"),))


def model_topology(model: Model) -> Topology:
    """The layers with products of any model by their sizes, whatever runs on a core.

    Raises:
        ValueError: as `graph_topology` and `network_topology`.
    """
    from .load import OWN

    if model.graph.source == OWN:
        return network_topology(model.cores[0].network)
    return graph_topology(model.graph)


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in line.split(",")]
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells


def _layer(cells: list[str], form: tuple[str, ...], wide: bool, taken: set[str]) -> TopologyLayer:
    """One row's layer; `wide` if the column behind the stride is the width's own."""
    name, *numbers = cells
    if not name or len(name) > _NAME_LIMIT or not name.isprintable():
        raise ValueError(
            f"column 1: the layer's name must have 1 to {_NAME_LIMIT} printable characters, not {name!r:.40}"
        )
    columns = (*form, "stride width") if wide else form
    if len(numbers) == len(columns) + 1:
        _check_dense(numbers.pop(), len(columns) + 2)
    if len(numbers) != len(columns):
        raise ValueError(
            f"{len(columns)} numbers must follow the name ({', '.join(columns)}) and perhaps a sparsity "
            f"ratio, not {len(numbers)}"
        )
    sizes = [
        _size(text, column, what) for column, (text, what) in enumerate(zip(numbers, columns, strict=True), 2)
    ]
    unique, copy = name, 1
    while unique in taken:
        copy += 1
        unique = f"{name}_{copy}"
    taken.add(unique)
    if form is _GEMM:
        return TopologyLayer.product(unique, *sizes)
    ifmap_h, ifmap_w, filter_h, filter_w, channels, filters, *strides = sizes
    depthwise = "DP" in name
    return TopologyLayer(
        name=unique,
        ifmap_h=ifmap_h,
        ifmap_w=ifmap_w,
        filter_h=filter_h,
        filter_w=filter_w,
        channels=1 if depthwise else channels,
        filters=filters,
        stride_h=strides[0],
        stride_w=strides[-1],
        groups=channels if depthwise else 1,
    )


def _size(text: str, column: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text) or not 1 <= int(text) <= MAX_SIZE:
        raise ValueError(
            f"column {column} ({what}): must be a whole number from 1 to {MAX_SIZE}, not {text!r:.40}"
        )
    return int(text)


def _check_dense(text: str, column: int) -> None:
    ratio = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if text and (ratio is None or int(ratio[1]) != int(ratio[2]) or not int(ratio[1])):
        raise ValueError(
            f"column {column} (sparsity ratio): only dense ratios such as 1:1 are read, not {text!r:.40}: "
            "leave the column out"
        )
