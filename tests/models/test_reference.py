import numpy as np
import pytest
import torch
from bitwright.models.formats import Format
from bitwright.models.layers import Conv, Linear, MaxPool, Relu, Requantize
from bitwright.models.network import Network, Tensor
from bitwright.models.numerics import requantize
from bitwright.models.reference import _matmul, run_reference, trace_reference
from bitwright.models.weights import WeightRecord
from bitwright.models.zoo import random_input, random_network, resnet8_stack

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


def framework(network: Network, layer: object, x: np.ndarray) -> np.ndarray:
    """One layer in torch, on int64 or float64 tensors."""
    source, result = network.tensors[layer.input], network.tensors[layer.output]
    if isinstance(layer, Conv):
        record, (top, left, bottom, right) = network.weights[layer.name], layer.padding
        padded = torch.nn.functional.pad(
            torch.from_numpy(x.astype(np.float64)), (left, right, top, bottom), value=float(source.zero_point)
        )
        y = torch.nn.functional.conv2d(
            padded,
            torch.from_numpy(record.values.astype(np.float64)),
            torch.from_numpy(record.bias.astype(np.float64)),
            layer.stride,
            0,
            layer.dilation,
            layer.groups,
        )
        return y.numpy().astype(np.int64)
    if isinstance(layer, Linear):
        record = network.weights[layer.name]
        return x.astype(np.int64) @ record.values.T.astype(np.int64) + record.bias
    if isinstance(layer, MaxPool):
        tensor = torch.from_numpy(x.astype(np.float64))
        return torch.nn.functional.max_pool2d(tensor, layer.kernel, layer.stride).numpy().astype(np.int64)
    if isinstance(layer, Requantize):
        return requantize(
            x, multiplier=layer.multiplier, shift=layer.shift, rounding=layer.rounding, low=layer.low,
            high=layer.high, zero_point=result.zero_point, channel_axis=1,
        )  # fmt: skip
    return x.reshape(len(x), -1)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_run_as_in_torch(seed: int) -> None:
    network = random_network(seed, groups=seed % 2 == 1)
    x = random_input(network, seed, 3)
    values = trace_reference(network, x)
    for layer in network.layers:
        assert np.array_equal(values[layer.output], framework(network, layer, values[layer.input])), (
            layer.name
        )
    assert np.array_equal(values[network.output], run_reference(network, x))


def one_conv(
    values: np.ndarray, shape: tuple[int, int, int], fmt: Format = INT8, **options: object
) -> Network:
    record = WeightRecord.dense(
        layer="conv",
        values=values,
        fmt=Format.parse("int16"),
        scales=np.ones(len(values)),
        bias=np.arange(len(values)),
    )
    layer = Conv(name="conv", input="x", output="y", **options)
    result = Tensor(name="y", shape=layer.output_shape(shape, values.shape), fmt=INT32)
    source = Tensor(name="x", shape=shape, fmt=fmt, zero_point=5)
    return Network(
        name="one",
        input="x",
        output="y",
        tensors={"x": source, "y": result},
        layers=(layer,),
        weights={"conv": record},
    )


def test_a_convolution_equals_seven_plain_loops() -> None:
    rng = np.random.default_rng(0)
    values, x = rng.integers(-9, 9, (4, 2, 3, 2)), rng.integers(-128, 128, (2, 4, 7, 6))
    network = one_conv(values, (4, 7, 6), stride=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2), groups=2)
    expected = np.zeros((2, *network.tensors["y"].shape), np.int64)
    for b, k, oy, ox in np.ndindex(*expected.shape):
        total = k  # the bias
        for c, fy, fx in np.ndindex(2, 3, 2):
            row, col = oy * 2 + fy - 1, ox + fx * 2
            inside = 0 <= row < 7 and 0 <= col < 6
            total += int(values[k, c, fy, fx]) * (int(x[b, k // 2 * 2 + c, row, col]) if inside else 5)
        expected[b, k, oy, ox] = total
    assert np.array_equal(run_reference(network, x), expected)


def test_a_padded_overlapping_pool_ignores_its_padding() -> None:
    source, result = (Tensor(name=n, shape=s, fmt=INT8) for n, s in (("x", (2, 5, 4)), ("y", (2, 3, 3))))
    layer = MaxPool(name="pool", input="x", output="y", kernel=(3, 2), stride=(2, 2), padding=(1, 1, 1, 1))
    network = Network(
        name="p", input="x", output="y", tensors={"x": source, "y": result}, layers=(layer,), weights={}
    )
    x = np.random.default_rng(1).integers(-128, -100, (3, 2, 5, 4))
    expected = np.empty((3, 2, 3, 3), np.int64)
    for b, c, oy, ox in np.ndindex(*expected.shape):
        rows, cols = (
            range(max(0, 2 * oy - 1), min(5, 2 * oy + 2)),
            range(max(0, 2 * ox - 1), min(4, 2 * ox + 1)),
        )
        expected[b, c, oy, ox] = max(x[b, c, r, q] for r in rows for q in cols)
    assert np.array_equal(run_reference(network, x), expected)


def test_relu_cuts_at_the_zero_point() -> None:
    source, result = (Tensor(name=n, shape=(3,), fmt=INT8, zero_point=-4) for n in "xy")
    network = Network(
        name="r", input="x", output="y", tensors={"x": source, "y": result},
        layers=(Relu(name="relu", input="x", output="y"),), weights={},
    )  # fmt: skip
    assert run_reference(network, [[-9, -4, 3]]).tolist() == [[-4, -4, 3]]


@pytest.mark.parametrize("scale", [1, 2**8, 2**24, 2**40])
def test_every_arithmetic_path_of_the_product_is_exact(scale: int) -> None:
    rng = np.random.default_rng(2)
    weights, columns = rng.integers(-128, 128, (5, 60)) * scale, rng.integers(-128, 128, (60, 7))
    expected = [
        [sum(int(a) * int(b) for a, b in zip(row, col, strict=True)) for col in columns.T] for row in weights
    ]
    bound = int(np.abs(weights).sum(axis=1).max()) * 128
    assert _matmul(weights, columns, bound).tolist() == expected


def test_an_accumulator_beyond_int32_names_its_layer() -> None:
    network = one_conv(np.full((1, 64, 1, 1), 32767), (64, 1, 1), Format.parse("int16"))
    with pytest.raises(ValueError, match="layer conv: an accumulator must fit int32, not reach 68715282496"):
        run_reference(network, np.full((1, 64, 1, 1), 32767))


def test_accumulators_stay_within_their_proven_bounds() -> None:
    network = random_network(3, max_channels=4)
    name = network.layers[0].name
    low, high = network.accumulator_bounds(name)
    record = network.weights[name]
    # The worst input of each channel takes -128 or 127 by the weight's sign.
    rows = record.values.reshape(len(record.values), -1).astype(np.int64)
    assert high == max(
        int(np.where(r > 0, r * 127, r * -128).sum() + b) for r, b in zip(rows, record.bias, strict=True)
    )
    acc = trace_reference(network, random_input(network, 1, 8))[network.layers[0].output]
    assert low <= acc.min() and acc.max() <= high


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((3, 32, 32), np.int8), r"must have shape \(B, 3, 32, 32\), not \(3, 32, 32\)"),
        (np.full((1, 3, 32, 32), 128), "input value of format int8 must be from -128 to 127, not 128"),
        (np.zeros((1, 3, 32, 32)), "must be an integer, not float64"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(x: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        run_reference(resnet8_stack(), x)
