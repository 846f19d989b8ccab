"""Layers by their shapes alone: what a SCALE-Sim topology holds, and what a graph's products come to."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from .graph import Graph, Node
from .graph.attributes import flag, integer
from .graph.window import window_of
from .layers import Conv, Linear
from .network import Network

__all__ = ["MAX_SIZE", "Topology", "TopologyLayer", "graph_topology", "network_topology"]

MAX_SIZE = 1 << 28
"""The most that any one size of a layer may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyLayer:
    """A convolution by its sizes; `ifmap` counts the padding, a product of matrices is one pixel a row.

    An (M, K) × (K, N) product is a 1 × K filter that slides down an M × K picture of one channel, N times.

    Raises:
        ValueError: a size outside 1…2^28, or a filter larger than the picture; names layer and size.
    """

    name: str
    ifmap_h: int
    ifmap_w: int
    filter_h: int
    filter_w: int
    channels: int
    """Of one group."""
    filters: int
    """Of one group."""
    stride_h: int = 1
    stride_w: int = 1
    groups: int = 1
    """Convolutions of these sizes that run one after the other, on channels of their own."""
    dilation_h: int = 1
    """Pixels from one row of the filter to the next."""
    dilation_w: int = 1

    def __post_init__(self) -> None:
        for what in fields(self):
            value = getattr(self, what.name)
            if what.name == "name":
                continue
            if not 1 <= value <= MAX_SIZE:
                raise ValueError(
                    f"layer {self.name!r:.80}: {what.name} must be from 1 to {MAX_SIZE}, not {value}"
                )
        for side in ("h", "w"):
            reach, ifmap_side = self._reach(side), getattr(self, f"ifmap_{side}")
            if reach > ifmap_side:
                dilated = "" if getattr(self, f"dilation_{side}") == 1 else ", dilated"
                raise ValueError(
                    f"layer {self.name!r:.80}: filter_{side} must be at most ifmap_{side} ({ifmap_side}, "
                    f"padding counts), not {reach}{dilated}"
                )

    def _reach(self, side: str) -> int:
        """Pixels from a filter's first to its last, along `h` or `w`."""
        return int((getattr(self, f"filter_{side}") - 1) * getattr(self, f"dilation_{side}") + 1)

    @classmethod
    def product(cls, name: str, m: int, n: int, k: int) -> TopologyLayer:
        """The layer that stands for an (m, k) × (k, n) product of matrices."""
        return cls(name=name, ifmap_h=m, ifmap_w=k, filter_h=1, filter_w=k, channels=1, filters=n)

    def outputs(self, *, round_up: bool = False) -> tuple[int, int]:
        """(height, width) of the result; with `round_up` a window that the picture cuts off counts too.

        SCALE-Sim rounds up; a window that lies partly outside has no values to multiply there.
        """
        more = (self.stride_h - 1, self.stride_w - 1) if round_up else (0, 0)
        return (
            (self.ifmap_h - self._reach("h") + more[0]) // self.stride_h + 1,
            (self.ifmap_w - self._reach("w") + more[1]) // self.stride_w + 1,
        )

    @property
    def window(self) -> int:
        """Products that one result sums."""
        return self.filter_h * self.filter_w * self.channels

    @property
    def is_product(self) -> bool:
        """Whether it is a product of matrices, as `product` makes it."""
        return (
            self.dilation_w == 1
            and (self.channels, self.filter_h, self.filter_w) == (1, 1, self.ifmap_w)
            and self.groups == 1
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all groups."""
        height, width = self.outputs()
        return self.groups * height * width * self.window * self.filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Layers in their order; nothing says how they follow from one another.

    Raises:
        ValueError: no layers.
    """

    name: str
    layers: tuple[TopologyLayer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError(f"topology {self.name!r:.80} has no layers")


def graph_topology(graph: Graph) -> Topology:
    """The convolutions and matrix products of a graph, by their sizes; everything else costs nothing here.

    Padding becomes part of the picture. A product of matrices counts where one side is (…, M, K) and the
    other (K, N); a batch of different matrices becomes that many groups.

    Raises:
        ValueError: a transposed or three-dimensional convolution, or no layer; names the node.
    """
    layers = []
    fixed = set(graph.constants)
    for node in graph.nodes:
        if {name for name in node.inputs if name} <= fixed:
            fixed.update(node.outputs)
        elif node.op in _CONVOLUTIONS:
            layers.append(_convolution(graph, node))
        elif node.op == "ConvTranspose":
            raise ValueError(f"layer {node.name!r:.80}: ConvTranspose has no form as a plain convolution")
        elif node.op in _PRODUCTS:
            layers.append(_product(graph, node))
    if not layers:
        raise ValueError(_NO_LAYERS.format(name=graph.name))
    return Topology(name=graph.name, layers=tuple(layers))


def network_topology(network: Network) -> Topology:
    """The convolutions and linear layers of an integer network, as `graph_topology` has those of a graph.

    Raises:
        ValueError: no layer at all.
    """
    layers = []
    for layer in network.layers:
        if isinstance(layer, Linear):
            filters, window = network.weights[layer.name].values.shape
            layers.append(TopologyLayer.product(layer.name, 1, filters, window))
        elif isinstance(layer, Conv):
            filters, channels, filter_h, filter_w = network.weights[layer.name].values.shape
            _, height, width = network.tensors[layer.input].shape
            top, left, bottom, right = layer.padding
            layers.append(
                TopologyLayer(
                    name=layer.name,
                    ifmap_h=height + top + bottom,
                    ifmap_w=width + left + right,
                    filter_h=filter_h,
                    filter_w=filter_w,
                    channels=channels,
                    filters=filters // layer.groups,
                    stride_h=layer.stride[0],
                    stride_w=layer.stride[1],
                    groups=layer.groups,
                    dilation_h=layer.dilation[0],
                    dilation_w=layer.dilation[1],
                )
            )
    if not layers:
        raise ValueError(_NO_LAYERS.format(name=network.name))
    return Topology(name=network.name, layers=tuple(layers))


_NO_LAYERS = "{name!r:.80}: has no convolution and no product of matrices"
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""The operand that is the weights."""
_PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
"""The operands that are multiplied."""


def _convolution(graph: Graph, node: Node) -> TopologyLayer:
    picture = graph.values[node.inputs[0]].shape
    weights = graph.values[node.inputs[_CONVOLUTIONS[node.op]]].shape
    groups = integer(node, "group", 1)
    window = window_of(node, picture[2:], weights[2:])
    if len(window.kernel) > 2:
        raise ValueError(
            f"layer {node.name!r:.80}: only convolutions over one or two axes have a form as a topology's "
            f"row, not over {len(window.kernel)}"
        )
    flat = len(window.kernel) == 1
    sides = [sum(part) for part in zip(window.begins, window.spatial, window.ends, strict=True)]
    return TopologyLayer(
        name=node.name,
        ifmap_h=1 if flat else sides[0],
        ifmap_w=sides[-1],
        filter_h=1 if flat else window.kernel[0],
        filter_w=window.kernel[-1],
        channels=weights[1],
        filters=weights[0] // groups,
        stride_h=1 if flat else window.strides[0],
        stride_w=window.strides[-1],
        groups=groups * picture[0],
        dilation_h=1 if flat else window.dilations[0],
        dilation_w=window.dilations[-1],
    )


def _product(graph: Graph, node: Node) -> TopologyLayer:
    a, b = (graph.values[node.inputs[i]].shape for i in _PRODUCTS[node.op])
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"layer {node.name!r:.80}: both operands must be matrices, not {a} and {b}")
    m, k = (a[-1], a[-2]) if node.op == "Gemm" and flag(node, "transA") else (a[-2], a[-1])
    n = b[-2] if node.op == "Gemm" and flag(node, "transB") else b[-1]
    batch = int(np.prod(np.broadcast_shapes(a[:-2], b[:-2]), dtype=np.int64))
    if all(side == 1 for side in b[:-2]):  # one matrix for the whole batch: its rows are rows of one product
        m, batch = m * batch, 1
    return replace(TopologyLayer.product(node.name, m, n, k), groups=batch)
