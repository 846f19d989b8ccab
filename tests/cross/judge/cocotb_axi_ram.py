"""cocotb test module: the bare core on cocotbext-axi's AxiRam, which knows nothing of this project.

`tests/cross/test_axi_ram.py` writes case.json and the image; the output region comes back in output.bin.
"""

import itertools
import json
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

CONTROL, STATUS, BASE, LENGTH = 0x00, 0x04, 0x08, 0x0C


@cocotb.test()
async def run_program(dut):
    case = json.loads(Path("case.json").read_text())
    image = Path("image.bin").read_bytes()
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=case["size"])
    lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "ctrl"), dut.clk, dut.rst)
    rng = random.Random(case["seed"])
    for channel in (
        ram.read_if.ar_channel,
        ram.read_if.r_channel,
        ram.write_if.aw_channel,
        ram.write_if.w_channel,
        ram.write_if.b_channel,
    ):
        channel.set_pause_generator(itertools.cycle([rng.random() < case["pause"] for _ in range(997)]))
    await ClockCycles(dut.clk, 5)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)
    ram.write(case["base"], image)
    await lite.write_dword(BASE, case["base"])
    await lite.write_dword(LENGTH, case["commands"])
    await lite.write_dword(CONTROL, 1)
    if not int(dut.done.value):
        await with_timeout(RisingEdge(dut.done), case["limit"] * 10, "ns")
    status = await lite.read_dword(STATUS)
    assert status == 2, f"status {status:#x}, not done without error"
    Path("output.bin").write_bytes(ram.read(case["output"], case["output_size"]))
