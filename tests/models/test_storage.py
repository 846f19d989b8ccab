import dataclasses
import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.layers import Requantize
from bitwright.models.network import Network
from bitwright.models.reference import run_reference, trace_reference
from bitwright.models.storage import ImportModelError, load_network
from bitwright.models.zoo import FORMATS, random_input, random_network, resnet8_stack

GRAPH: dict[str, Any] = {
    "formats": [("int8", "int8")], "vector": True, "max_layers": 6, "max_channels": 8, "max_image": 8
}  # fmt: skip
SEED = 22
"""Of a graph that has every kind of layer that version 2 added."""

PREFIX = struct.Struct("<8sIIQ32s")


def saved(folder: Path, network: Network | None = None) -> Path:
    path = folder / "net.bw"
    (network or random_network(1, max_channels=4, max_image=6)).save(path)
    return path


def forged(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites the header as `change` says, with a checksum that is right."""
    data = path.read_bytes()
    magic, version, length, arrays, _ = PREFIX.unpack(data[: PREFIX.size])
    header = json.loads(data[PREFIX.size : PREFIX.size + length])
    text = change(header)
    raw = text if isinstance(text, bytes) else json.dumps(header).encode()
    rest = data[PREFIX.size + length :]
    digest = hashlib.sha256(raw + rest).digest()
    path.write_bytes(PREFIX.pack(magic, version, len(raw), arrays, digest) + raw + rest)


def refusal(path: Path) -> str:
    with pytest.raises(ImportModelError) as caught:
        load_network(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


@pytest.mark.parametrize(
    "network",
    [
        resnet8_stack(),
        random_network(7),
        random_network(9, groups=True),
        random_network(SEED, **GRAPH),
        *(random_network(seed, formats=FORMATS, vector=True, max_image=8) for seed in range(6)),
    ],
)
def test_a_network_comes_back_as_it_was(tmp_path: Path, network: Network) -> None:
    back = load_network(saved(tmp_path, network))
    assert (back.name, back.input, back.output, back.tensors) == (
        network.name, network.input, network.output, network.tensors,
    )  # fmt: skip
    assert len(back.layers) == len(network.layers)
    for ours, theirs in zip(back.layers, network.layers, strict=True):
        assert type(ours) is type(theirs)
        for field in dataclasses.fields(theirs):
            value = getattr(theirs, field.name)
            assert np.array_equal(getattr(ours, field.name), value) and type(
                getattr(ours, field.name)
            ) is type(value)
    for key, record in network.weights.items():
        other = back.weights[key]
        assert other.payload == record.payload and np.array_equal(other.bias, record.bias)
        assert np.array_equal(other.values, record.values) and np.array_equal(other.scales, record.scales)
    x = random_input(network, 0, 2)
    assert np.array_equal(run_reference(back, x), run_reference(network, x))
    assert [p.name for p in tmp_path.iterdir()] == ["net.bw"]


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    first = saved(tmp_path).read_bytes()
    assert saved(tmp_path).read_bytes() == first


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"suffix \.bw, not '\.zip'"):
        random_network(1).save(tmp_path / "net.zip")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    for length in [*range(0, 70), *range(70, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        refusal(path)
    path.write_bytes(data + b"\0")
    assert "cut off or changed" in refusal(path)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    for bit in [*range(0, PREFIX.size * 8, 3), *range(PREFIX.size * 8, len(data) * 8, 911)]:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        refusal(path)


def test_missing_foreign_and_newer_files_say_what_they_are(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.bw")
    assert "directory" in refusal(tmp_path)
    path = tmp_path / "foreign.bw"
    path.write_bytes(b"PK\3\4" + bytes(100))
    assert "no Bitwright network" in refusal(path)
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    for version in (0, 5):
        data[8] = version
        path.write_bytes(data)
        assert f"format version {version}; this release reads 1 to 4" in refusal(path)


def _payload(header: dict[str, Any], **changes: Any) -> None:
    header["weights"][0]["payload"].update(changes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: b"{", "no JSON"),
        (lambda h: b"\xff", "no JSON"),
        (lambda h: b"[" * 100_000, "nested too deeply"),
        (lambda h: b"[]", "header must be of type dict, not list"),
        (lambda h: b'{"tensors": ' + b"9" * 5000 + b"}", "no JSON"),
        (lambda h: h.pop("layers"), "lacks the key 'layers'"),
        (lambda h: h.update(name="../evil"), "a network's name"),
        (lambda h: h.update(name=["a\nb"]), "a network's name"),
        (lambda h: h["tensors"][0].update(shape=[1 << 40]), "counts from 0"),
        (lambda h: h["tensors"][0].update(shape=[1 << 30, 1 << 30, 1 << 30]), "at most 2\\^26"),
        (lambda h: h["tensors"][0].update(scale=float("inf")), "scale must be finite"),
        (lambda h: h["tensors"][0].update(format="pickle\n"), "a format is binary"),
        (lambda h: h["layers"][0].update(kind="__reduce__"), "kind must be one of"),
        (lambda h: h["layers"][0].update(stride=[1, True]), "must be of type int, not bool"),
        (lambda h: h["layers"][0].update(padding=[1 << 16] * 4), "padded"),
        (lambda h: h["weights"].append(h["weights"][0]), "lies over another array"),
        (lambda h: h["weights"][0].update(shape=[1 << 31] * 4), "take"),
        (lambda h: h["weights"][0].update(encoding="huffman"), "an encoding is dense, bitmap"),
        (lambda h: h["weights"][0].update(encoding="dense+huffman"), "layer .*: .*(table|cut|numbers)"),
        (lambda h: h["weights"][0].update(encoding="bitmap", shape=[1 << 15, 1 << 14]), "values in all"),
        (lambda h: h["weights"][0].update(encoding="relative4", shape=[1 << 31]), "values in all"),
        (lambda h: h["weights"][0].update(encoding="csc", shape=[0, 4]), "both at least 1"),
        (lambda h: h["weights"][0].update(streams=1 << 30), "streams must be from 1 to the"),
        (lambda h: h["weights"][0].update(streams=True), "must be of type int, not bool"),
        (lambda h: h["weights"][0].update(codebook=1), "2 to 256 entries, or 0 is none, not 1"),
        (lambda h: h["weights"][0].pop("codebook"), "lacks the key 'codebook'"),
        (lambda h: _payload(h, shape=[1 << 31]), "of the arrays, which have"),
        (lambda h: _payload(h, offset=-8), "of the arrays, which have"),
        (lambda h: _payload(h, dtype="O"), "dtype must be one of"),
        (lambda h: _payload(h, dtype="<f8", shape=[1]), "payload must be bytes"),
        (lambda h: h["weights"][0].update(bias=None, scales=None), "must be of type dict"),
    ],
)
def test_a_hostile_header_with_a_sound_checksum_is_refused(tmp_path: Path, change: Any, text: str) -> None:
    path = saved(tmp_path)
    forged(path, change)
    with pytest.raises(ImportModelError, match=text):
        load_network(path)
    refusal(path)


def find(header: dict[str, Any], kind: str) -> dict[str, Any]:
    """The first layer of a kind, with an option set where the kind may lack it."""
    return next(
        layer
        for layer in header["layers"]
        if layer["kind"] == kind and (kind != "requantize" or layer["bias"] is not None)
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: find(h, "add").update(inputs=["input"]), "an add has 2 inputs, not 1"),
        (lambda h: find(h, "add").update(inputs="input"), "inputs must be of type list, not str"),
        (lambda h: find(h, "add").update(inputs=[["input"], 3]), "an input must be of type str"),
        (lambda h: find(h, "add").update(left_shift=1 << 40), "left_shift must be from 0 to 20"),
        (lambda h: find(h, "add").update(left_shift=True), "left_shift must be of type int, not bool"),
        (lambda h: find(h, "add")["multiplier"].update(shape=[1]), "must be equally many, not 1 and 2"),
        (lambda h: find(h, "add").pop("inputs"), "lacks the key 'inputs'"),
        (lambda h: find(h, "concat").update(inputs=[]), "at least 2 inputs, not 0"),
        (lambda h: find(h, "concat").update(inputs=["input"] * 100_000), "layer .*: "),
        (lambda h: find(h, "shuffle").update(groups=0), "groups must be an integer from 1"),
        (lambda h: find(h, "shuffle").update(groups=[2]), "groups must be an integer from 1"),
        (lambda h: find(h, "avgpool").update(kernel=[1 << 16, 1], padding=[0] * 4), "doesn't fit into"),
        (lambda h: find(h, "thresholds").update(step=0), "step must be 1 or 2"),
        (lambda h: find(h, "thresholds").update(low=1 << 70), "low and high must be from -128 to 127"),
        (lambda h: find(h, "thresholds").update(values=None), "values must be of type dict"),
        (lambda h: find(h, "thresholds")["values"].update(shape=[1 << 31]), "of the arrays, which have"),
        (lambda h: find(h, "requantize")["bias"].update(shape=[1]), "bias must be . integers"),
        (lambda h: find(h, "requantize")["bias"].update(dtype="<f8", shape=[0]), "bias must be . integers"),
        (lambda h: find(h, "conv").update(pad_value=[1]), "pad_value must be an integer from"),
        (lambda h: find(h, "conv").update(pad_value=200), "pad_value must be from -128 to 127 for int8"),
        (lambda h: find(h, "conv").pop("pad_value"), "lacks the key 'pad_value'"),
    ],
)
def test_a_hostile_graph_with_a_sound_checksum_is_refused(tmp_path: Path, change: Any, text: str) -> None:
    path = saved(tmp_path, random_network(SEED, **GRAPH))
    forged(path, change)
    with pytest.raises(ImportModelError, match=text):
        load_network(path)
    refusal(path)


def test_a_file_of_version_1_still_loads(tmp_path: Path) -> None:
    """Written before there was a version 2: conv, max pool and linear layers; its results noted then."""
    network = load_network(Path(__file__).parent / "data" / "version1.bw")
    kinds = [layer.kind for layer in network.layers]
    assert kinds == [
        "conv", "requantize", "maxpool", "conv", "requantize", "flatten", "linear", "requantize",
    ]  # fmt: skip
    assert run_reference(network, random_input(network, 0, 2)).tolist() == [[10, 12], [-6, -3]]
    newer = load_network(saved(tmp_path, network))
    assert (tmp_path / "net.bw").read_bytes()[8] == 4
    assert run_reference(newer, random_input(network, 0, 2)).tolist() == [[10, 12], [-6, -3]]


def with_offset() -> Network:
    """A network whose first Requantize adds 9, whatever its output's zero point."""
    network = random_network(1, max_channels=4, max_image=6)
    first = next(layer for layer in network.layers if isinstance(layer, Requantize))
    layers = tuple(
        dataclasses.replace(layer, offset=9) if layer is first else layer for layer in network.layers
    )
    return dataclasses.replace(network, layers=layers)


def test_an_offset_is_kept_and_added_in_place_of_the_zero_point(tmp_path: Path) -> None:
    network = with_offset()
    back = load_network(saved(tmp_path, network))
    first = next(layer for layer in back.layers if isinstance(layer, Requantize))
    assert first.offset == 9
    plain = random_network(1, max_channels=4, max_image=6)
    x = random_input(plain, 0, 2)
    found, without = (trace_reference(n, x)[first.output].astype(int) for n in (back, plain))
    moved = without - plain.tensors[first.output].zero_point + 9
    inside = (without > first.low) & (without < first.high) & (moved > first.low) & (moved < first.high)
    assert inside.sum() > 10 and np.array_equal(found[inside], moved[inside])


def test_a_file_of_version_2_has_no_offsets(tmp_path: Path) -> None:
    network = random_network(1, max_channels=4, max_image=6)
    path = saved(tmp_path, network)

    def drop(header: dict[str, Any]) -> None:
        for layer in header["layers"]:
            layer.pop("offset", None)

    forged(path, drop)
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    x = random_input(network, 0, 2)
    assert np.array_equal(run_reference(load_network(path), x), run_reference(network, x))


def test_a_file_of_version_1_has_no_layers_of_version_2(tmp_path: Path) -> None:
    path = saved(tmp_path, random_network(SEED, **GRAPH))
    data = bytearray(path.read_bytes())
    data[8] = 1
    path.write_bytes(data)
    assert "kind must be one of conv, linear, maxpool, requantize, relu, flatten, not" in refusal(path)


def test_no_memory_is_taken_on_a_forged_word(tmp_path: Path) -> None:
    path = saved(tmp_path)
    forged(path, lambda h: h["weights"][0].update(shape=[1 << 31, 1 << 31], format="binary"))
    tracemalloc.start()
    refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_a_length_beyond_the_file_is_refused_before_reading(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    for length, arrays in ((0xFFFF_FFFF, 8), (8, 1 << 62), (1 << 20, 1 << 20)):
        path.write_bytes(PREFIX.pack(data[:8], 1, length, arrays, bytes(32)) + data[PREFIX.size :])
        refusal(path)
