import dataclasses

import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.program import Program
from bitwright.mapper.tensors import pack_input, unpack_output
from bitwright.models.zoo import random_network


@pytest.fixture(scope="module")
def program() -> Program:
    return map_network(random_network(0), load_machine("core-small"))


def naive_bytes(values: np.ndarray, fmt: str) -> bytes:
    """Written from docs/architecture.md, a bit at a time: HWC, each pixel in whole bytes."""
    bits = {"int8": 8, "ternary": 2, "binary": 1}[fmt]
    out = bytearray()
    for y in range(values.shape[1]):
        for x in range(values.shape[2]):
            pixel = 0
            for c, value in enumerate(values[:, y, x].tolist()):
                stored = int(value > 0) if fmt == "binary" else value & ((1 << bits) - 1)
                pixel |= stored << (c * bits)
            out += pixel.to_bytes(-(-values.shape[0] * bits // 8), "little")
    return bytes(out)


@pytest.mark.parametrize("fmt", ["int8", "ternary", "binary"])
@pytest.mark.parametrize("channels", [1, 3, 4, 8, 13, 40])
def test_pixels_take_whole_bytes(program, fmt, channels):
    rng = np.random.default_rng(channels)
    shape = (channels, 3, 5)
    values = {
        "int8": rng.integers(-128, 128, shape),
        "ternary": rng.integers(-1, 2, shape),
        "binary": rng.integers(0, 2, shape) * 2 - 1,
    }[fmt].astype(np.int8)
    held = dataclasses.replace(
        program, input_shape=shape, output_shape=shape, input_format=fmt, output_format=fmt
    )
    data = pack_input(held, values)
    assert data == naive_bytes(values, fmt)
    assert np.array_equal(unpack_output(held, data), values)


def test_a_vector_is_one_pixel(program):
    held = dataclasses.replace(
        program, input_shape=(10,), output_shape=(10,), input_format="binary", output_format="binary"
    )
    values = np.array([1, -1, 1, 1, -1, -1, -1, -1, -1, 1])
    assert pack_input(held, values) == bytes([0b00001101, 0b10])
    assert np.array_equal(unpack_output(held, bytes([0b00001101, 0b10])), values)


def test_values_that_the_format_does_not_have_are_refused(program):
    held = dataclasses.replace(program, input_shape=(4,), input_format="ternary", output_shape=(4,))
    with pytest.raises(ValueError, match="an input must be integers from -1 to 1, not int64 from -2 to 1"):
        pack_input(held, np.array([0, 1, -2, 0]))
    binary = dataclasses.replace(held, input_format="binary")
    with pytest.raises(ValueError, match="of format binary must be -1 or 1, not 0"):
        pack_input(binary, np.array([1, 1, -1, 0]))
    ternary = dataclasses.replace(held, output_format="ternary")
    with pytest.raises(ValueError, match="the bits 10 are no ternary value"):
        unpack_output(ternary, bytes([0b10]))
