"""Weight records with encoded payloads, codebooks and masks."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.formats import Format
from bitwright.models.network import Network
from bitwright.models.reference import run_reference
from bitwright.models.storage import load_network
from bitwright.models.weights import WeightRecord, mask_shape
from bitwright.models.zoo import random_input, random_network

ENCODINGS = ("dense", "dense+huffman", "bitmap", "relative4", "relative3+huffman", "csc", "csc4+huffman")


def record(fmt: str, encoding: str, **given: Any) -> WeightRecord:
    form = Format.parse(fmt)
    rng = np.random.default_rng(2)
    values = rng.integers(form.min, form.max + 1, (6, 3, 3, 3))
    values[rng.random(values.shape) < 0.6] = form.max if fmt == "binary" else 0
    if fmt == "binary":
        values[values == 0] = 1
    return WeightRecord.encoded(
        **{"layer": "w", "values": values, "fmt": form, "scales": np.ones(6), "encoding": encoding} | given
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("fmt", ["binary", "ternary", "int4", "int8", "uint5", "int13"])
@pytest.mark.parametrize("streams", [1, 4])
def test_every_format_comes_back_from_every_encoding(fmt: str, encoding: str, streams: int) -> None:
    made = record(fmt, encoding, streams=streams)
    assert np.array_equal(made.decode(), made.values) and made.values.dtype == made.fmt.dtype
    assert sum(made.stream_bytes) + (4 * streams if streams > 1 else 0) == len(made.payload)
    assert made.dense_bytes == len(record(fmt, "dense").payload) == -(-162 * made.fmt.bits // 8)
    assert made.payload_modelled == ((encoding, streams) != ("dense", 1))


def test_a_codebook_comes_first_and_its_codes_have_the_bits_that_they_need() -> None:
    values = np.array([[0, -77, 0, 5], [5, 0, 0, 0], [0, 120, 0, 0]])
    table = [0, -77, 5, 120]
    made = record("int8", "relative4", values=values, scales=np.ones(3), codebook=table)
    assert made.code_format == Format.parse("codebook2") and made.codebook_bytes == 4
    # entries 1, 2 and 2, 3 at 1, 3, 4, 9: gaps 1 1 0 4
    assert list(made.payload) == [0, 179, 5, 120, 4, 0, 0, 0, 0b11101001, 0x11, 0x40]
    assert np.array_equal(made.decode(), values)
    with pytest.raises(ValueError, match="layer w: a weight is 120, which the codebook lacks"):
        record("int8", "relative4", values=values, scales=np.ones(3), codebook=table[:3])
    with pytest.raises(ValueError, match="layer w: the payload doesn't begin with the codebook"):
        dataclasses.replace(made, codebook=np.array([0, -77, 5, 121]))
    with pytest.raises(ValueError, match="layer w: code 3 is beyond the codebook's 3 entries"):
        dataclasses.replace(made, codebook=np.array([0, -77, 5]), payload=made.payload[:3] + made.payload[4:])
    for bad in ([0, 5, 5], [0], [*range(-128, 128), 0], [[0, 1]], [0, 128]):
        with pytest.raises(ValueError, match="layer w: a codebook"):
            dataclasses.replace(made, codebook=np.array(bad))


def test_a_payload_of_other_weights_or_another_encoding_is_refused() -> None:
    made = record("int8", "bitmap")
    with pytest.raises(ValueError, match="layer w: the payload doesn't decode to the weights"):
        dataclasses.replace(made, values=np.zeros_like(made.values))
    with pytest.raises(ValueError, match="layer w: "):
        dataclasses.replace(made, encoding="relative4")
    with pytest.raises(ValueError, match="layer w: an encoding is dense, bitmap"):
        dataclasses.replace(made, encoding="zip")
    with pytest.raises(ValueError, match="layer w: streams must be from 1 to the 6 output channels, not 7"):
        record("int8", "bitmap", streams=7)
    with pytest.raises(ValueError, match="layer w: weights of int32 can only be dense"):
        record("int32", "bitmap", values=np.ones((6, 2), int))


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [
        ("element", (6, 3, 3, 3)), ("vector", (6, 3, 3, 1)), ("kernel", (6, 3, 1, 1)),
        ("filter", (6, 1, 1, 1)), ("channel", (1, 3, 1, 1)), ("column", (1, 3, 3, 3)),
        ("block", (2, 2, 3, 3)),
    ],
)  # fmt: skip
def test_masks_have_the_shape_of_their_granularity(granularity: str, shape: tuple[int, ...]) -> None:
    mask = np.ones(shape, bool)
    assert record("int8", "dense", mask=mask, granularity=granularity).mask is not None
    if granularity != "block":
        assert mask_shape((6, 3, 3, 3), granularity) == shape
    with pytest.raises(ValueError, match=f"layer w: an? {granularity} mask of weights"):
        record("int8", "dense", mask=mask[..., :0], granularity=granularity)
    if granularity not in ("element", "block"):
        cut = mask.copy()
        cut.flat[0] = False
        with pytest.raises(ValueError, match=f"weights that its {granularity} mask cuts must be 0"):
            record("int8", "dense", mask=cut, granularity=granularity)


def test_blocks_that_no_size_gives_are_refused() -> None:
    # 6 filters in 4 blocks: blocks of 2 are 3, blocks of 1 are 6
    with pytest.raises(ValueError, match="a block mask of weights"):
        record("int8", "dense", mask=np.ones((4, 1, 3, 3), bool), granularity="block")


def encoded(network: Network) -> Network:
    """The network with each layer's weights in an encoding of its own, some with a codebook."""
    weights = {}
    for number, (name, old) in enumerate(network.weights.items()):
        table = np.unique(old.values)
        weights[name] = WeightRecord.encoded(
            layer=name,
            values=old.values,
            fmt=old.fmt,
            scales=old.scales,
            bias=old.bias,
            encoding=ENCODINGS[number % len(ENCODINGS)],
            streams=1 + number % 2 if len(old.values) > 1 else 1,
            codebook=table if number % 3 == 1 and table.size > 1 else None,
        )
    return dataclasses.replace(network, weights=weights)


@pytest.mark.parametrize("seed", range(4))
def test_encoded_weights_come_back_from_a_file_and_compute_the_same(tmp_path: Path, seed: int) -> None:
    network = random_network(seed, max_channels=6, max_image=6)
    packed = encoded(network)
    packed.save(tmp_path / "net.bw")
    back = load_network(tmp_path / "net.bw")
    for name, old in packed.weights.items():
        new = back.weights[name]
        assert (new.encoding, new.streams, new.payload) == (old.encoding, old.streams, old.payload)
        assert (
            np.array_equal(new.codebook, old.codebook) if old.codebook is not None else new.codebook is None
        )
    x = random_input(network, 0, 2)
    assert np.array_equal(run_reference(back, x), run_reference(network, x))
