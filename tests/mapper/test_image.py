import dataclasses
from itertools import chain

import numpy as np
import pytest
from bitwright.mapper.image import pack_params, pack_weights, place_regions
from bitwright.mapper.layers import CoreLayer
from bitwright.mapper.machine import ArraySpec, BufferSpec, BusSpec, Machine, PostSpec
from bitwright.mapper.mapping import Chunk, ColumnMode, LayerShape, LoopOrder, Mapping


def make_machine(rows: int, act_bits: int, weight_bits: int, bus: int = 32) -> Machine:
    return Machine(
        name="m",
        array=ArraySpec(rows=rows, cols=1, act_word_bits=act_bits, weight_word_bits=weight_bits),
        buffers=BufferSpec(activation_bytes=4096, weight_bytes=16384, output_bytes=4096, param_channels=64),
        post=PostSpec(lanes=1),
        bus=BusSpec(data_bits=bus),
    )


def make_layer(K: int, C: int, FY: int, FX: int, dilation: int = 1) -> tuple[CoreLayer, Mapping]:
    rng = np.random.default_rng(K * 1000 + C)
    shape = LayerShape(name="conv", K=K, C=C, H=20, W=20, FY=FY, FX=FX, OY=4, OX=4, dilation_x=dilation)
    layer = CoreLayer(
        shape=shape,
        weights=rng.integers(-128, 128, (K, C, FY, FX), dtype=np.int8),
        bias=rng.integers(-(2**31), 2**31, K).astype(np.int32),
        multiplier=rng.integers(0, 2**31, K).astype(np.int32),
        shift=rng.integers(0, 32, K).astype(np.int32),
        rounding=0,
        in_zero_point=0,
        out_zero_point=0,
        clamp_low=-128,
        clamp_high=127,
        output_shape=(K, 4, 4),
    )
    mapping = Mapping(
        shape=shape, rows=4, columns=1, column_rows=4, tile_x=4, groups=1, acc_y=4, acc_x=4,
        order=LoopOrder.WEIGHTS, mode=ColumnMode.SHARED, skip_x=False, chunks=(shape.whole,),
    )  # fmt: skip
    return layer, mapping


def naive_weights(layer: CoreLayer, rows: int, lanes: int, word: int, bus: int) -> list[int]:
    """Written from docs/architecture.md, "Weights and parameters in memory", one value at a time."""
    shape, out = layer.shape, []
    for first in range(0, shape.K, rows):
        valid = min(rows, shape.K - first)
        steps: dict[int, list[list[int]]] = {k: [] for k in range(first, first + valid)}
        for k, lists in steps.items():
            for fy in range(shape.FY):
                taps = [[int(layer.weights[k, c, fy, fx]) for c in range(shape.C)] for fx in range(shape.FX)]
                runs = [list(chain.from_iterable(taps))] if shape.dilation_x == 1 else taps
                for run in runs:
                    for start in range(0, len(run), lanes):
                        part = run[start : start + lanes]
                        lists.append(part + [0] * (lanes - len(part)))
        per_word = word // lanes
        count = len(steps[first])
        for line in range(0, count, per_word):
            beat: list[int] = []
            for k in range(first, first + valid):
                held = list(chain.from_iterable(steps[k][line : line + per_word]))
                beat += held + [0] * (word - len(held))
            beat += [0] * (-len(beat) % bus)
            out += beat
    return out


@pytest.mark.parametrize(
    ("K", "C", "FY", "FX", "dilation", "act_bits", "weight_bits"),
    [
        (8, 3, 3, 3, 1, 128, 32),  # runs of 9 in sets of 4
        (6, 5, 2, 3, 2, 128, 32),  # dilation: a run a tap; a ragged group
        (5, 7, 3, 1, 1, 32, 128),  # four lane sets in a word
        (1, 4, 1, 1, 1, 64, 16),  # a last group narrower than a beat
    ],
)
def test_weights_lie_as_the_architecture_says(K, C, FY, FX, dilation, act_bits, weight_bits):
    layer, mapping = make_layer(K, C, FY, FX, dilation)
    machine = make_machine(4, act_bits, weight_bits)
    lanes = min(act_bits, weight_bits) // 8
    expected = naive_weights(layer, 4, lanes, weight_bits // 8, 4)
    assert pack_weights(layer, mapping, machine).view(np.int8).tolist() == expected


def test_a_chunks_lines_follow_those_of_the_chunk_before():
    layer, mapping = make_layer(4, 6, 3, 1)
    machine = make_machine(4, 128, 32)
    halves = [Chunk(0, 3, 0, 1, 0, 4), Chunk(0, 3, 0, 1, 4, 2)]
    chunked = dataclasses.replace(mapping, chunks=tuple(halves), weight_chunked=True)
    parts = []
    for chunk in halves:
        weights = layer.weights[:, chunk.c0 : chunk.c0 + chunk.c]
        shape = dataclasses.replace(layer.shape, C=chunk.c)
        part = dataclasses.replace(layer, shape=shape, weights=weights)
        parts += naive_weights(part, 4, 4, 4, 4)
    assert pack_weights(layer, chunked, machine).view(np.int8).tolist() == parts


def test_parameters_are_16_bytes_a_channel_padded_to_whole_groups():
    layer, _ = make_layer(3, 1, 1, 1)
    data = pack_params(layer, 4).tobytes()
    assert len(data) == 64
    for k in range(3):
        record = data[16 * k : 16 * k + 16]
        assert int.from_bytes(record[:4], "little", signed=True) == layer.bias[k]
        assert int.from_bytes(record[4:8], "little", signed=True) == layer.multiplier[k]
        assert record[8] == layer.shift[k]
        assert record[9:] == bytes(7)
    assert data[48:] == bytes(16)


def test_activations_take_turns_in_two_aligned_regions():
    tensors = [("x", 10), ("a", 100), ("b", 70), ("c", 30), ("y", 5)]
    regions, where = place_regions(33, {"w": ("weights", np.zeros(65, np.uint8))}, tensors)
    # commands 0…33, w 64…129, x 192, a and c 256…356, b 384…454, y 512
    assert [r.address for r in regions] == [0, 64, 192, 256, 384, 512]
    assert [regions[i].address for i in where] == [192, 256, 384, 256, 512]
    assert [regions[i].kind for i in where] == [
        "input", "activations", "activations", "activations", "output",
    ]  # fmt: skip
