"""cocotb test module: runs the cases of cases.json, in the working directory, one after the other.

`bitwright.rtl.runner` writes that file and reads results.json. The test wakes a few times a case only:
stimulus and results lie in the bench's memory.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, First, ReadOnly, RisingEdge, Timer

__all__ = ["run_cases"]

PERIOD_NS = 10
RESET_CYCLES = 4
QUIET_CYCLES = 64
"""Watched after `done`: nothing may move at the memory port any more."""
LITE_LIMIT = 1000
"""Cycles that a register access may take."""

CONTROL, STATUS, BASE, LENGTH, CYCLES_LO, CYCLES_HI, IDENTITY = range(0x00, 0x1C, 4)
COUNTERS = ("ar_count", "r_count", "aw_count", "w_count", "b_count")


async def _write_register(dut: Any, address: int, data: int) -> None:
    # Driven at the falling edge, sampled when all has settled: a handshake is then seen before the
    # rising edge that it belongs to, whatever the simulator's order of events at that edge.
    dut.ctrl_awaddr.value = address
    dut.ctrl_wdata.value = data
    dut.ctrl_wstrb.value = 0xF
    dut.ctrl_awvalid.value = dut.ctrl_wvalid.value = dut.ctrl_bready.value = 1
    for _ in range(LITE_LIMIT):
        await ReadOnly()
        address_taken, data_taken = int(dut.ctrl_awready.value), int(dut.ctrl_wready.value)
        answered = int(dut.ctrl_bvalid.value)
        await FallingEdge(dut.clk)
        if address_taken:
            dut.ctrl_awvalid.value = 0
        if data_taken:
            dut.ctrl_wvalid.value = 0
        if answered:
            dut.ctrl_bready.value = 0
            return
    raise AssertionError(f"no answer to a write of register 0x{address:02x}")


async def _read_register(dut: Any, address: int) -> int:
    dut.ctrl_araddr.value = address
    dut.ctrl_arvalid.value = dut.ctrl_rready.value = 1
    for _ in range(LITE_LIMIT):
        await ReadOnly()
        taken, answered = int(dut.ctrl_arready.value), int(dut.ctrl_rvalid.value)
        data = int(dut.ctrl_rdata.value)
        await FallingEdge(dut.clk)
        if taken:
            dut.ctrl_arvalid.value = 0
        if answered:
            dut.ctrl_rready.value = 0
            return data
    raise AssertionError(f"no answer to a read of register 0x{address:02x}")


async def _pulse(dut: Any, name: str) -> None:
    getattr(dut, name).value = 1
    await FallingEdge(dut.clk)
    getattr(dut, name).value = 0


async def _run_case(dut: Any, case: dict[str, Any]) -> dict[str, Any]:
    for name, value in case["inputs"].items():
        getattr(dut, name).value = value
    dut.rst.value = 1
    await ClockCycles(dut.clk, RESET_CYCLES)
    await FallingEdge(dut.clk)
    dut.load_index.value = case["image"]
    await _pulse(dut, "load")
    dut.rst.value = 0
    await FallingEdge(dut.clk)

    identity = await _read_register(dut, IDENTITY)
    await _write_register(dut, BASE, case["base"])
    await _write_register(dut, LENGTH, case["commands"])
    started = time.perf_counter()
    await _write_register(dut, CONTROL, 1)
    if not int(dut.done.value):
        await First(RisingEdge(dut.done), Timer(PERIOD_NS * case["cycle_limit"], unit="ns"))
    seconds = time.perf_counter() - started
    await FallingEdge(dut.clk)
    timed_out = not int(dut.done.value)
    moved = [int(getattr(dut, name).value) for name in COUNTERS]
    await ClockCycles(dut.clk, QUIET_CYCLES)
    await FallingEdge(dut.clk)
    quiet = timed_out or moved == [int(getattr(dut, name).value) for name in COUNTERS]

    status = await _read_register(dut, STATUS)
    low, high = await _read_register(dut, CYCLES_LO), await _read_register(dut, CYCLES_HI)
    dut.dump_index.value = case["image"]
    dut.dump_first.value = case["dump_first"]
    dut.dump_last.value = case["dump_last"]
    await _pulse(dut, "dump")
    return {
        "identity": identity,
        "status": status,
        "cycles": high << 32 | low,
        "port_cycles": int(dut.port_cycles.value),
        "read_bytes": int(dut.r_count.value) * case["bus_bytes"],
        "write_bytes": int(dut.write_bytes.value),
        "protocol_error": bool(int(dut.protocol_error.value)),
        "timed_out": timed_out,
        "quiet": quiet,
        "seconds": seconds,
    }


@cocotb.test()  # type: ignore[untyped-decorator, unused-ignore]
async def run_cases(dut: Any) -> None:
    """Results of all cases, in their order, in results.json."""
    cases = json.loads(Path("cases.json").read_text(encoding="utf-8"))
    for name in ("load", "dump", "ctrl_awvalid", "ctrl_wvalid", "ctrl_arvalid"):
        getattr(dut, name).value = 0
    dut.ctrl_bready.value = dut.ctrl_rready.value = 0
    Clock(dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
    results = [await _run_case(dut, case) for case in cases]
    Path("results.json").write_text(json.dumps(results), encoding="utf-8")
