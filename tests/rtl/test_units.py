"""Every unit of the core in Verilator, driven by the cocotb modules in units/, each against its reference."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bitwright.rtl.bench.units import build_units, run_unit_tests
from bitwright.rtl.toolchain import ToolError

UNITS = Path(__file__).parent / "units"
SEED = 1
TESTS = {
    "buffers": 10,
    "tokens": 1,
    "control": 1,
    "read_arbiter": 1,
    "sequencer": 4,
    "load": 2,
    "store": 4,
    "multiply": 4,
    "pe": 8,
    "popcount": 29,
    "array": 1,
    "execute": 3,
    "requantizer": 4,
    "post": 4,
    "core": 1,
}
"""cocotb module → tests that must pass in it."""


def _units(given: Any) -> dict[str, Any]:
    from bitwright.rtl.array import ProcessingArray
    from bitwright.rtl.byte_buffer import ByteBuffer
    from bitwright.rtl.control import Control
    from bitwright.rtl.core import Core
    from bitwright.rtl.execute import Execute
    from bitwright.rtl.line_buffer import LineBuffer
    from bitwright.rtl.load import Load
    from bitwright.rtl.multiply import Multiply8, MultiplyPair8
    from bitwright.rtl.param_buffer import ParamBuffer
    from bitwright.rtl.pe import ProcessingElement
    from bitwright.rtl.popcount import PopCount
    from bitwright.rtl.post import Post
    from bitwright.rtl.read_arbiter import ReadArbiter
    from bitwright.rtl.requantize import Requantizer
    from bitwright.rtl.sequencer import Sequencer
    from bitwright.rtl.store import Store
    from bitwright.rtl.tokens import TokenCounters

    units = {name: ByteBuffer(**sizes) for name, sizes in given.BYTE_BUFFERS.items()}
    units |= {name: LineBuffer(**sizes) for name, sizes in given.LINE_BUFFERS.items()}
    units |= {
        "tokens": TokenCounters(**given.TOKEN_COUNTERS),
        "control": Control(identity=given.CONTROL_IDENTITY),
        "arbiter": ReadArbiter(data_bits=given.ARBITER_BITS),
        "multiply_inferred": Multiply8(leaf="inferred"),
        "multiply_dsp": Multiply8(leaf="dsp"),
        "multiply_lut": Multiply8(leaf="lut"),
        "multiply_pair": MultiplyPair8(),
        "array_paired": ProcessingArray(machine=given.PAIRED),
        "core_paired": Core(machine=given.PAIRED),
    }
    units |= {name: ParamBuffer(machine=machine) for name, machine in given.PARAM_BUFFERS.items()}
    units |= {name: Requantizer(**sizes) for name, sizes in given.REQUANTIZERS.items()}
    units |= {f"sequencer_{m.name}": Sequencer(machine=m) for m in given.SEQUENCER_MACHINES}
    units |= {f"pe_{name}": ProcessingElement(machine=m) for name, m in given.PE_MACHINES.items()}
    units |= {name: PopCount(**options) for name, options in given.POPCOUNTS.items()}
    for kind in (Load, Store, Execute, Post):
        short = kind.__name__.lower()
        units |= {f"{short}_{m.name}": kind(machine=m) for m in (given.NARROW, given.WIDE)}
    for kind in (Store, Post):
        units |= {f"{kind.__name__.lower()}_{m.name}": kind(machine=m) for m in (given.SLIM, given.FULL)}
    units["execute_full"] = Execute(machine=given.FULL)
    return units


@pytest.fixture(scope="module")
def executable(unit_machines: ModuleType) -> Path:
    from bitwright.rtl.verilog import leaf_verilog

    return build_units(_units(unit_machines), cells=leaf_verilog(unit_machines.PAIRED))


@pytest.mark.parametrize(
    "module",
    # All operand pairs of every multiplier take long: CI has those that the PE benches draw.
    [pytest.param(name, marks=pytest.mark.slow) if name == "multiply" else name for name in TESTS],
)
def test_unit_agrees_with_its_reference(executable: Path, tmp_path: Path, module: str) -> None:
    failure = None
    try:
        run_unit_tests(
            executable,
            module=f"cocotb_{module}",
            tests=TESTS[module],
            folder=tmp_path,
            seed=SEED,
            python_path=[str(UNITS)],
        )
    except ToolError as fault:
        failure = f"seed {SEED}\n{fault.log}"
    if failure:  # the whole log, as a ToolError's text has only its end
        pytest.fail(failure, pytrace=False)
