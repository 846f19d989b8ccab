import dataclasses

import numpy as np
import pytest
from bitwright.mapper.layers import check_accumulators, group_layers
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import load_machine, override_machine
from bitwright.mapper.mapping import MappingError
from bitwright.models import (
    Conv,
    Flatten,
    Format,
    Linear,
    MaxPool,
    Network,
    Relu,
    Requantize,
    Rounding,
    Tensor,
    WeightRecord,
)

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


def build(
    layers: list, shapes: dict[str, tuple[int, ...]], weights: dict[str, np.ndarray], **formats
) -> Network:
    """A network of these layers, its tensors named by the layers' outputs."""
    tensors = {}
    for name, shape in shapes.items():
        fmt = formats.get(name, INT32 if name.endswith("_acc") else INT8)
        zero_point = 0 if fmt is INT32 or name == "y_acc" else formats.get("zero_point", 0)
        tensors[name] = Tensor(name=name, shape=shape, fmt=fmt, scale=1.0, zero_point=zero_point)
    records = {
        name: WeightRecord.dense(
            layer=name, values=values, fmt=formats.get("weight_fmt", INT8),
            scales=np.ones(len(values)), bias=formats.get("bias"),
        )
        for name, values in weights.items()
    }  # fmt: skip
    return Network(
        name="net", input="x", output=layers[-1].output, tensors=tensors, layers=tuple(layers),
        weights=records,
    )  # fmt: skip


def requantize(name: str, source: str, output: str, channels: int, low=-128, high=127) -> Requantize:
    return Requantize(
        name=name, input=source, output=output, multiplier=np.full(channels, 1 << 30, np.int32),
        shift=np.full(channels, 4, np.int32), rounding=Rounding.SHIFT, low=low, high=high,
    )  # fmt: skip


def conv_network(*more, conv=None, shapes=None, weights=None, **formats) -> Network:
    """x (2, 6, 6) → conv 3×3 → a (3, 4, 4), then `more`."""
    layers = [
        conv or Conv(name="conv", input="x", output="a_acc"),
        requantize("quant", "a_acc", "a", 3),
        *more,
    ]
    default = {"x": (2, 6, 6), "a_acc": (3, 4, 4), "a": (3, 4, 4)}
    return build(
        layers, default | (shapes or {}),
        weights or {"conv": np.ones((3, 2, 3, 3), np.int8)}, **formats,
    )  # fmt: skip


def test_a_relu_becomes_the_clamp_and_a_pool_is_fused():
    relu = Relu(name="relu", input="a", output="b")
    pool = MaxPool(name="pool", input="b", output="c", kernel=(3, 2), stride=(3, 2))
    network = conv_network(relu, pool, shapes={"b": (3, 4, 4), "c": (3, 1, 2)}, zero_point=7, x=INT8)
    (layer,) = group_layers(network)
    assert (layer.clamp_low, layer.clamp_high) == (7, 127)
    assert (layer.shape.pool_y, layer.shape.pool_x) == (3, 2)
    assert (layer.shape.OY, layer.shape.OX) == (3, 4)  # the fourth row is in no window
    assert layer.shape.macs == 3 * 2 * 9 * 12
    assert layer.output_shape == (3, 1, 2)


def test_a_linear_layers_weights_are_reordered_from_chw_to_hwc():
    values = np.arange(12, dtype=np.int8).reshape(1, 12)
    network = build(
        [
            Flatten(name="flat", input="x", output="f"),
            Linear(name="fc", input="f", output="y_acc"),
            requantize("quant", "y_acc", "y", 1),
        ],
        {"x": (2, 2, 3), "f": (12,), "y_acc": (1,), "y": (1,)},
        {"fc": values},
    )
    (layer,) = group_layers(network)
    # c·6 + y·3 + x in CHW; the pixels of HWC hold (c 0, c 1) side by side.
    assert layer.weights.ravel().tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    assert (layer.shape.C, layer.shape.OY, layer.shape.OX) == (12, 1, 1)


def pool_of(**settings) -> MaxPool:
    return MaxPool(**({"name": "pool", "input": "a", "output": "b"} | settings))


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (
            lambda: conv_network(
                conv=Conv(name="conv", input="x", output="a_acc", groups=2),
                shapes={"a_acc": (4, 4, 4), "a": (4, 4, 4)},
                weights={"conv": np.ones((4, 1, 3, 3), np.int8)},
            ),
            "multiplier and shift|layer conv: groups must be 1, not 2",
        ),
        (
            lambda: conv_network(
                pool_of(kernel=(2, 2), stride=(1, 1)), shapes={"b": (3, 3, 3)}
            ),
            r"layer pool: its kernel is \(2, 2\), its stride \(1, 1\)",
        ),
        (
            lambda: conv_network(
                pool_of(kernel=(2, 2), stride=(2, 2)),
                MaxPool(name="more", input="b", output="c", kernel=(2, 2), stride=(2, 2)),
                shapes={"b": (3, 2, 2), "c": (3, 1, 1)},
            ),
            "layer more: a second pool",
        ),
        (
            lambda: build([pool_of(input="x", kernel=(2, 2), stride=(2, 2))],
                          {"x": (1, 4, 4), "b": (1, 2, 2)}, {}),
            "layer pool: a maxpool can't stand here at the network's input",
        ),
        (
            lambda: conv_network(x=Format.parse("uint8")),
            "layer conv: its input x must be int8, not uint8",
        ),
        (
            lambda: conv_network(weight_fmt=Format.parse("int4")),
            "layer conv: its weights must be int8, ternary, binary, not int4",
        ),
        (
            lambda: conv_network(
                Flatten(name="flat", input="a", output="b"), shapes={"b": (48,)}
            ),
            "layer flat: a Flatten at the end",
        ),
        (
            lambda: build([Conv(name="conv", input="x", output="y_acc")],
                          {"x": (1, 3, 3), "y_acc": (1, 1, 1)},
                          {"conv": np.ones((1, 1, 3, 3), np.int8)}),
            "layer conv: no Requantize follows",
        ),
    ],
)  # fmt: skip
def test_what_the_core_does_not_run_is_refused_by_name(network, text):
    with pytest.raises((MappingError, ValueError), match=text):
        group_layers(network())


def test_accumulators_are_proved_from_the_actual_weights():
    # 18 weights of 127 on −128…127: −292 608…290 322, which 20 bits hold and 19 don't.
    network = conv_network(weights={"conv": np.full((3, 2, 3, 3), 127, np.int8)})
    (layer,) = group_layers(network)
    machine = load_machine("core-small")
    check_accumulators(layer, override_machine(machine, ["array.acc_bits=20"]))
    with pytest.raises(MappingError, match=r"layer conv: its accumulators need 20 bits.*are 19"):
        check_accumulators(layer, override_machine(machine, ["array.acc_bits=19"]))


def test_the_bias_must_leave_the_sum_within_int32():
    network = conv_network(bias=np.full(3, 2**31 - 1, np.int32))
    with pytest.raises(MappingError, match="layer conv: its sums with bias need 33 bits"):
        map_network(network, load_machine("core-small"))
    (layer,) = group_layers(conv_network())
    check_accumulators(
        dataclasses.replace(layer, bias=np.full(3, 2**31 - 1 - 18 * 127, np.int32)),
        load_machine("core-small"),
    )
