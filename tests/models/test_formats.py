import numpy as np
import pytest
from bitwright.models.formats import Format, FormatKind

NAMES = [
    "binary",
    "ternary",
    "int32",
    *(f"{k}{b}" for k in ("int", "uint") for b in range(2, 17)),
    "codebook3",
]


def every_value(fmt: Format) -> np.ndarray:
    values = np.arange(max(fmt.min, -40000), min(fmt.max, 70000) + 1)
    return values[values != 0] if fmt.kind == FormatKind.BINARY else values


def packed_by_hand(values: np.ndarray, fmt: Format) -> bytes:
    """One big integer, value i at bit i·bits."""
    word = 0
    for i, value in enumerate(values.tolist()):
        stored = (value + 1) // 2 if fmt.kind == FormatKind.BINARY else value & ((1 << fmt.bits) - 1)
        word |= stored << (i * fmt.bits)
    return word.to_bytes((len(values) * fmt.bits + 7) // 8, "little")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_parses_to_the_format_that_has_it(name: str) -> None:
    assert Format.parse(name).name == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1, 7, 64, 77])
def test_packing_agrees_with_one_big_integer_and_unpacking_undoes_it(name: str, count: int) -> None:
    fmt = Format.parse(name)
    values = np.random.default_rng(count).choice(every_value(fmt), count)
    data = fmt.pack(values).tobytes()
    assert data == packed_by_hand(values, fmt)
    assert np.array_equal(fmt.unpack(data, count), values)


@pytest.mark.parametrize("name", ["binary", "ternary", "int2", "int8", "int16", "uint8", "uint16"])
def test_every_value_survives(name: str) -> None:
    fmt = Format.parse(name)
    values = every_value(fmt)
    assert np.array_equal(fmt.unpack(fmt.pack(values), len(values)), values)


def test_ranges_are_those_of_the_kinds() -> None:
    formats = [Format.parse(name) for name in ("binary", "ternary", "int4", "uint4", "int32")]
    ranges = [(fmt.min, fmt.max) for fmt in formats]
    assert ranges == [(-1, 1), (-1, 1), (-8, 7), (0, 15), (-(2**31), 2**31 - 1)]


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("int8", [128], "from -128 to 127, not 128"),
        ("uint4", [-1], "from 0 to 15, not -1"),
        ("binary", [1, 0], "-1 or 1, not 0"),
        ("int8", [0.5], "must be an integer"),
    ],
)
def test_a_value_outside_the_format_is_named(name: str, values: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Format.parse(name).pack(values)


@pytest.mark.parametrize("name", ["int1", "int17", "uint32", "int", "float32", "int08", "codebook9", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"a format is|format has"):
        Format.parse(name)


def test_bytes_of_another_length_or_with_stray_bits_are_refused() -> None:
    fmt = Format.parse("int4")
    with pytest.raises(ValueError, match="3 values of format int4 take 2 bytes, not 3"):
        fmt.unpack(b"abc", 3)
    with pytest.raises(ValueError, match="beyond the last"):
        fmt.unpack(b"\x21\xf3", 3)
    with pytest.raises(ValueError, match="no ternary value"):
        Format.parse("ternary").unpack(b"\x02", 1)
