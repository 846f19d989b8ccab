"""Payload of a nest's weight tiles and load of its PEs, against tiles cut out and encoded one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.loop_nest import LoopNest, parse_nest
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.problem import Problem
from bitwright.mapper.tile_payload import evaluate_weights, mean_ratio, tile_payload, weight_mask
from bitwright.models.payload.relative_index import encode_relative

PROBLEM = Problem(name="case", K=6, C=5, OY=3, OX=3, FY=3, FX=2)


def machine(size_bits: int = 1 << 14) -> AbstractMachine:
    dram = Level(
        name="dram",
        operands=("W", "I", "O"),
        compressed=("W",),
        read_bits_per_cycle=8,
        word_bits=1,
        read_pj=1,
    )
    return AbstractMachine(
        name="pair",
        levels=(
            Level(name="cells", operands=("W",), size_bits=size_bits, buffering="shadow", compressed=("W",)),
            Level(name="sums", operands=("I", "O"), size_bits=1 << 20, buffering="shadow"),
            dram,
        ),
        axes=(Axis(name="pes", size=2, below="sums", loops=("K",)),),
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8, skips=("W",)),),
    )


def nest(target: AbstractMachine) -> LoopNest:
    """A filter of each PE, in tiles of 2 channels (1 the last): three tiles a filter, 18 in all."""
    return parse_nest(
        target, PROBLEM, {"dram": "OY3 OX3", "sums": "C3 K3", "cells": "C2 FY3 FX2"}, {"pes": "K2"}
    )


def weights(seed: int, density: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 100, (6, 5, 3, 2)) * (rng.random((6, 5, 3, 2)) < density)


@pytest.mark.parametrize("index_bits", [1, 2, 4])
def test_each_tile_has_the_bits_of_its_own_encoded_stream(index_bits: int) -> None:
    target, values = machine(), weights(1)
    mask = weight_mask(PROBLEM, values)
    payload = tile_payload(target, PROBLEM, nest(target), mask, index_bits)
    expected = []
    for k, channels in product(range(6), (slice(0, 2), slice(2, 4), slice(4, 5))):
        codes = values[k, channels].reshape(1, -1)
        stream = encode_relative(codes, index_bits=index_bits, code_bits=8)
        expected.append(stream.entries * (index_bits + 8) + 4)  # up to 12 entries are counted in 4 bits
    assert (payload.tiles, payload.header_bits) == (18, 4)
    assert (payload.total_bits, payload.worst_bits) == (sum(expected), max(expected))
    assert payload.ratio == pytest.approx(sum(expected) / (8 * 180))


def test_a_layers_bytes_are_its_tiles_sum_times_their_fetches() -> None:
    # Only OY and OX lie outside the weights' tiles, so all 18 are fetched 9 times.
    target, mask = machine(), weight_mask(PROBLEM, weights(2))
    payload = tile_payload(target, PROBLEM, nest(target), mask, 4)
    found = evaluate_weights(target, PROBLEM, nest(target), payload)
    assert found.at("dram", "W").read_bytes == pytest.approx(9 * payload.total_bits / 8)


def test_the_busiest_pe_sets_the_pace_of_each_step() -> None:
    """The PEs work on filters 2i and 2i + 1 of a sums' tile that is the whole layer, and wait at its end."""
    target, values = machine(), weights(3)
    mask = weight_mask(PROBLEM, values)
    payload = tile_payload(target, PROBLEM, nest(target), mask, 4)
    load = [np.count_nonzero(values[pe::2]) for pe in (0, 1)]
    assert payload.imbalance == pytest.approx(max(load) / (sum(load) / 2))
    density = float(mask.mean())
    found = evaluate_weights(target, replace(PROBLEM, weight_density=density), nest(target), payload)
    assert found.compute_cycles == math.ceil(max(load) * 9 - 1e-9)


def test_a_worst_tile_that_does_not_fit_is_refused_though_the_mean_does() -> None:
    values = weights(4, 0.2)
    values[0, 0:2] = 1  # one dense tile of 12 weights
    mask = weight_mask(PROBLEM, values)
    target = machine(100)
    payload = tile_payload(target, PROBLEM, nest(machine()), mask, 4)
    assert payload.mean_bits < 100 < payload.worst_bits == 12 * 12 + 4
    with pytest.raises(MappingError, match=r"level cells has 100 bits, its tile takes 148: 48 too many"):
        evaluate_weights(target, PROBLEM, nest(machine()), payload)


def test_a_dense_layer_is_smaller_without_an_index() -> None:
    assert mean_ratio(PROBLEM, np.ones((1, 6, 5, 3, 2), bool), 4) == (1.0, 0)
    target = machine()
    payload = tile_payload(target, PROBLEM, nest(target), np.ones((1, 6, 5, 3, 2), bool), 0)
    assert (payload.total_bits, payload.worst_bits, payload.header_bits) == (8 * 180, 8 * 12, 0)


def test_another_number_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="layer case: has 180 weights, not 6"):
        weight_mask(PROBLEM, np.ones(6))
