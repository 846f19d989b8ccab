"""An AXI4 memory that others wrote judges the core's port: cocotbext-axi's AxiRam."""

import json
from pathlib import Path

import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.tensors import unpack_output
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, random_network
from bitwright.rtl.cocotb_run import run_cocotb
from bitwright.rtl.runner import RtlCase, case_image
from bitwright.rtl.verilate import Main, verilate
from bitwright.rtl.verilog import TOP, core_verilog

BASE = 0x10000


@pytest.mark.parametrize(
    ("seed", "pause"),
    [pytest.param(3, 0.0, marks=pytest.mark.slow), (4, 0.3), pytest.param(7, 0.6, marks=pytest.mark.slow)],
)
def test_core_computes_the_reference_on_an_independent_axi_memory(
    seed: int, pause: float, tmp_path: Path
) -> None:
    pytest.importorskip("cocotbext.axi", reason="cocotbext-axi is not installed: pip install cocotbext-axi")
    machine = load_machine("core-small")
    network = random_network(seed, max_layers=2, max_image=10)
    x = random_input(network, seed)[0]
    program = map_network(network, machine)
    image = case_image(RtlCase(program=program, x=x))
    (tmp_path / "image.bin").write_bytes(image.tobytes())
    case = {
        "base": BASE,
        "commands": len(program.commands),
        "size": 1 << (BASE + image.size).bit_length(),
        "output": BASE + program.output.address,
        "output_size": program.output.size,
        "limit": 400_000,
        "pause": pause,
        "seed": seed,
    }
    (tmp_path / "case.json").write_text(json.dumps(case))
    ports = Path(__file__).parent / "judge" / "ports.vlt"
    executable = verilate(
        {"bitwright_core.v": core_verilog(machine), "ports.vlt": ports.read_text()},
        top=TOP,
        main=Main.COCOTB,
    )
    run_cocotb(
        executable,
        top=TOP,
        module="cocotb_axi_ram",
        folder=tmp_path,
        tests=1,
        python_path=[str(Path(__file__).parent / "judge")],
    )
    output = unpack_output(program, (tmp_path / "output.bin").read_bytes())
    assert np.array_equal(output, run_reference(network, x[np.newaxis])[0])
