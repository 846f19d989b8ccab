"""What Yosys made of the RTL, in the target's cells, on the RTL's own benches and vectors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import ArraySpec, BufferSpec, BusSpec, Machine, PostSpec, QueueSpec
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, random_network
from bitwright.rtl import gate_level
from bitwright.rtl.bench.units import run_unit_tests
from bitwright.rtl.cost import leaf_form
from bitwright.rtl.gate_level import build_gate_units, core_netlist, gate_netlist
from bitwright.rtl.pe import ProcessingElement
from bitwright.rtl.popcount import PopCount
from bitwright.rtl.runner import RtlCase, run_cpp
from bitwright.rtl.toolchain import ToolError
from bitwright.rtl.verilog import vendor_verilog

UNITS = Path(__file__).parent / "units"
SEED = 1
COUNTS = ("popcount_plain_32", "popcount_ecp5_16_0", "popcount_ecp5_16_1")
"""Population counts of plain adders and in carry chains, of bits and of ternary lanes."""
TINY = Machine(
    name="tiny",
    array=ArraySpec(rows=2, cols=1, act_word_bits=32, weight_word_bits=32, acc_depth=16, acc_bits=24),
    buffers=BufferSpec(activation_bytes=1024, weight_bytes=1024, output_bytes=256, param_channels=16),
    post=PostSpec(lanes=1),
    bus=BusSpec(data_bits=32, max_burst=4, read_outstanding=2, write_outstanding=2),
    queues=QueueSpec(commands=2, fetch_commands=8, fetch_burst=4, row_descriptors=2),
)
"""As small as a core can be, so that its gates simulate quickly."""


def _run(executable: Path, module: str, units: Iterable[str], folder: Path) -> None:
    names = list(units)
    (folder / "units.txt").write_text(" ".join(names), encoding="utf-8")
    run_unit_tests(
        executable, module=module, tests=len(names), folder=folder, seed=SEED, python_path=[str(UNITS)]
    )


def _run_pes(unit_machines: ModuleType, target: str, folder: Path, names: Iterable[str]) -> None:
    leaf = leaf_form(target)
    machines = {f"pe_{name}": unit_machines.PE_MACHINES[name] for name in names}
    units = {name: ProcessingElement(machine=machine, leaf=leaf) for name, machine in machines.items()}
    executable = build_gate_units(units, target, cells=vendor_verilog(leaf))
    _run(executable, "cocotb_pe", units, folder)


@pytest.mark.slow
def test_the_gates_of_an_int8_and_a_low_bit_pe_add_as_the_rtl_does(
    unit_machines: ModuleType, tmp_path: Path
) -> None:
    _run_pes(unit_machines, "ecp5-85k", tmp_path, ("narrow", "bits"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ecp5-85k", "ice40-hx8k", "ice40-up5k"])
def test_the_gates_of_every_pe_add_as_the_rtl_does(
    unit_machines: ModuleType, tmp_path: Path, target: str
) -> None:
    _run_pes(unit_machines, target, tmp_path, unit_machines.PE_MACHINES)


COUNTER = """
module counter(input clk, output reg [7:0] count);
  always @(posedge clk) count <= count + 1;
endmodule
"""


def test_a_netlist_holds_cells_and_their_models_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path))
    text = gate_netlist(COUNTER, "counter", "ecp5-25k")
    assert "CCU2C #(" in text and "count + 1" not in text
    assert "module TRELLIS_FF(" in text and "module DP16KD (" in text
    (kept,) = (tmp_path / "netlist").glob("*.v")
    kept.write_text("// from the cache\n")
    assert gate_netlist(COUNTER, "counter", "ecp5-25k").startswith("// from the cache\n")


def test_a_family_whose_cells_are_not_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there for targets of synth_ecp5, synth_ice40, not for xc7"):
        gate_netlist(COUNTER, "counter", "xc7")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_a_wrong_look_up_table_is_seen(
    unit_machines: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    def netlist(*_: object, **__: object) -> str:
        text = gate_netlist(*_, **__)  # type: ignore[arg-type]
        found = re.search(r"LUT4 #\(\s*\.INIT\(16'h(\w{4})\)", text)
        assert found is not None
        wrong = f"{int(found[1], 16) ^ 0xFFFF:04x}" if broken else found[1]
        return text[: found.start(1)] + wrong + text[found.end(1) :]

    monkeypatch.setattr(gate_level, "gate_netlist", netlist)
    units = {name: PopCount(**unit_machines.POPCOUNTS[name]) for name in COUNTS}
    executable = build_gate_units(units, "ecp5-85k", cells=vendor_verilog("ecp5"))
    if broken:
        with pytest.raises(ToolError, match=f"cocotb ran {len(COUNTS)} of {len(COUNTS)} tests, 1 failed"):
            _run(executable, "cocotb_popcount", COUNTS, tmp_path)
    else:
        _run(executable, "cocotb_popcount", COUNTS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ecp5-25k", "ice40-hx8k"])
def test_the_gates_of_a_core_run_a_layer_as_its_rtl_does(target: str) -> None:
    network = random_network(7, max_layers=1, max_channels=6, max_image=6, max_kernel=3)
    program = map_network(network, TINY)
    x = random_input(network, 7)[0]
    case = RtlCase(program=program, x=x)
    rtl = run_cpp(TINY, case)
    gates = run_cpp(TINY, case, verilog=core_netlist(TINY, target))
    assert (gates.output_bytes, gates.cycles, gates.read_bytes, gates.write_bytes) == (
        rtl.output_bytes,
        rtl.cycles,
        rtl.read_bytes,
        rtl.write_bytes,
    )
    assert gates.output is not None
    np.testing.assert_array_equal(gates.output, run_reference(network, x[None])[0])
