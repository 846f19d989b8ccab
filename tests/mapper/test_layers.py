import dataclasses

import numpy as np
import pytest
from bitwright.mapper.graph import lower_graph
from bitwright.mapper.isa import PostMode
from bitwright.mapper.layers import check_accumulators, check_served
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.pe import PeKind
from bitwright.models import (
    Add,
    Concat,
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
    Thresholds,
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


def requantize(
    name: str, source: str, output: str, channels: int, low=-128, high=127, at=Rounding.SHIFT, scales=None
) -> Requantize:
    multiplier = np.full(channels, 1 << 30, np.int32) if scales is None else np.array(scales, np.int32)
    return Requantize(
        name=name, input=source, output=output, multiplier=multiplier,
        shift=np.full(channels, 4, np.int32), rounding=at, low=low, high=high,
    )  # fmt: skip


def add_of() -> Add:
    """a + a into b_acc."""
    return Add(
        name="add", inputs=("a", "a"), output="b_acc", multiplier=np.full(2, 1 << 30),
        shift=np.zeros(2, np.int32), left_shift=4, rounding=Rounding.SHIFT,
    )  # fmt: skip


def conv_network(
    *more, conv=None, shapes=None, weights=None, post=None, count=3, low=-128, high=127, **formats
) -> Network:
    """x (2, 6, 6) → conv 3×3 → a (3, 4, 4), then `more`."""
    layers = [
        conv or Conv(name="conv", input="x", output="a_acc"),
        post or requantize("quant", "a_acc", "a", count, low, high),
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
    (layer,) = lower_graph(network).layers
    assert (layer.post.low, layer.post.high) == (7, 127)
    assert (layer.shape.pool_y, layer.shape.pool_x) == (3, 2)
    assert (layer.shape.OY, layer.shape.OX) == (3, 4)  # the fourth row is in no window
    assert layer.shape.macs == 3 * 2 * 9 * 12


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
    (layer,) = lower_graph(network).layers
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
                pool_of(kernel=(16, 1), stride=(1, 1), padding=(7, 0, 7, 0)), shapes={"b": (3, 3, 4)}
            ),
            r"layer pool: its kernel is \(16, 1\): use at most 15",
        ),
        (
            lambda: conv_network(x=Format.parse("uint8")),
            "layer conv: the network's input x must be int8, ternary, binary, not uint8",
        ),
        (
            lambda: conv_network(weight_fmt=Format.parse("int4")),
            "layer conv: on int8 activations its weights must be int8, ternary, binary, not int4",
        ),
        (
            lambda: conv_network(a=Format.parse("int4"), low=-8, high=7),
            "layer quant: its output a must be int8, ternary, binary, not int4",
        ),
        (
            lambda: conv_network(
                weight_fmt=Format.parse("ternary"), x=Format.parse("binary")
            ),
            "layer conv: on binary activations its weights must be binary, not ternary",
        ),
        (
            lambda: conv_network(
                Flatten(name="flat", input="a", output="b"), shapes={"b": (48,)}
            ),
            "layer flat: it would reorder the output: end with the layer before it",
        ),
        (
            lambda: build([Conv(name="conv", input="x", output="y_acc")],
                          {"x": (1, 3, 3), "y_acc": (1, 1, 1)},
                          {"conv": np.ones((1, 1, 3, 3), np.int8)}),
            "layer conv: its accumulators y_acc must go to one Requantize or Thresholds alone",
        ),
        (
            lambda: conv_network(
                requantize("again", "a_acc", "b", 3), shapes={"b": (3, 4, 4)}
            ),
            "layer quant: nobody takes its output a",
        ),
        (
            lambda: conv_network(
                conv=Conv(name="conv", input="x", output="a_acc", padding=(1, 1, 1, 1)),
                shapes={"a_acc": (3, 6, 6), "a": (3, 6, 6)},
                x=Format.parse("binary"), weight_fmt=Format.parse("binary"),
            ),
            "layer conv: its binary input can't be padded with 0: set pad_value to -1 or 1",
        ),
        (
            lambda: conv_network(
                conv=Conv(name="conv", input="x", output="a_acc", groups=2),
                shapes={"a_acc": (2, 4, 4), "a": (2, 4, 4)}, count=2,
                weights={"conv": np.ones((2, 1, 3, 3), np.int8)}, x=Format.parse("ternary"),
            ),
            "layer conv: its input x must be int8, not ternary, since it works lane by lane",
        ),
        (
            lambda: conv_network(
                conv=Conv(name="conv", input="x", output="a_acc", groups=2),
                shapes={"a_acc": (4, 4, 4), "a": (4, 4, 4)}, count=4, x=Format.parse("ternary"),
                weights={"conv": np.ones((4, 1, 3, 3), np.int8)}, weight_fmt=Format.parse("ternary"),
            ),
            "layer conv: a group's 1 ternary channels don't fill whole bytes",
        ),
        (
            lambda: conv_network(
                Concat(name="cat", inputs=("a", "a"), output="b"), shapes={"b": (6, 4, 4)},
                a=Format.parse("ternary"), b=Format.parse("ternary"), low=-1, high=1,
            ),
            "layer cat: its input a would start within a byte, after 3 channels",
        ),
        (
            lambda: conv_network(add_of(), requantize("sum", "b_acc", "c", 3, at=Rounding.HALF_EVEN),
                                 shapes={"b_acc": (3, 4, 4), "c": (3, 4, 4)}),
            "layer sum: its rounding HALF_EVEN differs from that of add, SHIFT: round alike",
        ),
        (
            lambda: conv_network(add_of(), requantize("sum", "b_acc", "c", 3, scales=(9, 9, 8)),
                                 shapes={"b_acc": (3, 4, 4), "c": (3, 4, 4)}),
            "layer sum: after an add all channels must have the same multiplier and shift",
        ),
        (
            lambda: conv_network(
                add_of(), Thresholds(name="steps", input="b_acc", output="c", low=0, step=1,
                                     values=np.zeros((3, 1), np.int32)),
                shapes={"b_acc": (3, 4, 4), "c": (3, 4, 4)}),
            "layer add: Thresholds can't follow an add: put a Requantize after it",
        ),
    ],
)  # fmt: skip
def test_what_the_core_does_not_run_is_refused_by_name(network, text):
    with pytest.raises(MappingError, match=text):
        lower_graph(network())


def test_lane_wise_work_on_a_machine_without_it_is_refused_with_the_way_out():
    network = conv_network(pool_of(kernel=(2, 2), stride=(1, 1)), shapes={"b": (3, 3, 3)})
    _, pool = lower_graph(network).layers
    machine = override_machine(load_machine("core-small"), ['array.pes=["int8"]'])
    with pytest.raises(
        MappingError, match=r"layer pool: no PE of core-small works lane by lane.*add 'vector'"
    ):
        check_served(pool, machine)


def test_an_accumulator_that_meets_the_missing_threshold_is_refused():
    steps = Thresholds(
        name="steps", input="a_acc", output="a", values=np.zeros((3, 1), np.int32), low=-1, step=2
    )
    (layer,) = lower_graph(conv_network(post=steps)).layers
    check_accumulators(layer, load_machine("core-small"))
    # Ternary activations, and weights whose magnitudes sum to 2^31 − 1: sums that fill 32 bits.
    shape = dataclasses.replace(layer.shape, pe=PeKind.TERNARY)
    weights = np.full((3, 1, 1, 1), 2**31 - 1, np.int64)
    wide = dataclasses.replace(layer, weights=weights, shape=shape)
    with pytest.raises(MappingError, match="layer conv: its accumulators reach 2147483647, which stands for"):
        check_accumulators(wide, load_machine("core-small"))
    check_accumulators(dataclasses.replace(wide, weights=weights - 1), load_machine("core-small"))


def test_an_add_whose_operand_leaves_32_bits_is_refused():
    network = conv_network(
        add_of(), requantize("sum", "b_acc", "c", 3), shapes={"b_acc": (3, 4, 4), "c": (3, 4, 4)}
    )
    _, add = lower_graph(network).layers
    assert add.shape.mode is PostMode.ADD
    check_accumulators(add, load_machine("core-small"))
    # An operand reaches −128: 8 bits and the shift.
    far = dataclasses.replace(add, post=dataclasses.replace(add.post, left=25))
    with pytest.raises(MappingError, match="layer add: an operand shifted left by 25 needs 33 bits"):
        check_accumulators(far, load_machine("core-small"))
    # Two operands of nearly 2^31 each.
    both = dataclasses.replace(
        add.post, left=24, multiplier=np.full(2, 2**31 - 1, np.int32), shift=np.zeros(2, np.int32)
    )
    with pytest.raises(MappingError, match="layer add: the sum of its operands needs 33 bits"):
        check_accumulators(dataclasses.replace(add, post=both), load_machine("core-small"))


def test_accumulators_are_proved_from_the_actual_weights():
    # 18 weights of 127 on −128…127: −292 608…290 322, which 20 bits hold and 19 don't.
    network = conv_network(weights={"conv": np.full((3, 2, 3, 3), 127, np.int8)})
    (layer,) = lower_graph(network).layers
    machine = load_machine("core-small")
    check_accumulators(layer, override_machine(machine, ["array.acc_bits=20"]))
    with pytest.raises(MappingError, match=r"layer conv: its accumulators need 20 bits.*are 19"):
        check_accumulators(layer, override_machine(machine, ["array.acc_bits=19"]))


def test_the_bias_must_leave_the_sum_within_int32():
    network = conv_network(bias=np.full(3, 2**31 - 1, np.int32))
    with pytest.raises(MappingError, match="layer conv: its sums with bias need 33 bits"):
        map_network(network, load_machine("core-small"))
    (layer,) = lower_graph(conv_network()).layers
    check_accumulators(
        with_bias(layer, 2**31 - 1 - 18 * 127),
        load_machine("core-small"),
    )


def with_bias(layer, value: int):
    post = dataclasses.replace(layer.post, bias=np.full(layer.shape.K, value, np.int32))
    return dataclasses.replace(layer, post=post)
