"""Modules trained with our quantisers: float graph and integer network. Imports torch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import DIGITS_SCALE, DIGITS_ZERO_POINT
from ..export import to_network
from ..graph import Graph, Node, ShapeTracker, Value
from ..qat import Block, DigitsNet
from ..quantizers import LowBitQuantizer, fake_quantized
from .model import CoreStep, HostStep, Model

__all__ = ["from_trained"]


def from_trained(model: DigitsNet, *, name: str = "digits") -> Model:
    """A QAT model as `to_network` makes it integers, between the host's quantiser and its inverse.

    The graph says in ONNX's and QONNX's operators what the model computes in float: weights at their
    levels, batch norms, QuantizeLinear for int8 activations, BipolarQuant or MultiThreshold for low bits.
    Where the integers' rounding parts from it is what `agreement` tells.

    Args:
        model: from `train_qat`.
        name: of graph and network.

    Raises:
        ValueError: the model isn't quantised, or its factors don't fit; names the layer.
    """
    network = to_network(model, name=name)
    exact = copy.deepcopy(model).double().eval()
    exact.settle()
    draft = _Draft()
    stored = draft.quantized("image", "image", DIGITS_SCALE, DIGITS_ZERO_POINT)
    tensors = {stored: network.input}
    last = draft.dequantized("image", stored)
    for key, block in exact.named_blocks():
        x = draft.block(key, block, last)
        if isinstance(block.quantizer, LowBitQuantizer):
            last = stored = draft.low_bit(key, x, block.quantizer)
        else:
            scale, zero_point = block.quantizer.parameters_of_range()
            stored = draft.quantized(f"{key}.quantized", x, scale, zero_point)
            last = draft.dequantized(f"{key}.quantized", stored)
        tensors[stored] = f"{key}.out"
        if block.pool > 1:
            sides = (block.pool, block.pool)
            last = draft.add("MaxPool", f"{key}.pool", [last], {"kernel_shape": sides, "strides": sides})
    nodes = tuple(draft.nodes)
    return Model(
        graph=Graph(
            name=name,
            source="torch",
            inputs=("image",),
            outputs=(last,),
            nodes=nodes,
            constants=draft.constants,
            values=draft.tracker.values,
        ),
        steps=(
            HostStep(nodes=nodes[:1], reason="it brings float values into the core's formats"),
            CoreStep(
                network=network,
                takes="image.stored",
                makes=stored,
                nodes=tuple(node.name for node in nodes[1:-1]),
                tensors=tensors,
            ),
            HostStep(nodes=nodes[-1:], reason="it makes the core's integers float"),
        ),
    )


class _Draft:
    """The graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.tracker = ShapeTracker()
        self.tracker.add_value(Value(name="image", shape=(1, 1, 8, 8), dtype=np.dtype(np.float32)))

    def add(self, op: str, name: str, operands: list[str], attributes: dict[str, Any] | None = None) -> str:
        """Adds a node; returns its result, which is called as it is."""
        node = Node(op=op, name=name, inputs=tuple(operands), outputs=(name,), attributes=attributes or {})
        self.tracker.add_node(node)
        self.nodes.append(node)
        return name

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """Adds a constant."""
        array = np.array(values, dtype)
        self.constants[name] = array
        self.tracker.add_value(Value(name=name, shape=array.shape, dtype=array.dtype), array)
        return name

    def quantized(self, name: str, x: str, scale: float, zero_point: int) -> str:
        """`x` as stored int8."""
        step = self.constant(f"{name}.scale", scale)
        zero = self.constant(f"{name}.zero_point", zero_point, np.int8)
        return self.add("QuantizeLinear", f"{name}.stored", [x, step, zero])

    def dequantized(self, name: str, stored: str) -> str:
        """Stored int8 as real values, by the numbers of `quantized` of the same name."""
        operands = [stored, f"{name}.scale", f"{name}.zero_point"]
        return self.add("DequantizeLinear", f"{name}.real", operands)

    def low_bit(self, key: str, x: str, quantizer: LowBitQuantizer) -> str:
        """`x` at −1 and 1, or −1, 0 and 1."""
        name = f"{key}.levels"
        if len(quantizer.cuts) == 1:
            return self.add("BipolarQuant", name, [x, self.constant(f"{name}.scale", 1.0)])
        cuts = self.constant(f"{name}.cuts", [quantizer.cuts])
        attributes = {"out_scale": 1.0, "out_bias": float(quantizer.fmt.min), "data_layout": "NCHW"}
        return self.add("MultiThreshold", name, [x, cuts], attributes)

    def block(self, key: str, block: Block, x: str) -> str:
        """A block up to what its quantiser gets."""
        weights = fake_quantized(block.core.weight, block.weight_format).detach().numpy()
        operands = [self.constant(f"{key}.weight", weights)]
        if block.core.bias is not None:
            operands.append(self.constant(f"{key}.bias", block.core.bias.detach().numpy()))
        if weights.ndim == 2:
            x = self.add("Flatten", f"{key}.flatten", [x], {"axis": 1})
            x = self.add("Gemm", key, [x, *operands], {"transB": 1})
        else:
            if block.pad_value:
                pads = self.constant(f"{key}.pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
                x = self.add("Pad", f"{key}.pad", [x, pads, self.constant(f"{key}.outside", block.pad_value)])
            around = 0 if block.pad_value else 1
            x = self.add("Conv", key, [x, *operands], {"kernel_shape": (3, 3), "pads": (around,) * 4})
        if block.norm is not None:
            norm, name = block.norm, f"{key}.norm"
            assert norm.running_mean is not None and norm.running_var is not None
            parts = {
                "weight": norm.weight, "bias": norm.bias,
                "running_mean": norm.running_mean, "running_var": norm.running_var,
            }  # fmt: skip
            values = [self.constant(f"{name}.{word}", part.detach().numpy()) for word, part in parts.items()]
            x = self.add("BatchNormalization", name, [x, *values], {"epsilon": norm.eps})
        return self.add("Relu", f"{key}.relu", [x]) if block.relu else x
