"""Small seeded ONNX models, one operator each, over opsets; `CASES` by operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

Array = NDArray[Any]
NEWEST = onnx.defs.onnx_opset_version()


def opsets(op: str, since: int) -> list[int]:
    """`since`, every later opset that changed the operator, and the newest one."""
    changes = {
        s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == op and not s.domain
    }
    return sorted({since, NEWEST, *(v for v in changes if v > since)})


@dataclass
class Case:
    """One node, what it is fed, and what it finds as initialisers."""

    op: str
    feeds: dict[str, Array]
    constants: dict[str, Array] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: int = 1
    domain: str = ""

    def model(self, opset: int) -> onnx.ModelProto:
        names = self.inputs or (*self.feeds, *self.constants)
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, name="node", domain=self.domain, **self.attributes)
        return model([node], self.feeds, self.constants, outputs, opset)


def model(
    nodes: list[onnx.NodeProto],
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array],
    outputs: list[str],
    opset: int,
) -> onnx.ModelProto:
    """A model of `nodes`; its outputs say nothing of their shapes."""

    def info(name: str, array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    graph = helper.make_graph(
        nodes,
        "case",
        [info(name, array) for name, array in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(d, 1) for d in {node.domain for node in nodes} if d]
    return helper.make_model(graph, opset_imports=imports, ir_version=4 if opset < 10 else 8)


def floats(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def pick(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def _window(rng: np.random.Generator, rank: int, kernel: list[int], pool: bool, opset: int) -> dict[str, Any]:
    """Seeded attributes of a window: asymmetric pads, strides, dilations, automatic padding, rounding."""
    found: dict[str, Any] = {"kernel_shape": kernel}
    if rng.integers(4):
        found["strides"] = rng.integers(1, 4, rank).tolist()
    auto = pick(rng, "", "", "", "SAME_UPPER", "SAME_LOWER", "VALID")
    if auto:
        found["auto_pad"] = auto
    elif rng.integers(4):
        found["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    dilates = not pool or opset >= 19
    if dilates and not auto and rng.integers(2):
        found["dilations"] = rng.integers(1, 3, rank).tolist()
    return found


def conv(rng: np.random.Generator, opset: int) -> Case:
    rank, group = int(pick(rng, 1, 2, 2)), int(pick(rng, 1, 1, 2, 4))
    deep, filters = group * int(rng.integers(1, 4)), group * int(rng.integers(1, 4))
    if group > 1 and rng.integers(2):
        deep = group  # depthwise
    kernel = rng.integers(1, 4, rank).tolist()
    found = _window(rng, rank, kernel, False, opset)
    if rng.integers(3) == 0:
        del found["kernel_shape"]
    constants = {"w": floats(rng, filters, deep // group, *kernel)}
    if rng.integers(2):
        constants["b"] = floats(rng, filters)
    feeds = {"x": floats(rng, 1, deep, *rng.integers(7, 12, rank).tolist())}
    return Case("Conv", feeds, constants, found | {"group": group})


def conv_transpose(rng: np.random.Generator, opset: int) -> Case:
    rank, group = int(pick(rng, 1, 2)), int(pick(rng, 1, 2))
    kernel, strides = rng.integers(1, 4, rank).tolist(), rng.integers(1, 4, rank).tolist()
    attributes = {
        "group": group,
        "strides": strides,
        "pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)],
        "output_padding": [int(rng.integers(0, s)) for s in strides],
    }
    constants = {"w": floats(rng, 2 * group, 3, *kernel), "b": floats(rng, 3 * group)}
    feeds = {"x": floats(rng, 1, 2 * group, *rng.integers(4, 8, rank).tolist())}
    return Case("ConvTranspose", feeds, constants, attributes)


def pool(op: str) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        rank = int(pick(rng, 1, 2, 2))
        kernel = rng.integers(1, 5, rank).tolist()
        found = _window(rng, rank, kernel, op == "AveragePool", opset)
        if op == "MaxPool" and opset < 10:
            found.pop("dilations", None)
        if opset >= 10 and "auto_pad" not in found and rng.integers(2):
            found["ceil_mode"] = 1
        if op == "AveragePool" and rng.integers(2):
            found["count_include_pad"] = 1
        x = floats(rng, 1, 3, *rng.integers(9, 14, rank).tolist())
        return Case(op, {"x": x}, {}, found)

    return case


def gemm(rng: np.random.Generator, opset: int) -> Case:
    m, k, n = rng.integers(1, 9, 3).tolist()
    a, b = int(rng.integers(2)), int(rng.integers(2))
    bias = pick(rng, (n,), (1, n), (m, 1), (m, n), ())
    attributes = {"transA": a, "transB": b}
    if rng.integers(2):
        attributes |= {"alpha": 0.7, "beta": 1.3}
    constants = {"b": floats(rng, *((n, k) if b else (k, n))), "c": floats(rng, *bias)}
    return Case("Gemm", {"x": floats(rng, *((k, m) if a else (m, k)))}, constants, attributes)


def matmul(rng: np.random.Generator, opset: int) -> Case:
    a, b = pick(
        rng, ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((1, 3, 4), (4,))
    )
    return Case("MatMul", {"x": floats(rng, *a)}, {"w": floats(rng, *b)})


def binary(op: str) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        a, b = pick(rng, ((1, 3, 4, 5), (3, 1, 1)), ((1, 3), (1, 3)), ((1, 2, 3), ()), ((1, 1, 5), (4, 1)))
        x, y = floats(rng, *a), floats(rng, *b)
        if op == "Pow":
            x, y = np.abs(x), np.asarray(np.round(2 * y) / 2, np.float32)
        if op in ("And", "Or"):
            return Case(op, {"x": x > 0}, {"y": np.asarray(y > 0)})
        if op in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
            x, y = np.round(x), np.asarray(np.round(y), np.float32)
            if op == "Equal" and opset < 11:
                return Case(op, {"x": x.astype(np.int32)}, {"y": y.astype(np.int32)})
        return Case(op, {"x": x}, {"y": y})

    return case


def variadic(op: str) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        feeds = {f"x{i}": floats(rng, 1, 3, 4) for i in range(int(rng.integers(1, 4)))}
        return Case(op, feeds, {"c": floats(rng, 3, 1)})

    return case


def unary(op: str, **attributes: Any) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        x = 3 * floats(rng, 1, 4, 5)
        if op in ("Log", "Sqrt"):
            x = np.abs(x) + np.float32(0.1)
        if op == "Round":
            x = np.round(2 * x) / np.float32(2)
        if op == "Not":
            x = x > 0
        return Case(op, {"x": x}, {}, attributes if rng.integers(2) else {})

    return case


def prelu(rng: np.random.Generator, opset: int) -> Case:
    return Case("PRelu", {"x": floats(rng, 1, 3, 4, 4)}, {"s": floats(rng, *pick(rng, (3, 1, 1), (1,)))})


def clip(rng: np.random.Generator, opset: int) -> Case:
    x = {"x": 4 * floats(rng, 1, 5, 5)}
    if opset < 11:
        return Case("Clip", x, {}, pick(rng, {}, {"min": 0.0, "max": 6.0}, {"max": 1.5}, {"min": -1.0}))
    limits = {"low": np.array(-1, np.float32), "high": np.array(2, np.float32)}
    if rng.integers(2):
        return Case("Clip", x, {"high": limits["high"]}, {}, ("x", "", "high"))
    return Case("Clip", x, limits)


def softmax(op: str) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        shape = pick(rng, (1, 7), (2, 3, 4), (1, 5, 1, 1), (2, 3, 2, 2), (1, 4, 1, 3))
        attributes = {} if rng.integers(2) else {"axis": int(rng.integers(0, len(shape)))}
        if opset >= 11 and rng.integers(2):
            attributes = {"axis": -1}
        return Case(op, {"x": 3 * floats(rng, *shape)}, {}, attributes)

    return case


def batch_norm(rng: np.random.Generator, opset: int) -> Case:
    shape = pick(rng, (1, 4, 5, 5), (2, 4), (1, 4, 6))
    names = {key: floats(rng, 4) for key in ("scale", "shift", "mean")}
    constants = names | {"variance": np.abs(floats(rng, 4)) + np.float32(0.1)}
    return Case(
        "BatchNormalization", {"x": floats(rng, *shape)}, constants, {"epsilon": pick(rng, 1e-5, 1e-2)}
    )


def instance_norm(rng: np.random.Generator, opset: int) -> Case:
    return Case(
        "InstanceNormalization", {"x": floats(rng, 1, 3, 4, 5)}, {"s": floats(rng, 3), "b": floats(rng, 3)}
    )


def layer_norm(rng: np.random.Generator, opset: int) -> Case:
    return Case("LayerNormalization", {"x": floats(rng, 2, 3, 6)}, {"s": floats(rng, 6), "b": floats(rng, 6)})


def lrn(rng: np.random.Generator, opset: int) -> Case:
    attributes = {"size": int(pick(rng, 1, 3, 5)), "alpha": 0.5, "beta": 0.6, "bias": 2.0}
    return Case("LRN", {"x": floats(rng, 1, 7, 3, 3)}, {}, attributes)


def concat(rng: np.random.Generator, opset: int) -> Case:
    feeds = {f"x{i}": floats(rng, 1, int(rng.integers(1, 4)), 3, 3) for i in range(3)}
    return Case("Concat", feeds, {}, {"axis": 1 if opset < 11 else int(pick(rng, 1, -3))})


def split(rng: np.random.Generator, opset: int) -> Case:
    x, sizes = {"x": floats(rng, 1, 6, 4)}, [1, 3, 2]
    if rng.integers(2):
        number = {"num_outputs": 3} if opset >= 18 else {}
        return Case("Split", x, {}, {"axis": 1} | number, outputs=3)
    if opset < 13:
        return Case("Split", x, {}, {"axis": 1, "split": sizes}, outputs=3)
    return Case("Split", x, {"s": np.array(sizes)}, {"axis": 1}, outputs=3)


def slicing(rng: np.random.Generator, opset: int) -> Case:
    x = {"x": floats(rng, 1, 6, 7)}
    starts, ends, axes = [1, -5], [5, 1000], [1, 2]
    if opset < 10:
        return Case("Slice", x, {}, {"starts": starts, "ends": ends, "axes": axes})
    steps = pick(rng, [1, 2], [2, 1], [-1, 1])
    if steps[0] < 0:
        starts, ends = [4, 0], [-1000, 3]
    names = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    return Case("Slice", x, {key: np.array(value, np.int64) for key, value in names.items()})


def axes_of(op: str, since: int, **more: Any) -> Callable[[np.random.Generator, int], Case]:
    """An operator whose axes became an operand."""

    def case(rng: np.random.Generator, opset: int) -> Case:
        shape, axes = (1, 3, 1, 4), [0, 2]
        if op.startswith("Reduce"):
            axes = pick(rng, [1], [1, 3], [3])
        x = {"x": floats(rng, *shape)}
        keep = {"keepdims": int(rng.integers(2))} if op.startswith("Reduce") else {}
        if opset < since:
            return Case(op, x, {}, {"axes": axes} | keep)
        return Case(op, x, {"axes": np.array(axes)}, keep)

    return case


def reduce_all(rng: np.random.Generator, opset: int) -> Case:
    return Case("ReduceMean", {"x": floats(rng, 1, 3, 4)})


def arg(op: str) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        last = {"select_last_index": int(rng.integers(2))} if opset >= 12 else {}
        x = rng.integers(0, 3, (2, 3, 6)).astype(np.float32)
        return Case(op, {"x": x}, {}, {"axis": int(rng.integers(3)), "keepdims": int(rng.integers(2))} | last)

    return case


def pad(rng: np.random.Generator, opset: int) -> Case:
    x = {"x": floats(rng, 1, 2, 5, 6)}
    mode = pick(rng, "constant", "constant", "reflect", "edge")
    if mode == "constant" and opset >= 19:
        mode = pick(rng, "constant", "wrap")
    pads = [0, 0, 1, 2, 0, 0, 2, 0]
    if mode == "constant" and rng.integers(2):
        pads = [0, 1, -1, 2, 0, 0, 2, -2]
    if opset < 11:
        fill = {"value": 1.5} if mode == "constant" else {}
        return Case("Pad", x, {}, {"mode": mode, "pads": pads} | fill)
    constants = {"pads": np.array(pads), "fill": np.array(1.5, np.float32)}
    if opset >= 18 and rng.integers(2):
        constants["pads"] = np.array([1, 2, 2, 0])
        constants["axes"] = np.array([2, -1])
    return Case("Pad", x, constants, {"mode": mode})


def resize(rng: np.random.Generator, opset: int) -> Case:
    x, scales = (
        {"x": floats(rng, 1, 2, 5, 6)},
        np.array([1, 1, *pick(rng, (2, 2), (1.5, 3), (0.6, 1))], np.float32),
    )
    if opset < 10:
        return Case("Upsample", x, {"s": np.maximum(scales, 1)}, {"mode": "nearest"})
    if opset < 11:
        return Case("Resize", x, {"s": scales}, {"mode": "nearest"})
    attributes = {
        "mode": pick(rng, "nearest", "nearest", "linear"),
        "coordinate_transformation_mode": pick(
            rng, "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"
        ),
        "nearest_mode": pick(rng, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    }
    if attributes["mode"] == "linear":
        del attributes["nearest_mode"]
    if opset >= 13 and rng.integers(2):
        sizes = np.array([1, 2, *pick(rng, (10, 12), (7, 4))])
        return Case("Resize", x, {"sizes": sizes}, attributes, ("x", "", "", "sizes"))
    constants = {"roi": np.zeros(0, np.float32), "scales": scales}
    return Case("Resize", x, constants, attributes)


def reshape(rng: np.random.Generator, opset: int) -> Case:
    shape = pick(rng, [0, -1], [1, 4, -1, 3], [-1], [0, 0, 9])
    return Case("Reshape", {"x": floats(rng, 1, 4, 3, 3)}, {"s": np.array(shape)})


def expand(rng: np.random.Generator, opset: int) -> Case:
    return Case(
        "Expand", {"x": floats(rng, 1, 3, 1)}, {"s": np.array(pick(rng, [2, 1, 4], [1, 3, 5], [3, 1]))}
    )


def tile(rng: np.random.Generator, opset: int) -> Case:
    return Case("Tile", {"x": floats(rng, 1, 3, 2)}, {"s": np.array([2, 1, 3])})


def gather(rng: np.random.Generator, opset: int) -> Case:
    index = pick(rng, np.array(1), np.array([2, 0]), np.array([[0, 1], [1, 2]]))
    if opset >= 11:
        index = -index
    return Case("Gather", {"x": floats(rng, 1, 3, 4)}, {"i": index}, {"axis": 1})


def where(rng: np.random.Generator, opset: int) -> Case:
    return Case("Where", {"c": floats(rng, 1, 3, 4) > 0, "x": floats(rng, 1, 3, 4)}, {"y": floats(rng, 3, 1)})


def cast(rng: np.random.Generator, opset: int) -> Case:
    to = pick(
        rng, onnx.TensorProto.INT32, onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT16
    )
    return Case("Cast", {"x": 5 * floats(rng, 1, 6)}, {}, {"to": to})


def blocks(op: str) -> Callable[[np.random.Generator, int], Case]:
    def case(rng: np.random.Generator, opset: int) -> Case:
        mode = {"mode": pick(rng, "DCR", "CRD")} if op == "DepthToSpace" and opset >= 11 else {}
        return Case(op, {"x": floats(rng, 1, 8, 4, 6)}, {}, {"blocksize": 2} | mode)

    return case


def dropout(rng: np.random.Generator, opset: int) -> Case:
    if opset < 12:
        return Case("Dropout", {"x": floats(rng, 1, 5)}, {}, {"ratio": 0.3})
    return Case("Dropout", {"x": floats(rng, 1, 5)}, {"ratio": np.array(0.3, np.float32)})


def simple(op: str, shape: tuple[int, ...], **attributes: Any) -> Callable[[np.random.Generator, int], Case]:
    return lambda rng, opset: Case(op, {"x": floats(rng, *shape)}, {}, attributes)


UNARY = (
    *("Abs", "Ceil", "Erf", "Exp", "Floor", "Log", "Neg", "Not", "Reciprocal", "Relu", "Sign", "Softplus"),
    *("Sqrt", "Tanh", "Sigmoid"),
)
BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Equal", "Greater", "Less")

CASES: dict[str, tuple[int, Callable[[np.random.Generator, int], Case]]] = {
    "Conv": (9, conv),
    "ConvTranspose": (9, conv_transpose),
    "MaxPool": (9, pool("MaxPool")),
    "AveragePool": (9, pool("AveragePool")),
    "GlobalAveragePool": (9, simple("GlobalAveragePool", (1, 3, 4, 5))),
    "GlobalMaxPool": (9, simple("GlobalMaxPool", (1, 3, 4, 5))),
    "Gemm": (9, gemm),
    "MatMul": (9, matmul),
    "BatchNormalization": (9, batch_norm),
    "InstanceNormalization": (9, instance_norm),
    "LayerNormalization": (17, layer_norm),
    "LRN": (9, lrn),
    **{op: (9, unary(op)) for op in UNARY},
    **{op: (9, binary(op)) for op in BINARY},
    **{op: (12, binary(op)) for op in ("GreaterOrEqual", "LessOrEqual")},
    **{op: (9, variadic(op)) for op in ("Sum", "Max", "Min", "Mean")},
    "Round": (11, unary("Round")),
    "LeakyRelu": (9, unary("LeakyRelu", alpha=0.2)),
    "Elu": (9, unary("Elu", alpha=0.7)),
    "HardSigmoid": (9, unary("HardSigmoid", alpha=0.3, beta=0.4)),
    "HardSwish": (14, unary("HardSwish")),
    "Gelu": (20, unary("Gelu", approximate="tanh")),
    "PRelu": (9, prelu),
    "Clip": (9, clip),
    "Softmax": (9, softmax("Softmax")),
    "LogSoftmax": (9, softmax("LogSoftmax")),
    "Concat": (9, concat),
    "Split": (9, split),
    "Slice": (9, slicing),
    "Squeeze": (9, axes_of("Squeeze", 13)),
    "Unsqueeze": (9, axes_of("Unsqueeze", 13)),
    "ReduceSum": (9, axes_of("ReduceSum", 13)),
    **{op: (9, axes_of(op, 18)) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")},
    "ReduceMean of all": (9, reduce_all),
    "ArgMax": (9, arg("ArgMax")),
    "ArgMin": (9, arg("ArgMin")),
    "Pad": (9, pad),
    "Resize": (9, resize),
    "Reshape": (9, reshape),
    "Flatten": (9, simple("Flatten", (1, 3, 4, 5), axis=2)),
    "Transpose": (9, simple("Transpose", (1, 3, 4, 5), perm=[0, 2, 3, 1])),
    "Transpose of all": (9, simple("Transpose", (1, 3, 4))),
    "Expand": (9, expand),
    "Tile": (9, tile),
    "Gather": (9, gather),
    "Where": (9, where),
    "Cast": (9, cast),
    "DepthToSpace": (9, blocks("DepthToSpace")),
    "SpaceToDepth": (9, blocks("SpaceToDepth")),
    "Dropout": (9, dropout),
    "Identity": (9, simple("Identity", (1, 3))),
    "Shape": (9, simple("Shape", (1, 3, 7))),
    "Size": (9, simple("Size", (1, 3, 7))),
}
"""By name: the opset since when, and what makes a case from a generator and an opset."""
