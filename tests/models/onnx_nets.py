"""ONNX files written node by node, for tests of the importers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QONNX = "qonnx.custom_op.general"


class Net:
    """Nodes, constants and inputs so far; `save` writes them."""

    def __init__(self, seed: int = 0, *, name: str = "net") -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *shape: int, spread: float = 1.0) -> np.ndarray:
        return (self.rng.normal(size=shape) * spread).astype(np.float32)

    def op(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        number = len(self.nodes)
        self.nodes.append(
            helper.make_node(
                op, list(inputs), [f"v{number}"], name=f"{op}_{number}", domain=domain, **attributes
            )
        )
        return f"v{number}"

    def quant(
        self, x: str, scale: Any, bits: int, *, signed: int = 1, narrow: int = 0, rounding: str = "ROUND"
    ) -> str:
        return self.op(
            "Quant", x, self.constant(scale), self.constant(0), self.constant(bits), domain=QONNX,
            signed=signed, narrow=narrow, rounding_mode=rounding,
        )  # fmt: skip

    def bipolar(self, x: str, scale: Any = 1.0) -> str:
        return self.op("BipolarQuant", x, self.constant(scale), domain=QONNX)

    def norm(self, x: str, channels: int, *, spread: float) -> str:
        """A batch norm of which some channels fall."""
        parameters = (
            self.normal(channels),
            self.normal(channels, spread=0.5),
            self.normal(channels, spread=spread / 3),
            (self.rng.uniform(0.5, 2, channels) * spread**2).astype(np.float32),
        )
        return self.op("BatchNormalization", x, *(self.constant(p) for p in parameters), epsilon=1e-5)

    def save(
        self, path: Path, output: str, shape: list[int], kind: int = TensorProto.FLOAT, opset: int = 17
    ) -> Path:
        infos = [helper.make_tensor_value_info(output, kind, shape)]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, infos, self.constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(QONNX, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.save(model, path)
        return path
