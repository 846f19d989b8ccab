import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
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
from bitwright.models.network import Network
from bitwright.models.reference import run_reference, trace_reference
from bitwright.models.zoo import FORMATS, random_input, random_network, resnet8_stack

SMALL: dict[str, Any] = {"max_image": 10, "max_channels": 24}


def digest(network: Network) -> str:
    """Of layers, weights, biases and three results."""
    mix = hashlib.sha256()
    for layer in network.layers:
        mix.update(repr((layer.kind, layer.name, *layer.inputs, layer.output)).encode())
    for record in network.weights.values():
        mix.update(record.payload)
        mix.update(b"" if record.bias is None else record.bias.tobytes())
    mix.update(run_reference(network, random_input(network, 0, 3)).astype(np.int64).tobytes())
    return mix.hexdigest()[:16]


def test_seeds_give_the_networks_that_they_gave_before_graphs_and_formats() -> None:
    # Noted from the program as it was before random networks could have formats and blocks.
    assert [digest(random_network(seed)) for seed in range(8)] == [
        "3543657c199b44b8", "4e7437f6f4db212d", "18ec4d34cb110ce1", "a11f4f6b6446e4cc",
        "fae6e9ad0c80596c", "c6b9ceca8dad4869", "0cdca2137924e470", "16a7e74fb42eb872",
    ]  # fmt: skip
    mixed = [random_network(s, groups=True, weights=("int8", "ternary", "binary")) for s in range(4)]
    assert [digest(network) for network in mixed] == [
        "9aebd94ccf489852", "925a1c5d792ef544", "2beec726042690e2", "c46ac8661a6f4eae",
    ]  # fmt: skip
    assert digest(resnet8_stack()) == "e7144e83c48c7145"


def features(network: Network) -> set[str]:
    """What there is in a network, by names that the tests below list."""
    found = {
        f"input {network.tensors[network.input].fmt.name}",
        f"output {network.tensors[network.output].fmt.name}",
    }
    uses = Counter(name for layer in network.layers for name in set(layer.inputs))
    if max(uses.values()) > 1:
        found.add("tensor used twice")
    for layer in network.layers:
        source, result = network.tensors[layer.inputs[0]], network.tensors[layer.output]
        if isinstance(layer, Conv | Linear):
            found.add(f"{layer.kind} {network.weights[layer.name].fmt.name}/{source.fmt.name}")
        if isinstance(layer, Conv):
            if layer.groups == source.shape[0] > 1:
                found.add("depthwise")
            elif layer.groups > 1:
                found.add(f"grouped {source.fmt.name}")
            if layer.pad_value is not None and layer.pad_value != source.zero_point:
                found.add(
                    f"pad {layer.pad_value}" if source.fmt.name == "binary" else f"pad {source.fmt.name}"
                )
        elif isinstance(layer, Requantize):
            found.add(f"requantize {result.fmt.name}")
        elif isinstance(layer, Thresholds):
            found |= {f"thresholds {result.fmt.name}", f"count {layer.values.shape[1]}", f"step {layer.step}"}
            maker = next(made for made in network.layers if made.output == layer.input)
            found.add(f"thresholds after {maker.kind}")
            if int(layer.values.max()) == 2**31 - 1:
                found.add("threshold out of reach")
            if maker.name in network.weights and network.weights[maker.name].bias is not None:
                found.add("thresholds after a bias")
        elif isinstance(layer, MaxPool):
            plain = layer.stride == layer.kernel and not any(layer.padding)
            found.add(f"plain pool {source.fmt.name}" if plain else "overlapping pool")
            found.add("padded pool" if any(layer.padding) else "pool")
        elif isinstance(layer, AvgPool):
            found.add("global pool" if layer.kernel == source.shape[1:] else "average pool")
        elif isinstance(layer, Add):
            image = "image" if len(result.shape) == 3 else "vector"
            found |= {f"add {layer.rounding.name}", f"add {image}", f"left {layer.left_shift == 20}"}
        else:
            found.add(layer.kind if isinstance(layer, Concat | Shuffle) else "flatten")
            found.add(f"{layer.kind} {source.fmt.name}")
    return found


EVERY = {
    *(f"conv {w}/{a}" for w, a in FORMATS),
    *(f"linear {w}/{a}" for w, a in FORMATS),
    *(f"{what} {fmt}" for fmt in ("int8", "ternary", "binary")
      for what in ("input", "output", "thresholds", "plain pool", "flatten", "grouped", "concat")),
    *(f"count {count}" for count in (1, 2, 3, 7, 15, 255)),
    *("requantize int8", "requantize ternary", "step 1", "step 2", "threshold out of reach"),
    *(f"thresholds after {maker}" for maker in ("a bias", "avgpool", "conv", "linear")),
    *("pad -1", "pad 1", "pad int8", "pad ternary"),
    *("tensor used twice", "depthwise", "shuffle int8", "overlapping pool", "padded pool"),
    *("average pool", "global pool", "add image", "add vector", "left True", "left False"),
    *("add TFLITE_DOUBLE", "add TFLITE_SINGLE", "add HALF_EVEN", "add SHIFT"),
}  # fmt: skip


def test_two_hundred_seeds_have_every_feature_and_no_constant_result() -> None:
    missing = set(EVERY)
    constant = []
    for seed in range(200):
        network = random_network(seed, formats=FORMATS, vector=True, groups=True, **SMALL)
        missing -= features(network)
        results = run_reference(network, random_input(network, seed, 4))
        if len(np.unique(results)) < 2:
            constant.append(seed)
    assert not missing and not constant


@pytest.mark.parametrize("arguments", [{"formats": FORMATS}, {"vector": True}], ids=["formats", "vector"])
def test_layers_within_seldom_give_one_value_only(arguments: dict[str, Any]) -> None:
    stuck = total = 0
    for seed in range(40):
        network = random_network(seed, **arguments, **SMALL)
        values = trace_reference(network, random_input(network, seed, 4))
        for layer in network.layers:
            if isinstance(layer, Requantize | Thresholds):
                total += 1
                stuck += len(np.unique(values[layer.output])) == 1
    assert total > 80 and stuck <= total // 50


@pytest.mark.parametrize("vector", [False, True])
def test_formats_alone_or_blocks_alone_bring_no_other_layers(vector: bool) -> None:
    blocks, formats = (Add, AvgPool, Concat, Shuffle), ("binary", "ternary")
    for seed in range(30):
        network = random_network(seed, vector=vector, formats=() if vector else FORMATS, **SMALL)
        if vector:
            assert all(t.fmt.name not in formats for t in network.tensors.values())
            assert not any(isinstance(layer, Thresholds) for layer in network.layers)
        else:
            assert not any(isinstance(layer, blocks) for layer in network.layers)
            assert all(layer.groups == 1 for layer in network.layers if isinstance(layer, Conv))


def test_parts_of_low_bit_tensors_take_whole_bytes_and_pools_sixteen_pixels() -> None:
    for seed in range(60):
        network = random_network(seed, formats=FORMATS, vector=True, groups=True, **SMALL)
        for layer in network.layers:
            sources = [network.tensors[name] for name in layer.inputs]
            if isinstance(layer, Concat):
                assert all(s.shape[0] * s.fmt.bits % 8 == 0 for s in sources)
            if isinstance(layer, Conv) and layer.groups > 1:
                users = [post for post in network.layers if layer.output in post.inputs]
                result = network.tensors[users[0].output]
                assert sources[0].shape[0] // layer.groups * sources[0].fmt.bits % 8 == 0
                assert result.shape[0] // layer.groups * result.fmt.bits % 8 == 0
            if isinstance(layer, MaxPool):
                assert layer.kernel[0] * layer.kernel[1] <= 16
            if isinstance(layer, Conv) and sources[0].fmt.name == "binary" and any(layer.padding):
                assert layer.pad_value in (-1, 1)


def test_limits_hold_in_graphs_too() -> None:
    for seed in range(40):
        network = random_network(
            seed, max_layers=2, max_channels=8, max_image=6, max_kernel=2, formats=FORMATS, vector=True
        )
        names = [layer.name for layer in network.layers if isinstance(layer, Conv | Linear)]
        assert sum(name.startswith("layer") for name in names) in (1, 2)
        for layer in network.layers:
            shape = network.tensors[layer.output].shape
            assert len(shape) == 1 or shape[0] <= 16
            if isinstance(layer, Conv):
                assert max(network.weights[layer.name].values.shape[2:]) <= 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"max_layers": 0}, "max_layers must be at least 1, not 0"),
        ({"weights": ("int4",)}, "weights must be of int8, ternary or binary, not int4"),
        (
            {"formats": [("int8", "binary")]},
            "formats must be of int8/int8, ternary/int8, .* not .'int8', 'binary'",
        ),
        ({"formats": FORMATS, "weights": ("ternary",)}, "give either weights or formats, not both"),
    ],
)
def test_what_a_random_network_can_not_be_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        random_network(0, **arguments)
