import dataclasses
from itertools import chain

import numpy as np
import pytest
from bitwright.mapper.image import pack_params, pack_weights
from bitwright.mapper.isa import PostMode
from bitwright.mapper.layers import CoreLayer, Post
from bitwright.mapper.machine import ArraySpec, BufferSpec, BusSpec, Machine, PostSpec
from bitwright.mapper.mapping import ColumnMode, LoopOrder, Mapping
from bitwright.mapper.pe import PeKind
from bitwright.mapper.shape import Chunk, LayerShape


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
        post=Post(
            bias=rng.integers(-(2**31), 2**31, K).astype(np.int32),
            multiplier=rng.integers(0, 2**31, K).astype(np.int32),
            shift=rng.integers(0, 32, K).astype(np.int32),
            low=-128,
            high=127,
        ),
        sources=(0,),
        result=1,
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


def test_lane_wise_weights_are_a_byte_a_step_and_a_tap_a_step():
    # 5 channels of 2×2 taps on 4 rows, words of 2 bytes: a line holds 2 steps of 4 rows.
    layer, mapping = make_layer(5, 5, 2, 2)
    shape = dataclasses.replace(layer.shape, pe=PeKind.VECTOR)
    weights = np.arange(20, dtype=np.int8).reshape(5, 1, 2, 2)
    layer = dataclasses.replace(layer, shape=shape, weights=weights)
    mapping = dataclasses.replace(mapping, shape=shape, chunks=(shape.whole,))
    packed = pack_weights(layer, mapping, make_machine(4, 64, 16)).view(np.int8).tolist()
    full = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15]
    # The last channel's words, each in a beat of 4 bytes.
    assert packed == [*full, 16, 17, 0, 0, 18, 19, 0, 0]


def test_ones_are_packed_once_for_all_groups():
    layer, mapping = make_layer(9, 9, 1, 3)
    shape = dataclasses.replace(layer.shape, pe=PeKind.VECTOR, ones=True)
    layer = dataclasses.replace(layer, shape=shape, weights=np.ones((9, 1, 1, 3), np.int8))
    mapping = dataclasses.replace(mapping, shape=shape, chunks=(shape.whole,))
    # 3 steps in words of 4 bytes, for each of 4 rows.
    assert pack_weights(layer, mapping, make_machine(4, 64, 32)).tolist() == [1, 1, 1, 0] * 4


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        # 6 values in runs of 8 lanes: 2 bits each, −1 as 3; then 1 bit each, −1 as 0.
        (PeKind.TERNARY, [-1, 0, 1, 1, 0, -1], [0b01_01_00_11, 0b00_00_11_00]),
        (PeKind.BINARY, [-1, 1, 1, -1, 1, 1], [0b110110, 0]),
    ],
)
def test_low_bit_weights_are_dense_and_filled_up_with_zero_bits(kind, values, expected):
    layer, mapping = make_layer(1, 6, 1, 1)
    shape = dataclasses.replace(layer.shape, pe=kind)
    weights = np.array(values, np.int8).reshape(1, 6, 1, 1)
    layer = dataclasses.replace(layer, shape=shape, weights=weights)
    mapping = dataclasses.replace(mapping, shape=shape, chunks=(shape.whole,))
    assert pack_weights(layer, mapping, make_machine(4, 64, 16)).tolist() == [*expected, 0, 0]


def test_parameters_are_16_bytes_a_channel_padded_to_whole_groups():
    layer, _ = make_layer(3, 1, 1, 1)
    post = dataclasses.replace(layer.post, left=2)
    data = pack_params(dataclasses.replace(layer, post=post), make_machine(4, 64, 16)).tobytes()
    assert len(data) == 64
    for k in range(3):
        record = data[16 * k : 16 * k + 16]
        assert int.from_bytes(record[:4], "little", signed=True) == post.bias[k]
        assert int.from_bytes(record[4:8], "little", signed=True) == post.multiplier[k]
        assert record[8] == post.shift[k]
        assert record[9] == 2
        assert record[10:] == bytes(6)
    assert data[48:] == bytes(16)


def count_by_tree(lines: list[bytes], levels: int, acc: int) -> int:
    """What docs/architecture.md's tree counts: node i's children are 4i + 1 … 4i + 4."""
    node = count = 0
    for level in range(levels):
        keys = [int.from_bytes(lines[node][4 * i : 4 * i + 4], "little", signed=True) for i in range(3)]
        assert lines[node][12:] == bytes(4)
        passed = sum(acc >= key for key in keys)
        count += passed * 4 ** (levels - 1 - level)
        node = 4 * node + 1 + passed
    return count


@pytest.mark.parametrize(("thresholds", "levels"), [(1, 1), (3, 1), (4, 2), (15, 2), (40, 3), (255, 4)])
def test_the_search_tree_counts_thresholds(thresholds, levels):
    rng = np.random.default_rng(thresholds)
    layer, _ = make_layer(6, 4, 1, 1)
    values = np.sort(rng.integers(-3000, 3000, (6, thresholds)), axis=1)
    values[0, 0], values[1, -1] = -(2**31), 2**31 - 1  # below and above all accumulators
    bias = rng.integers(-500, 500, 6).astype(np.int32)
    shape = dataclasses.replace(layer.shape, mode=PostMode.THRESHOLDS, levels=levels)
    weights = rng.integers(-8, 8, (6, 4, 1, 1), dtype=np.int8)
    post = Post(bias=bias, thresholds=values.astype(np.int32), low=-1, high=1)
    layer = dataclasses.replace(layer, shape=shape, weights=weights, post=post)
    machine = dataclasses.replace(make_machine(4, 64, 16), post=PostSpec(lanes=2))
    data, nodes = pack_params(layer, machine).tobytes(), (4**levels - 1) // 3
    assert len(data) == 8 * nodes * 16
    for k in range(6):
        # Lane set k // 2 is `nodes` lines of two lanes.
        lines = [data[16 * (2 * (k // 2 * nodes + node) + k % 2) :][:16] for node in range(nodes)]
        least = int(np.minimum(weights[k].astype(int) * -128, weights[k].astype(int) * 127).sum())
        most = int(np.maximum(weights[k].astype(int) * -128, weights[k].astype(int) * 127).sum())
        for acc in (least, most, *rng.integers(least, most, 20, endpoint=True).tolist()):
            assert count_by_tree(lines, levels, acc) == int((acc + int(bias[k]) >= values[k]).sum())


def test_an_adds_parameters_are_a_line_for_each_operand():
    layer, _ = make_layer(7, 7, 1, 1)
    shape = dataclasses.replace(layer.shape, pe=PeKind.VECTOR, mode=PostMode.ADD, ones=True, alike=True)
    operands = np.array([3, 9], np.int32)
    post = dataclasses.replace(layer.post, bias=-operands, multiplier=operands, shift=operands, left=20)
    machine = dataclasses.replace(make_machine(4, 64, 16), post=PostSpec(lanes=4))
    data = pack_params(dataclasses.replace(layer, shape=shape, post=post), machine).tobytes()

    def line(value: int) -> bytes:
        words = (-value).to_bytes(4, "little", signed=True) + value.to_bytes(4, "little")
        return (words + bytes([value, 20]) + bytes(6)) * 4

    assert data == line(3) + line(9)
