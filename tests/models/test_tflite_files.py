"""TFLite files that are cut off, changed or strange: one line with file, place and reason, never more."""

import random
import re
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bitwright.models.importers.tflite_model import load_tflite
from bitwright.models.storage import ImportModelError

CONV = {"Padding": 0, "StrideH": 1, "StrideW": 1, "FusedActivationFunction": 0}


def refusal(folder: Path, data: bytes) -> str:
    path = folder / "case.tflite"
    path.write_bytes(data)
    with pytest.raises(ImportModelError) as caught:
        load_tflite(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) <= 400
    return text


def small(writer: ModuleType, **changes: Any) -> bytes:
    """A convolution and an average pool; `changes` are made to the convolution's parts."""
    rng = np.random.default_rng(1)
    w = writer.TfliteWriter()
    given: dict[str, Any] = {
        "image": (1, 6, 6, 3), "image_scale": 0.05, "zero_point": 3, "weights": (4, 3, 3, 3),
        "scales": 0.01, "axis": 0, "result": (1, 6, 6, 4), "result_scale": 0.3, "bias": 4,
        "weights_dtype": np.int8, "image_dtype": np.int8, "kind": "CONV_2D", "options": {},
    } | changes  # fmt: skip
    x = w.tensor(
        given["image"], given["image_dtype"], scale=given["image_scale"], zero_point=given["zero_point"]
    )
    values = rng.integers(-127, 128, given["weights"])
    weights = w.constant(values, given["weights_dtype"], scale=given["scales"], axis=given["axis"])
    bias = w.constant(rng.integers(-99, 99, given["bias"]), np.int32, scale=0.0005)
    middle = w.tensor(given["result"], scale=given["result_scale"], zero_point=-5)
    y = w.tensor((1, 3, 3, 4), scale=0.3, zero_point=-5)
    w.operator(given["kind"], [x, weights, bias], middle, **(CONV | given["options"]))
    w.operator("AVERAGE_POOL_2D", [middle], y, Padding=1, StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2)
    data: bytes = w.bytes([x], [y])
    return data


def test_the_small_file_is_sound(tmp_path: Path, tflite_writer: ModuleType) -> None:
    path = tmp_path / "case.tflite"
    path.write_bytes(small(tflite_writer))
    assert len(load_tflite(path).cores) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_scale": 0.0}, r"tensor 0 \('tensor_0'\): its scales must be finite and above 0"),
        ({"scales": float("nan")}, r"tensor 1 .*: its scales must be finite and above 0"),
        ({"result_scale": float("inf")}, r"tensor 3 .*: its scales must be finite and above 0"),
        ({"zero_point": 200}, r"tensor 0 .*: its zero points must be from -128 to 127"),
        ({"zero_point": -129}, r"tensor 0 .*: its zero points must be from -128 to 127"),
        ({"scales": [0.01] * 3}, r"tensor 1 .*: 3 scales don't fit axis 0 of shape \(4, 3, 3, 3\)"),
        (
            {"scales": [0.01] * 3, "axis": 1},
            r"operator 0 \(CONV_2D\): its weights' scales must lie along axis 0",
        ),
        ({"image": (2, 6, 6, 3)}, r"input 'tensor_0' must have a batch axis of 1, not \(2, 6, 6, 3\)"),
        ({"image": (1, 6, 6, 5)}, r"operator 0 \(CONV_2D\): weights \(4, 3, 3, 3\) don't fit an input of 5"),
        ({"image": (1, 6, 18)}, r"operator 0 \(CONV_2D\): weights .* must have 4 axes"),
        ({"result": (1, 6, 5, 4)}, r"operator 0 \(CONV_2D\): its result must have shape \(1, 6, 6, 4\)"),
        ({"bias": 5}, r"operator 0 \(CONV_2D\): its bias must be 4 values of int32, not \(5,\) of int32"),
        ({"weights_dtype": np.uint8}, r"operator 0 \(CONV_2D\): weights of uint8 on activations of int8"),
        ({"image_dtype": np.uint8}, r"activations must be all int8 or all float32, not \['int8', 'uint8'\]"),
        ({"options": {"StrideH": 0}}, r"stride \(0, 1\) .* must be 1 to 2\^16"),
        ({"options": {"StrideW": -3}}, r"stride \(1, -3\) .* must be 1 to 2\^16"),
        ({"options": {"Padding": 7}}, r"operator 0 \(CONV_2D\): padding must be SAME or VALID, not number 7"),
        ({"options": {"FusedActivationFunction": 4}}, r"operator 0 .*: fused activation 4 is not read"),
        ({"image": (1, 1 << 15, 1 << 15, 3)}, r"tensor 0 .*: its shape must be whole, with at most"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Any], text: str, tmp_path: Path, tflite_writer: ModuleType
) -> None:
    assert re.search(text, refusal(tmp_path, small(tflite_writer, **changes)))


def test_an_unknown_operator_is_named_with_those_that_are_read(
    tmp_path: Path, tflite_writer: ModuleType
) -> None:
    w = tflite_writer.TfliteWriter()
    x, y = (w.tensor((1, 4), scale=0.1) for _ in range(2))
    w.operator("HARD_SWISH", [x], y)
    text = refusal(tmp_path, w.bytes([x], [y]))
    assert "operator 0 (HARD_SWISH) is not read; these are: CONV_2D, DEPTHWISE_CONV_2D" in text


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ([(0, 1), (1, 2), (2, 1)], "operator 2 (RELU): its result, tensor 1, is made twice"),
        ([(2, 1), (1, 2)], "operator 0 (RELU): its operand, tensor 2, is made by none before it"),
        ([(0, 1), (1, 1)], "operator 1 (RELU): its result, tensor 1, is made twice"),
        ([(0, 1)], "its output, tensor 2, is made by no operator"),
    ],
)
def test_cycles_and_tensors_made_twice_are_named(
    order: list[tuple[int, int]], text: str, tmp_path: Path, tflite_writer: ModuleType
) -> None:
    w = tflite_writer.TfliteWriter()
    tensors = [w.tensor((1, 4), scale=0.1) for _ in range(3)]
    for source, result in order:
        w.operator("RELU", [tensors[source]], tensors[result])
    assert text in refusal(tmp_path, w.bytes([tensors[0]], [tensors[2]]))


def test_missing_and_foreign_files_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ImportModelError, match=r"nowhere\.tflite: No such file or directory"):
        load_tflite(tmp_path / "nowhere.tflite")
    with pytest.raises(ImportModelError, match="it is no regular file"):
        load_tflite(tmp_path)
    assert "it is no TFLite file" in refusal(tmp_path, b"")
    assert "it is no TFLite file" in refusal(tmp_path, b"\x89PNG\r\n\x1a\n" * 9)
    assert "it is damaged: the model lies outside the file" in refusal(tmp_path, b"\xff\xff\xff\x7fTFL3")


def test_every_cut_is_noticed(tmp_path: Path, tflite_writer: ModuleType) -> None:
    data = small(tflite_writer)
    for length in range(0, len(data), 7):
        path = tmp_path / "case.tflite"
        path.write_bytes(data[:length])
        try:
            load_tflite(path)
        except ImportModelError as fault:
            assert "\n" not in str(fault)
        else:  # flatbuffers end with what is written first, which may be padding
            assert length > len(data) - 64


def damaged(data: bytes, draw: random.Random) -> bytes:
    """`data` cut off, with flipped bits, or with numbers of its tables replaced."""
    made = bytearray(data)
    kind = draw.randrange(4)
    if kind == 0:
        return bytes(made[: draw.randrange(len(made))])
    for _ in range(draw.randrange(1, 4)):
        if kind == 1:
            made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
            continue
        place = draw.randrange(len(made) // 4 - 1) * 4
        word = draw.choice(
            [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x8000_0000, draw.getrandbits(32), draw.randrange(256)]
        )
        made[place : place + 4] = word.to_bytes(4, "little")
    return bytes(made)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_end_in_one_line_and_within_bounds(
    seed: int, tmp_path: Path, tflite_writer: ModuleType
) -> None:
    draw = random.Random(seed)
    data = small(tflite_writer)
    path = tmp_path / "case.tflite"
    refused = 0
    tracemalloc.start()
    for _ in range(150):
        path.write_bytes(damaged(data, draw))
        try:
            load_tflite(path)
        except ImportModelError as fault:
            assert "\n" not in str(fault) and str(fault).startswith(str(path))
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 50
    assert peak < 64_000_000  # of a file of 3 KB


def forged_length(data: bytes, count: int) -> bytes:
    """Every vector length of `count` made as large as it can be."""
    return data.replace(count.to_bytes(4, "little"), (0x7FFF_FFF0).to_bytes(4, "little"))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_forged_lengths_take_no_memory(count: int, tmp_path: Path, tflite_writer: ModuleType) -> None:
    data = forged_length(small(tflite_writer), count)
    tracemalloc.start()
    refusal(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_weights_that_all_operators_share_are_counted_each_time(
    tmp_path: Path, tflite_writer: ModuleType
) -> None:
    # 300 linear layers on one matrix of 256 KiB would copy it 300 times.
    w = tflite_writer.TfliteWriter()
    weights = w.constant(np.ones((512, 512)), np.int8, scale=0.01)
    source = now = w.tensor((1, 512), scale=0.1)
    for _ in range(300):
        after = w.tensor((1, 512), scale=0.1)
        w.operator("FULLY_CONNECTED", [now, weights], after, FusedActivationFunction=0, WeightsFormat=0)
        now = after
    text = refusal(tmp_path, w.bytes([source], [now]))
    assert "its operators share constants so often that they would fill the memory" in text
