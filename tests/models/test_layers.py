from typing import Any

import numpy as np
import pytest
from bitwright.models.formats import Format
from bitwright.models.layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Linear,
    MaxPool,
    Relu,
    Requantize,
    Shuffle,
    Thresholds,
)
from bitwright.models.network import Network, Tensor
from bitwright.models.numerics import Rounding
from bitwright.models.reference import run_reference
from bitwright.models.weights import WeightRecord

INT8, INT32 = Format.parse("int8"), Format.parse("int32")
TERNARY, BINARY = Format.parse("ternary"), Format.parse("binary")


def add(**changes: Any) -> Add:
    sound: dict[str, Any] = {
        "name": "add",
        "inputs": ("a", "b"),
        "output": "s",
        "multiplier": np.full(2, 2**30),
        "shift": np.zeros(2, int),
        "left_shift": 20,
        "rounding": Rounding.TFLITE_DOUBLE,
    }
    return Add(**(sound | changes))


def thresholds(values: Any, **changes: Any) -> Thresholds:
    sound: dict[str, Any] = {"name": "th", "input": "acc", "output": "y", "low": -1, "step": 1}
    return Thresholds(values=np.asarray(values), **(sound | changes))


def post(**changes: Any) -> Requantize:
    sound: dict[str, Any] = {
        "name": "post",
        "input": "acc",
        "output": "y",
        "multiplier": np.full(2, 2**30),
        "shift": np.zeros(2, int),
        "rounding": Rounding.SHIFT,
        "low": -1,
        "high": 1,
    }
    return Requantize(**(sound | changes))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: thresholds([[0, 1, 2]] * 3 + [[3, 7, 5]]),
            "layer th: thresholds of channel 3 must not decrease: 7 stands before 5",
        ),
        (lambda: thresholds([1, 2]), r"layer th: thresholds must be integers of shape \(K, T\)"),
        (lambda: thresholds(np.zeros((2, 0), int)), "layer th: thresholds must be integers of shape"),
        (lambda: thresholds([[0.5]]), "layer th: thresholds must be integers of shape .* not float64"),
        (lambda: thresholds(np.zeros((1, 256), int)), "layer th: .* 1 to 255 a channel, not 256"),
        (lambda: thresholds([[2**31]]), "layer th: a threshold must be from -2147483648 to 2147483647"),
        (lambda: thresholds([[1]], step=3), "layer th: step must be 1 or 2, not 3"),
        (lambda: thresholds([[1]], low=0.5), "layer th: low must be an integer, not 0.5"),
        (lambda: add(inputs=("a",)), "layer add: an add has 2 inputs, not 1"),
        (lambda: add(inputs="ab"), "layer add: inputs must be a tuple of tensor names"),
        (lambda: add(multiplier=np.ones(3, int), shift=np.ones(3, int)), "layer add: .* 2 inputs, not for 3"),
        (lambda: add(multiplier=[2**31, 1]), "layer add: multiplier must be from 0 to 2147483647, not 2147"),
        (lambda: add(left_shift=21), "layer add: left_shift must be from 0 to 20, not 21"),
        (lambda: add(left_shift=None), "layer add: left_shift must be an integer"),
        (lambda: add(rounding=4), "layer add: rounding must be one of"),
        (lambda: Concat(name="c", inputs=("a",), output="y"), "layer c: a concat has at least 2 inputs"),
        (
            lambda: Shuffle(name="s", input="x", output="y", groups=0),
            "layer s: groups must be an integer from 1 to 65536, not 0",
        ),
        (
            lambda: AvgPool(
                name="p", input="x", output="y", kernel=(2, 2), stride=(1, 1), padding=(0, 2, 0, 0)
            ),
            "layer p: pool padding must be less than the kernel",
        ),
        (lambda: post(bias=np.zeros(3, int)), "layer post: bias must be 2 integers"),
        (lambda: post(bias=[0.5, 1.5]), "layer post: bias must be 2 integers"),
        (lambda: post(offset=256), "layer post: offset must be from -256 to 255, not 256"),
        (lambda: post(offset=0.5), "layer post: offset must be an integer"),
        (lambda: post(bias=[0, -(2**31) - 1]), "layer post: bias must be from .*, not -2147483649"),
        (
            lambda: Conv(name="c", input="x", output="y", pad_value=0.5),
            "layer c: pad_value must be an integer from -32768 to 65536, not 0.5",
        ),
    ],
)
def test_a_field_out_of_range_is_refused_at_once(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def graph(layers: list[Any], tensors: list[Tensor], weights: list[WeightRecord] | None = None) -> Network:
    """A network from the first tensor to the last."""
    return Network(
        name="n",
        input=tensors[0].name,
        output=tensors[-1].name,
        tensors={t.name: t for t in tensors},
        layers=tuple(layers),
        weights={r.layer: r for r in weights or []},
    )


def tensor(name: str, shape: tuple[int, ...], fmt: Format = INT8, **more: Any) -> Tensor:
    return Tensor(name=name, shape=shape, fmt=fmt, **more)


def record(layer: str, shape: tuple[int, ...]) -> WeightRecord:
    return WeightRecord.dense(
        layer=layer, values=np.ones(shape, np.int8), fmt=BINARY, scales=np.ones(shape[0])
    )


def shuffled(groups: int) -> Network:
    layer = Shuffle(name="mix", input="x", output="y", groups=groups)
    return graph([layer], [tensor("x", (6, 2, 2)), tensor("y", (6, 2, 2))])


def joined(**second: Any) -> Network:
    """x beside a shuffled x, whose tensor is as told."""
    shape = second.pop("shape", (4, 3, 3))
    layers = [
        Shuffle(name="mix", input="x", output="m", groups=2),
        Concat(name="join", inputs=("x", "m", "x"), output="y"),
    ]
    return graph(layers, [tensor("x", (4, 3, 3)), tensor("m", shape, **second), tensor("y", (12, 3, 3))])


def summed(layer: Add, **x: Any) -> Network:
    return graph([layer], [tensor("a", (2, 3, 3), **x), tensor("s", (2, 3, 3), INT32)])


def counted(layer: Thresholds, fmt: Format, zero_point: int = 0) -> Network:
    return graph([layer], [tensor("acc", (2,), INT32), tensor("y", (2,), fmt, zero_point=zero_point)])


def convolved(fmt: Format, pad_value: int | None) -> Network:
    layer = Conv(name="conv", input="x", output="acc", padding=(1, 1, 1, 1), pad_value=pad_value)
    tensors = [tensor("x", (1, 2, 2), fmt), tensor("acc", (2, 2, 2), INT32)]
    return graph([layer], tensors, [record("conv", (2, 1, 3, 3))])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: shuffled(4), "layer mix: groups must divide the 6 channels, not 4"),
        (lambda: joined(zero_point=1), "layer mix: input and output must share format, scale and zero point"),
        (lambda: joined(shape=(4, 3, 2)), r"layer mix: .* must have shape \(4, 3, 3\)"),
        (
            lambda: graph(
                [Concat(name="join", inputs=("x", "z"), output="y")],
                [tensor("x", (4, 3, 3)), tensor("y", (8, 3, 3))],
            ),
            "layer join: 'z' is no listed tensor",
        ),
        (
            lambda: graph(
                [
                    MaxPool(name="p", input="x", output="m", kernel=(2, 2), stride=(1, 1)),
                    Concat(name="join", inputs=("x", "m"), output="y"),
                ],
                [tensor("x", (4, 3, 3)), tensor("m", (4, 2, 2)), tensor("y", (8, 3, 3))],
            ),
            r"layer join: all inputs must have the same pixels, not \(4, 3, 3\), \(4, 2, 2\)",
        ),
        (
            lambda: graph(
                [
                    MaxPool(name="p", input="x", output="m", kernel=(2, 2), stride=(1, 1)),
                    add(inputs=("x", "m")),
                ],
                [tensor("x", (4, 3, 3)), tensor("m", (4, 2, 2)), tensor("s", (4, 3, 3), INT32)],
            ),
            r"layer add: its inputs must have one shape, not \(4, 3, 3\) and \(4, 2, 2\)",
        ),
        (
            lambda: graph(
                [add(inputs=("a", "late"), output="s")],
                [tensor("a", (2,)), tensor("late", (2,)), tensor("s", (2,), INT32)],
            ),
            "layer add: its input 'late' is made by no layer before it",
        ),
        (
            lambda: summed(add(inputs=("a", "a")), fmt=Format.parse("int16")),
            r"layer add: operand a shifted left by 20 must fit int32, not reach -34359738368: lower",
        ),
        # (32767 - -32768) * 2^15 is below 2^31, but two of them, times almost 1, aren't.
        (
            lambda: summed(
                add(inputs=("a", "a"), left_shift=15, multiplier=np.full(2, 2**31 - 1)),
                fmt=Format.parse("int16"),
                zero_point=-32768,
            ),
            "layer add: its sums must fit int32, not reach from 0 to 4294",
        ),
        (
            lambda: graph([add(inputs=("a", "a"))], [tensor("a", (2,)), tensor("s", (2,))]),
            "layer add: its output s holds accumulators: int32",
        ),
        (
            lambda: graph(
                [AvgPool(name="avg", input="a", output="s", kernel=(4, 1), stride=(1, 1))],
                [tensor("a", (2, 3, 3)), tensor("s", (2, 3, 3), INT32)],
            ),
            "layer avg: a 4×1 pool doesn't fit into 3×3 padded pixels",
        ),
        (
            lambda: graph(
                [AvgPool(name="avg", input="a", output="s", kernel=(1, 1), stride=(1, 1))],
                [tensor("a", (2, 3, 3), INT32), tensor("s", (2, 3, 3), INT32)],
            ),
            "layer avg: its input must have at most 16 bits, not int32; put a Requantize",
        ),
        (
            lambda: counted(thresholds([[0, 1]] * 2, low=-1, step=2), BINARY),
            "layer th: a binary output takes 1 threshold a channel, low -1 and step 2, not 2, -1 and 2",
        ),
        (
            lambda: counted(thresholds([[0, 1]] * 2, low=0), TERNARY),
            "layer th: low and high must be from -1 to 1 for ternary, not 0 and 2",
        ),
        (
            lambda: counted(thresholds([[0] * 255] * 2, low=-127), INT8),
            "layer th: low and high must be from -128 to 127 for int8, not -127 and 128",
        ),
        (
            lambda: counted(thresholds([[0]] * 3), TERNARY),
            "layer th: thresholds must be given for the 2 channels, not for 3",
        ),
        (
            lambda: graph([post()], [tensor("acc", (2,), INT32), tensor("y", (2,), BINARY)]),
            "layer post: its output can't be binary, which has no 0: use Thresholds",
        ),
        (
            lambda: graph(
                [Relu(name="r", input="x", output="y")],
                [tensor("x", (2,), BINARY), tensor("y", (2,), BINARY)],
            ),
            "layer r: a binary tensor has no 0",
        ),
        (
            lambda: convolved(TERNARY, 2),
            "layer conv: pad_value must be from -1 to 1 for ternary, not 2",
        ),
    ],
)
def test_tensors_that_do_not_fit_a_layer_are_refused_with_its_name(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_the_same_parts_without_the_fault_are_accepted() -> None:
    for network in (
        shuffled(3),
        joined(),
        summed(add(inputs=("a", "a"))),
        summed(add(inputs=("a", "a"), left_shift=14), fmt=Format.parse("int16"), zero_point=-32768),
        counted(thresholds([[5]] * 2, step=2), BINARY),
        counted(thresholds([[5]] * 2, step=2), TERNARY),
        counted(thresholds([[0] * 255] * 2, low=-128), INT8, zero_point=-128),
        convolved(BINARY, -1),
        convolved(TERNARY, 0),
    ):
        assert len(network.layers) >= 1


def test_thresholds_count_as_parameters_and_scales_do_not() -> None:
    layers = [
        Linear(name="fc", input="x", output="acc"),
        thresholds([[1, 2, 3]] * 4),
        add(inputs=("y", "y")),
        post(name="end", input="s", output="z", multiplier=np.ones(4, int), shift=np.ones(4, int)),
    ]
    tensors = [
        tensor("x", (5,)), tensor("acc", (4,), INT32), tensor("y", (4,)), tensor("s", (4,), INT32),
        tensor("z", (4,)),
    ]  # fmt: skip
    network = graph(layers, tensors, [record("fc", (4, 5))])
    assert [network.layer_parameters(layer.name) for layer in layers] == [20, 12, 0, 0]
    assert [network.layer_macs(layer.name) for layer in layers] == [20, 0, 0, 0]


def extremes(network: Network, name: str) -> tuple[int, int]:
    """The least and greatest value that a tensor of the network reaches at the ends of its input's format."""
    fmt, shape = network.tensors[network.input].fmt, network.tensors[network.input].shape
    found = [run_reference(network, np.full((1, *shape), end)) for end in (fmt.min, fmt.max)]
    return min(int(y.min()) for y in found), max(int(y.max()) for y in found)


def test_bounds_of_a_pool_and_of_an_add_are_reached() -> None:
    pool = AvgPool(name="avg", input="x", output="s", kernel=(2, 3), stride=(1, 1))
    pooled = graph([pool], [tensor("x", (2, 3, 3)), tensor("s", (2, 2, 1), INT32)])
    assert pooled.accumulator_bounds("avg") == (-768, 762) == extremes(pooled, "s")
    for rounding in Rounding:
        layer = add(inputs=("a", "a"), multiplier=[2**30 + 7, 2**31 - 1], shift=[3, 0], rounding=rounding)
        network = summed(layer, zero_point=-5)
        assert network.accumulator_bounds("add") == extremes(network, "s")


def test_the_bounds_of_a_requantise_hold_its_bias() -> None:
    pool = AvgPool(name="avg", input="x", output="acc", kernel=(2, 2), stride=(2, 2))
    layers = [pool, post(bias=np.array([100, -7]))]
    tensors = [tensor("x", (2, 2, 2)), tensor("acc", (2, 1, 1), INT32), tensor("y", (2, 1, 1))]
    network = graph(layers, tensors)
    assert network.accumulator_bounds("post") == (-512 - 7, 508 + 100)
    alone = graph([post(input="acc")], [tensor("acc", (2,), INT32), tensor("y", (2,))])
    assert alone.accumulator_bounds("post") == (-(2**31), 2**31 - 1)
    with pytest.raises(ValueError, match="layer mix has no accumulators"):
        shuffled(2).accumulator_bounds("mix")
