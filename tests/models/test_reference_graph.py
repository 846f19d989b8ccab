"""The layers beside convolutions, each against a framework, published arithmetic or plain loops."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from bitwright.models.formats import Format
from bitwright.models.layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Linear,
    MaxPool,
    Requantize,
    Shuffle,
    Thresholds,
)
from bitwright.models.network import Network, Tensor
from bitwright.models.numerics import Rounding, count_thresholds, quantize_multiplier
from bitwright.models.reference import _run, run_reference, trace_reference
from bitwright.models.weights import WeightRecord
from bitwright.models.zoo import FORMATS, random_input, random_network

INT8, INT32 = Format.parse("int8"), Format.parse("int32")
BINARY = Format.parse("binary")


def single(layer: Any, source: Tensor, shape: tuple[int, ...], fmt: Format, values: Any = None) -> Network:
    """A network of one layer, with weights if they are given."""
    result = Tensor(
        name="y",
        shape=shape,
        fmt=fmt,
        zero_point=0 if fmt == INT32 else source.zero_point,
        scale=source.scale,
    )
    weights = {}
    if values is not None:
        weights[layer.name] = WeightRecord.dense(
            layer=layer.name,
            values=values,
            fmt=source.fmt,
            scales=np.ones(len(values)),
        )
    return Network(
        name="one",
        input="x",
        output="y",
        tensors={"x": source, "y": result},
        layers=(layer,),
        weights=weights,
    )


def geometry(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride, and padding of each side of an axis at most half of the kernel, as torch wants it."""
    kernel = tuple(int(n) for n in rng.integers(1, 5, 2))
    stride = tuple(int(n) for n in rng.integers(1, 4, 2))
    return kernel, stride, tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)


@pytest.mark.parametrize("seed", range(20))
def test_pools_equal_those_of_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, stride, (py, px) = geometry(rng)
    source = Tensor(name="x", shape=(5, 9, 8), fmt=INT8, zero_point=0)
    x = rng.integers(-128, 128, (3, 5, 9, 8))
    inputs = torch.from_numpy(x.astype(np.float64))
    options: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": (py, px, py, px)}
    largest = MaxPool(name="p", input="x", output="y", **options)
    network = single(largest, source, largest.output_shape(source.shape), INT8)
    expected = torch.nn.functional.max_pool2d(inputs, kernel, stride, (py, px))
    assert np.array_equal(run_reference(network, x), expected.numpy())
    mean = AvgPool(name="p", input="x", output="y", **options)
    network = single(mean, source, mean.output_shape(source.shape), INT32)
    expected = torch.nn.functional.avg_pool2d(inputs, kernel, stride, (py, px), divisor_override=1)
    assert np.array_equal(run_reference(network, x), expected.numpy())


def test_an_average_pool_with_its_requantise_is_the_mean_rounded() -> None:
    pool = AvgPool(name="p", input="x", output="s", kernel=(3, 3), stride=(2, 1), padding=(1, 0, 2, 2))
    shape = pool.output_shape((2, 6, 5))
    multiplier, shift = quantize_multiplier(1 / 9)
    post = Requantize(
        name="r", input="s", output="y", multiplier=np.full(2, multiplier), shift=np.full(2, shift),
        rounding=Rounding.TFLITE_SINGLE, low=-128, high=127, bias=np.full(2, -9 * 9),
    )  # fmt: skip
    tensors = [
        Tensor(name="x", shape=(2, 6, 5), fmt=INT8, zero_point=9),
        Tensor(name="s", shape=shape, fmt=INT32),
        Tensor(name="y", shape=shape, fmt=INT8, zero_point=-30),
    ]
    network = Network(
        name="n", input="x", output="y", tensors={t.name: t for t in tensors}, layers=(pool, post), weights={}
    )
    x = np.random.default_rng(4).integers(-128, 128, (3, 2, 6, 5))
    padded = torch.nn.functional.pad(torch.from_numpy(x - 9.0), (0, 2, 1, 2))
    means = torch.nn.functional.avg_pool2d(padded, (3, 3), (2, 1)).numpy()
    # A ninth is never a half, so the multiplier's last bit doesn't matter.
    assert np.array_equal(run_reference(network, x), np.clip(np.floor(means + 0.5) - 30, -128, 127))


@pytest.mark.parametrize(("channels", "groups", "outputs"), [(12, 12, 12), (6, 6, 12), (8, 4, 12), (6, 2, 2)])
@pytest.mark.parametrize("fmt", ["int8", "ternary"])
def test_grouped_and_depthwise_convolutions_equal_those_of_torch(
    channels: int, groups: int, outputs: int, fmt: str
) -> None:
    rng = np.random.default_rng(channels * outputs)
    kind = Format.parse(fmt)
    values = rng.integers(kind.min, kind.max + 1, (outputs, channels // groups, 3, 2))
    layer = Conv(
        name="c", input="x", output="y", stride=(2, 1), padding=(2, 1, 2, 1), groups=groups, pad_value=1
    )
    source = Tensor(name="x", shape=(channels, 7, 6), fmt=kind)
    network = single(layer, source, layer.output_shape(source.shape, values.shape), INT32, values)
    x = rng.integers(kind.min, kind.max + 1, (5, channels, 7, 6))
    padded = torch.nn.functional.pad(torch.from_numpy(x.astype(np.float64)), (1, 1, 2, 2), value=1.0)
    expected = torch.nn.functional.conv2d(
        padded, torch.from_numpy(values.astype(np.float64)), stride=(2, 1), groups=groups
    )
    assert np.array_equal(run_reference(network, x), expected.numpy())


def bits(values: np.ndarray) -> int:
    """−1 and 1 as the bits 0 and 1 of one integer."""
    return sum(1 << place for place, value in enumerate(values.ravel().tolist()) if value > 0)


@pytest.mark.parametrize("pad_value", [-1, 1])
def test_a_bipolar_convolution_is_twice_the_popcount_of_xnor_less_its_length(pad_value: int) -> None:
    rng = np.random.default_rng(6)
    values = rng.integers(0, 2, (5, 7, 3, 3)) * 2 - 1
    layer = Conv(name="c", input="x", output="y", padding=(1, 1, 1, 1), pad_value=pad_value)
    network = single(layer, Tensor(name="x", shape=(7, 4, 5), fmt=BINARY), (5, 4, 5), INT32, values)
    x = rng.integers(0, 2, (2, 7, 4, 5)) * 2 - 1
    padded = np.full((2, 7, 6, 7), pad_value)
    padded[:, :, 1:5, 1:6] = x
    result = run_reference(network, x)
    length = 7 * 3 * 3
    for b, k, oy, ox in np.ndindex(*result.shape):
        window = bits(padded[b, :, oy : oy + 3, ox : ox + 3])
        same = ~(window ^ bits(values[k])) & ((1 << length) - 1)
        assert result[b, k, oy, ox] == 2 * same.bit_count() - length


def test_binary_padding_without_a_value_adds_nothing() -> None:
    layer = Conv(name="c", input="x", output="y", padding=(1, 1, 1, 1))
    values = np.ones((1, 1, 3, 3), int)
    network = single(layer, Tensor(name="x", shape=(1, 1, 1), fmt=BINARY), (1, 1, 1), INT32, values)
    assert run_reference(network, [[[[-1]]]]).tolist() == [[[[-1]]]]


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul as gemmlowp writes it; C's division truncates."""
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)


def smaller_than_one(x: int, multiplier: int, left_shift: int) -> int:
    """MultiplyByQuantizedMultiplierSmallerThanOneExp; `left_shift` is 0 or below."""
    high, exponent = high_mul(x, multiplier), -left_shift
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if high < 0 else 0)
    return (high >> exponent) + (1 if (high & mask) > threshold else 0)


def smaller_than_one_multiplier(real: float) -> tuple[int, int]:
    """QuantizeMultiplierSmallerThanOneExp: (multiplier, left shift)."""
    fraction, exponent = math.frexp(real)
    fixed = math.floor(fraction * 2**31 + 0.5)
    return (fixed // 2, exponent + 1) if fixed == 2**31 else (fixed, exponent)


@pytest.mark.parametrize(
    ("scales", "zero_points", "scale_out", "zero_out", "low"),
    [
        ((0.02, 0.031), (3, -17), 0.04, -5, -128),
        ((0.5, 0.5), (0, 0), 0.5, 0, 0),
        ((0.011, 0.27), (-128, 127), 0.3, -128, -128),
        ((0.1, 0.0003), (1, 2), 0.051, 100, -128),
    ],
)
def test_an_add_is_tflites_step_by_step(
    scales: tuple[float, float], zero_points: tuple[int, int], scale_out: float, zero_out: int, low: int
) -> None:
    twice = 2 * max(scales)
    ours = [quantize_multiplier(scale / twice) for scale in scales]
    end = quantize_multiplier(twice / (2**20 * scale_out))
    # Each operand is one of two inputs, handed on by a weight of 2 and a factor of 1/2, so that it has a zero
    # point of its own.
    layers: list[Any] = []
    tensors = [Tensor(name="x", shape=(2,), fmt=INT8)]
    weights = {}
    for place, name in enumerate(("left", "right")):
        zero_point = zero_points[place]
        layers += [
            Linear(name=f"pick_{name}", input="x", output=f"{name}_acc"),
            Requantize(
                name=f"keep_{name}", input=f"{name}_acc", output=name, multiplier=np.full(1, 2**30),
                shift=np.zeros(1, int), rounding=Rounding.SHIFT, low=-128, high=127,
            ),
        ]  # fmt: skip
        tensors += [
            Tensor(name=f"{name}_acc", shape=(1,), fmt=INT32),
            Tensor(name=name, shape=(1,), fmt=INT8, scale=scales[place], zero_point=zero_point),
        ]
        weights[f"pick_{name}"] = WeightRecord.dense(
            layer=f"pick_{name}", values=[[2 - 2 * place, 2 * place]], fmt=INT8, scales=[1.0],
            bias=[-2 * zero_point],
        )  # fmt: skip
    layers += [
        Add(
            name="add", inputs=("left", "right"), output="s", multiplier=np.array([m for m, _ in ours]),
            shift=np.array([s for _, s in ours]), left_shift=20, rounding=Rounding.TFLITE_DOUBLE,
        ),
        Requantize(
            name="post", input="s", output="y", multiplier=np.full(1, end[0]), shift=np.full(1, end[1]),
            rounding=Rounding.TFLITE_DOUBLE, low=low, high=127,
        ),
    ]  # fmt: skip
    tensors += [
        Tensor(name="s", shape=(1,), fmt=INT32),
        Tensor(name="y", shape=(1,), fmt=INT8, scale=scale_out, zero_point=zero_out),
    ]
    network = Network(
        name="n", input="x", output="y", tensors={t.name: t for t in tensors}, layers=tuple(layers),
        weights=weights,
    )  # fmt: skip
    ends = list(itertools.product((-128, -127, -1, 0, 1, 126, 127), repeat=2))
    x = np.concatenate([np.random.default_rng(7).integers(-128, 128, (3000, 2)), ends])
    values = trace_reference(network, x)
    assert np.array_equal(np.concatenate([values["left"], values["right"]], axis=1), x)
    theirs = [smaller_than_one_multiplier(scale / twice) for scale in scales]
    their_end = smaller_than_one_multiplier(twice / (2**20 * scale_out))
    expected = []
    for pair in x.tolist():
        total = sum(
            smaller_than_one((value - zero_point) << 20, *factor)
            for value, zero_point, factor in zip(pair, zero_points, theirs, strict=True)
        )
        expected.append(min(127, max(low, smaller_than_one(total, *their_end) + zero_out)))
    assert values["y"][:, 0].tolist() == expected
    real = (x - np.array(zero_points)) @ np.array(scales)
    exact = np.clip(real / scale_out + zero_out, low, 127)
    assert np.abs(values["y"][:, 0] - exact).max() <= 0.501


@pytest.mark.parametrize("rounding", list(Rounding))
def test_an_add_of_two_tensors_sums_their_rescaled_values(rounding: Rounding) -> None:
    rng = np.random.default_rng(8)
    layers = [
        Shuffle(name="mix", input="x", output="m", groups=3),
        Add(
            name="add", inputs=("x", "m"), output="y", multiplier=np.array([2**30, 2**29]),
            shift=np.array([2, 0]), left_shift=4, rounding=rounding,
        ),
    ]  # fmt: skip
    tensors = [
        Tensor(name="x", shape=(6, 2, 3), fmt=INT8, zero_point=-7),
        Tensor(name="m", shape=(6, 2, 3), fmt=INT8, zero_point=-7),
        Tensor(name="y", shape=(6, 2, 3), fmt=INT32),
    ]
    network = Network(
        name="n",
        input="x",
        output="y",
        tensors={t.name: t for t in tensors},
        layers=tuple(layers),
        weights={},
    )
    x = rng.integers(-128, 128, (4, 6, 2, 3))
    mixed = np.empty_like(x)
    for c, j in itertools.product(range(2), range(3)):
        mixed[:, c * 3 + j] = x[:, j * 2 + c]
    # (x + 7) · 16 / 8 and (m + 7) · 16 / 4 are whole numbers, which no mode rounds.
    assert np.array_equal(run_reference(network, x), (x + 7) * 2 + (mixed + 7) * 4)


@pytest.mark.parametrize(
    ("count", "low", "step"), [(1, -1, 2), (2, -1, 1), (3, 0, 2), (15, -8, 1), (255, -128, 1)]
)
def test_thresholds_are_counted_one_by_one(count: int, low: int, step: int) -> None:
    rng = np.random.default_rng(count)
    values = np.sort(rng.integers(-60, 60, (4, count)), axis=1)
    values[1, -1], values[2, 0] = 2**31 - 1, -(2**31)
    acc = np.concatenate([rng.integers(-70, 70, (50, 4)), np.tile(values[:, [0]].T, (1, 1))])
    acc[0], acc[1] = 2**31 - 1, -(2**31)
    layer = Thresholds(name="t", input="x", output="y", values=values, low=low, step=step)
    network = single(layer, Tensor(name="x", shape=(4,), fmt=INT32), (4,), INT8)
    expected = [
        [low + step * sum(1 for t in values[k].tolist() if a >= t) for k, a in enumerate(row)]
        for row in acc.tolist()
    ]
    assert run_reference(network, acc).tolist() == expected
    again = count_thresholds(acc.T, values=values, low=low, step=step)
    assert again.T.tolist() == expected
    picture = count_thresholds(acc.T.reshape(4, 3, -1), values=values, low=low, step=step)
    assert picture.reshape(4, -1).T.tolist() == expected


@pytest.mark.parametrize(
    ("acc", "values", "text"),
    [
        (np.zeros((3, 2), int), [[1], [2]], "thresholds are given for 2 channels, not for accumulators of"),
        (np.zeros(2, int), [[1], [2**31]], "a threshold must be from"),
        (np.zeros(2), [[1], [2]], "an accumulator must be an integer, not float64"),
        (np.zeros(2, int), [[1, 2], [2, 1]], "thresholds of channel 1 must not decrease: 2 stands before 1"),
    ],
)
def test_counting_refuses_what_it_can_not_count(acc: Any, values: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        count_thresholds(acc, values=values, low=0, step=1)


def test_a_concatenation_stacks_channels_and_a_shuffle_is_that_of_torch() -> None:
    layers = [
        Shuffle(name="mix", input="x", output="m", groups=4),
        Concat(name="join", inputs=("m", "x", "m"), output="y"),
    ]
    tensors = {n: Tensor(name=n, shape=(c, 2, 3), fmt=INT8) for n, c in (("x", 12), ("m", 12), ("y", 36))}
    network = Network(name="n", input="x", output="y", tensors=tensors, layers=tuple(layers), weights={})
    x = np.random.default_rng(9).integers(-128, 128, (2, 12, 2, 3))
    mixed = torch.nn.functional.channel_shuffle(torch.from_numpy(x), 4).numpy()
    result = run_reference(network, x)
    assert np.array_equal(result[:, :12], mixed) and np.array_equal(result[:, 24:], mixed)
    assert np.array_equal(result[:, 12:24], x)


@pytest.mark.parametrize("seed", range(12))
def test_a_graph_keeps_no_tensor_longer_than_it_is_used(seed: int) -> None:
    network = random_network(seed, formats=FORMATS, vector=True)
    x = random_input(network, seed, 2)
    left = _run(network, x, keep=False)
    assert list(left) == [network.output]
    values = trace_reference(network, x)
    assert list(values) == list(network.tensors)
    assert np.array_equal(left[network.output], values[network.output])
    for name, value in values.items():
        tensor = network.tensors[name]
        assert value.shape == (2, *tensor.shape) and value.dtype == tensor.fmt.dtype
        tensor.fmt.check(value)  # a binary tensor holds no 0


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_is_its_images_one_by_one(seed: int) -> None:
    network = random_network(seed, formats=FORMATS, vector=True, groups=True)
    x = random_input(network, seed, 3)
    alone = np.concatenate([run_reference(network, image[None]) for image in x])
    assert np.array_equal(run_reference(network, x), alone)


def test_a_bias_that_takes_an_accumulator_out_of_int32_names_its_layer() -> None:
    post = Requantize(
        name="post", input="x", output="y", multiplier=np.full(1, 1), shift=np.zeros(1, int),
        rounding=Rounding.SHIFT, low=-128, high=127, bias=np.full(1, 1),
    )  # fmt: skip
    network = single(post, Tensor(name="x", shape=(1,), fmt=INT32), (1,), INT8)
    with pytest.raises(ValueError, match="layer post: an accumulator must fit int32, not reach 2147483648"):
        run_reference(network, [[2**31 - 1]])
