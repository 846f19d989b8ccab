import pickle
from typing import Any

import numpy as np
import pytest
from bitwright.models.formats import Format
from bitwright.models.layers import Conv, Flatten, Linear, MaxPool, Requantize
from bitwright.models.network import Network, Tensor
from bitwright.models.numerics import Rounding
from bitwright.models.weights import WeightRecord
from bitwright.models.zoo import random_network, resnet8_stack

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


def parts(**changes: Any) -> dict[str, Any]:
    """The arguments of a sound conv → requantise network, with some changed."""
    weights = WeightRecord.dense(
        layer="conv", values=np.ones((4, 3, 2, 2), np.int8), fmt=INT8, scales=np.ones(4)
    )
    tensors = [
        Tensor(name="x", shape=(3, 5, 5), fmt=INT8),
        Tensor(name="acc", shape=(4, 4, 4), fmt=INT32),
        Tensor(name="y", shape=(4, 4, 4), fmt=INT8, zero_point=3),
    ]
    sound = {
        "name": "n",
        "input": "x",
        "output": "y",
        "tensors": {t.name: t for t in tensors},
        "layers": (Conv(name="conv", input="x", output="acc"), post()),
        "weights": {"conv": weights},
    }
    return sound | changes


def post(**changes: Any) -> Requantize:
    values: dict[str, Any] = {
        "name": "post",
        "input": "acc",
        "output": "y",
        "multiplier": np.full(4, 2**30),
        "shift": np.zeros(4, int),
        "rounding": Rounding.SHIFT,
        "low": -128,
        "high": 127,
    }
    return Requantize(**(values | changes))


def retensor(**tensor: Any) -> dict[str, Tensor]:
    return parts()["tensors"] | {tensor["name"]: Tensor(**tensor)}


CONV = Conv(name="conv", input="x", output="acc")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"input": "z"}, "network n: its input 'z' is no listed tensor"),
        ({"name": "../n"}, "a network's name must be letters"),
        ({"layers": ()}, "has no layers"),
        ({"layers": (post(), CONV)}, "layer post: its input 'acc' is made by no layer before it"),
        ({"layers": (CONV,)}, "tensor y is made by no layer"),
        ({"layers": (CONV, CONV)}, "layer conv: the name stands twice"),
        ({"weights": {}}, "layer conv: it has no weights"),
        (
            {"layers": (CONV, post(multiplier=np.ones(3, int), shift=np.ones(3, int)))},
            "layer post: .* 4 channels",
        ),
        ({"layers": (CONV, post(high=128))}, "layer post: low and high must be from -128 to 127"),
        (
            {"tensors": retensor(name="acc", shape=(4, 4, 3), fmt=INT32)},
            r"layer conv: .* must have shape \(4, 4, 4\)",
        ),
        (
            {"tensors": retensor(name="acc", shape=(4, 4, 4), fmt=INT8)},
            "layer conv: .* holds accumulators: int32",
        ),
        ({"tensors": retensor(name="x", shape=(2, 5, 5), fmt=INT8)}, "layer conv: weights for 3 channels"),
        (
            {"tensors": retensor(name="x", shape=(3, 1, 5), fmt=INT8)},
            "layer conv: a 2×2 kernel .* doesn't fit into 1×5",
        ),
        ({"tensors": retensor(name="x", shape=(75,), fmt=INT8)}, "layer conv: a convolution needs"),
        ({"layers": (Linear(name="conv", input="x", output="acc"), post())}, "put a Flatten before it"),
    ],
)
def test_a_fault_names_its_layer(changes: dict[str, Any], text: str) -> None:
    Network(**parts())
    with pytest.raises(ValueError, match=text):
        Network(**parts(**changes))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Conv(name="c", input="x", output="y", stride=(0, 1)),
            r"layer c: stride must be 2 integers from 1",
        ),
        (
            lambda: Conv(name="c", input="x", output="y", padding=(1, 1)),
            "layer c: padding must be 4 integers",
        ),
        (
            lambda: MaxPool(
                name="p", input="x", output="y", kernel=(2, 2), stride=(2, 2), padding=(2, 0, 0, 0)
            ),
            "layer p",
        ),
        (lambda: post(shift=np.full(4, 32)), "layer post: shift must be from 0 to 31, not 32"),
        (
            lambda: post(multiplier=np.full(4, -1)),
            "layer post: multiplier must be from 0 to 2147483647, not -1",
        ),
        (lambda: post(multiplier=np.full(4, 0.5)), "layer post: multiplier must be integers"),
        (lambda: post(low=5, high=4), "layer post: low must not be above high"),
        (lambda: post(rounding=9), "layer post: rounding must be one of TFLITE_DOUBLE"),
        (lambda: Tensor(name="t", shape=(0,), fmt=INT8), "tensor t: shape"),
        (
            lambda: Tensor(name="t", shape=(1,), fmt=INT8, zero_point=200),
            "tensor t: zero_point must be from -128",
        ),
        (lambda: Tensor(name="t", shape=(1,), fmt=INT8, scale=float("nan")), "tensor t: scale"),
        (lambda: Tensor(name="a/b", shape=(1,), fmt=INT8), "a tensor's name"),
    ],
)
def test_a_part_out_of_range_is_refused_at_once(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"values": np.ones((2, 3, 4))}, "layer w: a weight must be an integer"),
        ({"values": np.full((2, 3), 200)}, "layer w: a weight of format int8"),
        ({"scales": [1.0]}, "layer w: scales must be 2"),
        ({"scales": [1.0, 0.0]}, "layer w: scales must be 2"),
        ({"bias": [1]}, "layer w: bias must have shape"),
        ({"bias": [1, 2**31]}, "layer w: a bias of format int32"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(changes: dict[str, Any], text: str) -> None:
    sound: dict[str, Any] = {"layer": "w", "values": np.ones((2, 3), int), "fmt": INT8, "scales": [1.0, 2.0]}
    with pytest.raises(ValueError, match=text):
        WeightRecord.dense(**(sound | changes))


def test_a_payload_that_is_not_the_weights_is_refused() -> None:
    record = WeightRecord.dense(
        layer="w", values=np.ones((1, 4), int), fmt=Format.parse("int4"), scales=[1.0]
    )
    assert record.payload == b"\x11\x11"
    with pytest.raises(ValueError, match="layer w: the payload doesn't decode"):
        WeightRecord(
            layer="w",
            values=record.values,
            fmt=record.fmt,
            scales=record.scales,
            bias=None,
            payload=b"\x11\x21",
        )


def test_resnet8_has_the_published_shapes() -> None:
    network = resnet8_stack()
    assert [r.values.shape for r in network.weights.values()] == [
        (16, 3, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3),
        (64, 64, 3, 3), (10, 256),
    ]  # fmt: skip
    # 32·32·16·27 + 2·32·32·16·144 + 16·16·32·(144 + 288) + 8·8·64·(288 + 576) + 2560
    assert sum(network.layer_macs(layer.name) for layer in network.layers) == 12_241_408
    # 432 + 2·2304 + 4608 + 9216 + 18432 + 36864 + 2560 weights, 3·16 + 2·32 + 2·64 + 10 biases
    assert sum(network.layer_parameters(layer.name) for layer in network.layers) == 76_720 + 250


def test_random_networks_keep_the_core_pattern_and_their_seed() -> None:
    for seed in range(25):
        network = random_network(seed)
        previous: Any = None
        for layer in network.layers:
            assert isinstance(layer, Requantize) == isinstance(previous, Conv | Linear)
            if isinstance(layer, MaxPool):
                assert (
                    isinstance(previous, Requantize)
                    and layer.stride == layer.kernel
                    and not any(layer.padding)
                )
            if isinstance(layer, Flatten):
                assert not isinstance(previous, Conv | Linear)
            previous = layer
        again = random_network(seed)
        assert all(np.array_equal(again.weights[k].values, r.values) for k, r in network.weights.items())


def test_a_network_can_be_handed_to_another_process() -> None:
    network = random_network(4)
    copy = pickle.loads(pickle.dumps(network))
    assert copy.layers[0] == network.layers[0] and list(copy.weights) == list(network.weights)
