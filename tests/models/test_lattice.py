"""Lattices inside kernels: smaller kernels by hand, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from bitwright.models.formats import Format
from bitwright.models.lattice import shrink_lattices
from bitwright.models.layers import Conv, Requantize
from bitwright.models.network import Network
from bitwright.models.numerics import Rounding
from bitwright.models.reference import run_reference
from bitwright.models.tensor import Tensor
from bitwright.models.weights import WeightRecord

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


def conv(weights: np.ndarray, size: tuple[int, int], **options: object) -> Network:
    K, C = weights.shape[:2]
    layer = Conv(name="conv", input="x", output="acc", **options)  # type: ignore[arg-type]
    shape = layer.output_shape((C, *size), weights.shape)
    post = Requantize(
        name="post", input="acc", output="y", multiplier=np.full(K, 1 << 30), shift=np.full(K, 5),
        rounding=Rounding.TFLITE_DOUBLE, low=-128, high=127,
    )  # fmt: skip
    tensors = {
        "x": Tensor(name="x", shape=(C, *size), fmt=INT8, scale=1.0, zero_point=3),
        "acc": Tensor(name="acc", shape=shape, fmt=INT32),
        "y": Tensor(name="y", shape=shape, fmt=INT8, scale=1.0),
    }
    record = WeightRecord.dense(layer="conv", values=weights, fmt=INT8, scales=np.ones(K))
    return Network(
        name="n", input="x", output="y", tensors=tensors, layers=(layer, post), weights={"conv": record}
    )


def shrunk(network: Network) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, ...]]:
    made = shrink_lattices(network)
    layer = made.layers[0]
    assert isinstance(layer, Conv)
    return made.weights["conv"].values.shape[2:], layer.dilation, layer.padding


def test_every_second_tap_is_a_dilated_kernel() -> None:
    # Rows 0, 2, 4 and columns 1, 3 of a 5 × 5 kernel with 2 of padding: 3 × 2 taps, 2 apart.
    weights = np.zeros((2, 3, 5, 5), np.int8)
    weights[:, :, ::2, 1::2] = 7
    assert shrunk(conv(weights, (9, 9), padding=(2, 2, 2, 2))) == ((3, 2), (2, 2), (2, 1, 2, 1))


def test_a_single_tap_is_a_pointwise_kernel() -> None:
    weights = np.zeros((2, 3, 3, 3), np.int8)
    weights[:, :, 1, 1] = 5
    assert shrunk(conv(weights, (6, 6), padding=(1, 1, 1, 1))) == ((1, 1), (1, 1), (0, 0, 0, 0))


def test_an_unpadded_kernel_keeps_its_outer_taps() -> None:
    # Row 1 of 3 without padding: cutting rows 0 and 2 would take a row of input from each side.
    weights = np.zeros((1, 1, 3, 3), np.int8)
    weights[:, :, 1, ::2] = 5
    assert shrunk(conv(weights, (6, 6))) == ((3, 2), (1, 2), (0, 0, 0, 0))


@pytest.mark.parametrize("seed", range(40))
def test_a_shrunk_network_is_the_same_to_the_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 8, 2))
    weights = rng.integers(-60, 61, (4, 2, height, width)).astype(np.int8)
    (y0, x0), (sy, sx) = rng.integers(0, 3, 2), rng.integers(1, 4, 2)
    gone = np.ones((height, width), np.bool_)
    gone[y0::sy, x0::sx] = False
    weights[:, :, gone] = 0
    network = conv(
        weights,
        (24, 25),
        padding=tuple(int(n) for n in rng.integers(0, 4, 4)),
        stride=tuple(int(n) for n in rng.integers(1, 3, 2)),
        dilation=tuple(int(n) for n in rng.integers(1, 3, 2)),
    )
    x = rng.integers(-128, 128, (2, 2, 24, 25))
    small = shrink_lattices(network)
    assert np.array_equal(run_reference(small, x), run_reference(network, x))
    assert small.weights["conv"].values.size <= weights.size
