"""Sound files of every kind that is read: small ones made here, the onnx wheel's, and real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["qdq_onnx", "seed_files"]

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
"""Networks that others made; used where they are there."""


def seed_files(folder: Path, *, torch_file: bool = True) -> list[Path]:
    """Files to damage; those made here are written to `folder`.

    Args:
        folder: an existing one.
        torch_file: whether to write a `.pt2` file, which takes torch some seconds.
    """
    from bitwright.models.zoo import random_network

    for number in (1, 5):
        random_network(number).save(folder / f"random-{number}.bw")
    _images(folder / "images.npz")
    (folder / "gemm.csv").write_text("Layer, M, N, K,\nqkv, 128, 768, 256,\nout, 128, 256, 256,\n")
    (folder / "conv.csv").write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
        "Conv1, 64, 64, 7, 7, 3, 16, 2,\nDPConv, 30, 30, 3, 3, 16, 1, 1, 1:1,\nFC, 1, 1, 1, 1, 64, 10, 1,\n"
    )
    _float_onnx(folder / "float.onnx")
    qdq_onnx(folder / "qdq.onnx")
    _qonnx(folder / "quant.onnx")
    if torch_file:
        _pt2(folder / "small.pt2")
    return sorted([*folder.iterdir(), *_of_the_wheel(), *REAL.rglob("*.onnx"), *REAL.rglob("*_quant.tflite")])


def _of_the_wheel() -> list[Path]:
    import onnx

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return [path for path in light.glob("*.onnx") if path.stat().st_size < 40_000]


def _images(path: Path) -> None:
    """For the network of seed 1, zoo:random-1."""
    from bitwright.models.zoo import random_input, random_network

    np.savez_compressed(path, x=random_input(random_network(1), 0, 8), y=np.arange(8))


def _save(
    path: Path, name: str, nodes: list, inputs: dict, outputs: dict, constants: dict, qonnx: bool = False
) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def infos(shapes: dict) -> list:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]

    tensors = [numpy_helper.from_array(array, n) for n, array in constants.items()]
    graph = helper.make_graph(nodes, name, infos(inputs), infos(outputs), tensors)
    opsets = [helper.make_opsetid("", 17)]
    if qonnx:
        opsets.append(helper.make_opsetid("qonnx.custom_op.general", 1))
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    onnx.load(str(path))


def _float_onnx(path: Path) -> None:
    from onnx import helper

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["p", "p"], ["t"], "concat", axis=1),
        helper.make_node("Shape", ["t"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["count"], "gather", axis=0),
        helper.make_node("Unsqueeze", ["count", "zeros"], ["counts"], "unsqueeze"),
        helper.make_node("Concat", ["counts", "rest"], ["to"], "to", axis=0),
        helper.make_node("Reshape", ["t", "to"], ["flat"], "reshape"),
        helper.make_node("Gemm", ["flat", "fw", "fb"], ["y"], "fc", transB=1),
        helper.make_node("Softmax", ["y"], ["z"], "softmax", axis=1),
    ]
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        **{n: np.abs(rng.standard_normal(4)).astype(np.float32) for n in ("b", "g", "m", "v")},
        "zero": np.array(0),
        "zeros": np.array([0]),
        "rest": np.array([-1]),
        "fw": rng.standard_normal((10, 8 * 4 * 4)).astype(np.float32),
        "fb": np.zeros(10, np.float32),
    }
    _save(path, "float", nodes, {"x": ["N", 3, 8, 8]}, {"z": ["N", 10]}, constants)


def qdq_onnx(path: Path) -> None:
    """Nothing; writes a convolution between quantisers, with a scale a channel."""
    from onnx import helper

    rng = np.random.default_rng(1)
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"], "xq"),
        make("DequantizeLinear", ["xq", "s", "z"], ["xd"], "xd"),
        make("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "wd", axis=0),
        make("DequantizeLinear", ["b", "bs", "bz"], ["bd"], "bd", axis=0),
        make("Conv", ["xd", "wd", "bd"], ["c"], "conv", kernel_shape=[3, 3], strides=[2, 2]),
        make("Relu", ["c"], ["r"], "relu"),
        make("QuantizeLinear", ["r", "s", "z"], ["yq"], "yq"),
        make("DequantizeLinear", ["yq", "s", "z"], ["y"], "yd"),
    ]
    constants = {
        "s": np.array(0.05, np.float32),
        "z": np.array(-3, np.int8),
        "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": (0.01 + rng.random(4) / 100).astype(np.float32),
        "wz": np.zeros(4, np.int8),
        "b": rng.integers(-999, 999, 4).astype(np.int32),
        "bz": np.zeros(4, np.int32),
    }
    constants["bs"] = constants["ws"] * np.float32(0.05)
    _save(path, "qdq", nodes, {"x": [1, 3, 9, 9]}, {"y": [1, 4, 4, 4]}, constants)


def _qonnx(path: Path) -> None:
    from onnx import helper

    rng = np.random.default_rng(2)
    domain = "qonnx.custom_op.general"
    quant = {"domain": domain, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node("Quant", ["x", "s", "z", "bits"], ["xq"], "xq", **quant),
        helper.make_node("BipolarQuant", ["w", "one"], ["wq"], "wq", domain=domain),
        helper.make_node("MatMul", ["xq", "wq"], ["m"], "matmul"),
        helper.make_node("Quant", ["m", "s", "z", "bits"], ["q"], "q", **quant),
        helper.make_node("MatMul", ["q", "wq2"], ["y"], "matmul2"),
    ]
    constants = {
        "s": np.array(0.25, np.float32),
        "z": np.array(0, np.float32),
        "bits": np.array(4, np.float32),
        "one": np.array(1, np.float32),
        "w": rng.standard_normal((16, 8)).astype(np.float32),
        "w2": rng.standard_normal((8, 4)).astype(np.float32),
    }
    nodes.insert(4, helper.make_node("BipolarQuant", ["w2", "one"], ["wq2"], "wq2", domain=domain))
    _save(path, "quant", nodes, {"x": [1, 16]}, {"y": [1, 4]}, constants, qonnx=True)


def _pt2(path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 8, 8),)), path)
