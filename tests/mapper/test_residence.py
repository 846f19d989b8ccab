"""Layers whose input or output lies on chip: counts, energy and ports by hand."""

from dataclasses import replace

import pytest
from bitwright.mapper.evaluation import evaluate
from bitwright.mapper.hierarchy import Axis, Level, Residence
from bitwright.mapper.loop_nest import parse_nest
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.problem import OPERANDS, Problem
from small_search import buffer_machine

LAYER = Problem(name="x", K=2, C=3, OX=4, partial_bits=16)
"""24 products; W 6, I 12, O 8 values."""


def test_an_input_in_place_is_read_from_its_level_and_never_from_dram() -> None:
    # PEs read I in each of the 24 products, from the buffer. Its tile there takes nothing: W 48 bits and O 8
    # sums of 16 are all.
    machine = replace(buffer_machine(48 + 128), residence=Residence(level="buffer", in_place=("I",)))
    found = evaluate(machine, LAYER, parse_nest(machine, LAYER, {"buffer": "K2 OX4 C3"}))
    inputs = found.at("buffer", "I")
    assert (inputs.reads, inputs.fills) == (24, 0)
    with pytest.raises(KeyError):
        found.at("dram", "I")
    assert (found.at("dram", "W").reads, found.at("dram", "O").updates) == (6, 8)
    # DRAM: 6 weights and 8 results of 8 bits at 100 pJ. Buffer at 1 pJ a bit: W filled 48 and read 24·8; I
    # read 24·8; O: sums written 24 times and read back 24 − 8 times, 16 bits each, and drained 8·8.
    assert found.energy_by_level["dram"] == (6 + 8) * 8 * 100
    assert found.energy_by_level["buffer"] == 48 + 192 + 192 + 24 * 16 + 16 * 16 + 64
    # Ports: DRAM has one of 8 bits a cycle, 14 values; the buffer reads 192 + 192 + 256 + 64 bits by 64.
    assert found.port_cycles == {"buffer": 11, "dram": 14}
    assert found.latency_cycles == 24


def test_an_output_in_place_is_written_as_sums_where_it_lies() -> None:
    machine = replace(buffer_machine(48 + 96), residence=Residence(level="buffer", in_place=("O",)))
    found = evaluate(machine, LAYER, parse_nest(machine, LAYER, {"buffer": "K2 OX4 C3"}))
    outputs = found.at("buffer", "O")
    # Sums: 24 written, of which 8 were the first of theirs: 16 read back. Nothing drains to DRAM.
    assert (outputs.updates, outputs.reads, outputs.fills, outputs.drains) == (24, 16, 0, 0)
    assert found.energy_by_level["dram"] == (6 + 12) * 8 * 100
    assert found.energy_by_level["buffer"] == 48 + 192 + 96 + 192 + 24 * 16 + 16 * 16
    assert found.port_cycles["dram"] == 18


def test_an_output_through_a_tile_is_read_as_it_is_complete_and_written_once() -> None:
    # The tile is a pixel: sums of 2 channels, 32 bits; complete values, 8 of 8 bits, are read and written.
    machine = replace(buffer_machine(48 + 24 + 32), residence=Residence(level="buffer", through_tile=True))
    found = evaluate(machine, LAYER, parse_nest(machine, LAYER, {"dram": "OX4", "buffer": "K2 C3"}))
    outputs = found.at("buffer", "O")
    assert (outputs.drains, outputs.fills, outputs.updates) == (8, 0, 24 + 8)
    assert found.energy_by_level["dram"] == (6 + 12) * 8 * 100
    assert found.energy_by_level["buffer"] == 48 + 192 + 96 + 192 + 24 * 16 + 16 * 16 + 64 + 64


def test_a_tensor_takes_its_room_from_the_tiles() -> None:
    machine = replace(buffer_machine(175), residence=Residence(level="buffer", in_place=("I",)))
    with pytest.raises(MappingError, match="level buffer has 175 bits, its tile takes 176: 1 too many"):
        parse_nest(machine, LAYER, {"buffer": "K2 OX4 C3"})


def test_a_level_that_cannot_keep_tensors_is_refused() -> None:
    machine = buffer_machine(1024)
    with pytest.raises(ValueError, match="must be an inner level with one size for I and O, not 'dram'"):
        replace(machine, residence=Residence(level="dram", in_place=("I",)))
    parts = Level(name="parts", operands=OPERANDS, weight_bits=64, input_bits=64, output_bits=64)
    with pytest.raises(ValueError, match="must be an inner level with one size for I and O, not 'parts'"):
        replace(
            machine, levels=(parts, machine.levels[-1]), residence=Residence(level="parts", in_place=("I",))
        )
    with pytest.raises(ValueError, match="must be there once, but an axis lies between buffer and DRAM"):
        replace(
            machine, axes=(Axis(name="rows", size=2, below="dram"),),
            residence=Residence(level="buffer", in_place=("I",)),
        )  # fmt: skip
    with pytest.raises(ValueError, match="may name I and O, each once"):
        Residence(level="buffer", in_place=("W",))
