"""PlaneSum against hand arithmetic and the real weights that its planes stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.formats import Format
from bitwright.models.layers import Linear, PlaneSum, Requantize
from bitwright.models.network import Network
from bitwright.models.numerics import Rounding, quantize_multiplier
from bitwright.models.reference import run_reference, trace_reference
from bitwright.models.storage import load_network
from bitwright.models.tensor import Tensor
from bitwright.models.weights import WeightRecord

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


def network(planes: np.ndarray, scales: np.ndarray, left_shift: int, out: float, fmt: str) -> Network:
    """A linear layer of planes (n, K, N) with scales (n, K), its sums times `out`."""
    count, channels, inputs = planes.shape
    pairs = [quantize_multiplier(float(scale)) for scale in scales.ravel()]
    multiplier, shift = quantize_multiplier(out / 2**left_shift)
    rows = count * channels
    return Network(
        name="planes",
        input="x",
        output="y",
        tensors={
            "x": Tensor(name="x", shape=(inputs,), fmt=INT8, scale=1.0),
            "acc": Tensor(name="acc", shape=(rows,), fmt=INT32),
            "sum": Tensor(name="sum", shape=(channels,), fmt=INT32),
            "y": Tensor(name="y", shape=(channels,), fmt=INT8, scale=1.0),
        },
        layers=(
            Linear(name="fc", input="x", output="acc"),
            PlaneSum(
                name="total",
                input="acc",
                output="sum",
                planes=count,
                multiplier=np.array([pair[0] for pair in pairs]),
                shift=np.array([pair[1] for pair in pairs]),
                left_shift=left_shift,
                rounding=Rounding.TFLITE_DOUBLE,
            ),
            Requantize(
                name="post",
                input="sum",
                output="y",
                multiplier=np.full(channels, multiplier),
                shift=np.full(channels, shift),
                rounding=Rounding.TFLITE_DOUBLE,
                low=-128,
                high=127,
            ),
        ),
        weights={
            "fc": WeightRecord.dense(
                layer="fc",
                values=planes.reshape(rows, inputs),
                fmt=Format.parse(fmt),
                scales=scales.ravel(),
            )
        },
    )


def test_a_sum_of_planes_is_that_of_its_rescaled_accumulators() -> None:
    # Channel 0: planes (1, 1) and (1, −1) on x = (5, 3) make 8 and 2; 8·2⁴·½ + 2·2⁴·¼ = 64 + 8 = 72.
    # Channel 1: planes (−1, 1) and (1, 1) make −2 and 8; −2·2⁴·½ + 8·2⁴·¼ = −16 + 32 = 16.
    planes = np.array([[[1, 1], [-1, 1]], [[1, -1], [1, 1]]])
    made = network(planes, np.array([[0.5, 0.5], [0.25, 0.25]]), 4, 1.0 - 2**-31, "binary")
    values = trace_reference(made, [[5, 3]])
    assert values["acc"].tolist() == [[8, -2, 2, 8]]
    assert values["sum"].tolist() == [[72, 16]]
    assert values["y"].tolist() == [[5, 1]]  # 72/16 = 4.5 away from zero, 16/16


def test_two_ternary_planes_are_ttqs_two_scales() -> None:
    # W is +Wp where T is 1, −Wn where it is −1: T·(Wp + Wn)/2 + |T|·(Wp − Wn)/2.
    rng = np.random.default_rng(5)
    ternary = rng.integers(-1, 2, (12, 40))
    positive, negative = rng.uniform(0.1, 0.3, 12), rng.uniform(0.02, 0.1, 12)
    planes = np.stack([ternary, np.abs(ternary)])
    scales = np.stack([(positive + negative) / 2, (positive - negative) / 2])
    weights = np.where(ternary > 0, positive[:, None], np.where(ternary < 0, -negative[:, None], 0.0))
    made = network(planes, scales, 12, 0.1, "ternary")
    x = rng.integers(-128, 128, (64, 40))
    exact = np.clip(x @ weights.T * 0.1, -128, 127)
    # The sum has 12 fraction bits, so only the last rounding shows.
    assert np.abs(run_reference(made, x) - exact).max() <= 0.5 + 2**-8


def test_a_network_with_planes_is_the_same_after_a_file(tmp_path: Path) -> None:
    planes = np.random.default_rng(1).integers(-1, 2, (3, 4, 6))
    made = network(planes, np.full((3, 4), 0.3), 8, 0.5, "ternary")
    made.save(tmp_path / "planes.bw")
    read = load_network(tmp_path / "planes.bw")
    x = np.random.default_rng(2).integers(-128, 128, (8, 6))
    assert isinstance(read.layers[1], PlaneSum) and read.layers[1].planes == 3
    assert np.array_equal(run_reference(read, x), run_reference(made, x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": 1}, "layer s: planes must be from 2 to 8, not 1"),
        ({"planes": 3}, "must be given for 3 planes of equally many channels, not for 4"),
        ({"left_shift": 21}, "layer s: left_shift must be from 0 to 20, not 21"),
    ],
)
def test_a_sum_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "planes": 2, "multiplier": np.full(4, 1 << 30), "shift": np.zeros(4, np.int32), "left_shift": 0,
        "rounding": Rounding.SHIFT,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        PlaneSum(name="s", input="a", output="b", **{**fields, **changes})


def test_a_shifted_accumulator_that_leaves_int32_is_named() -> None:
    made = network(np.full((2, 1, 64), 127), np.full((2, 1), 0.5), 20, 0.5, "int8")
    with pytest.raises(ValueError, match="layer total: an accumulator shifted left by 20 must fit int32"):
        run_reference(made, np.full((1, 64), 127))
