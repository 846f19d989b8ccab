"""The runner on a core small enough to reckon by hand: it copies 64 bytes and adds one to each.

The stand-in obeys the real core's ports and registers. LENGTH, the number of commands, chooses what goes
wrong, so that each fault the runner can tell is seen once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bitwright.mapper.isa import Command, Opcode, encode
from bitwright.mapper.machine import Machine, MemoryTiming
from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.program import Program, Region
from bitwright.rtl import runner, verilate
from bitwright.rtl.cocotb_run import run_cocotb
from bitwright.rtl.memory_image import read_dump, write_image
from bitwright.rtl.runner import RtlCase, RtlError, build_bench, cycle_limit, run_cases, run_cpp
from bitwright.rtl.toolchain import ToolError

FINE, HANGS, REJECTS, CROSSES, MISCOUNTS, RESTLESS = range(1, 7)

STAND_IN = """
module bitwright_core(
  input clk, input rst, output reg done,
  input ctrl_awvalid, output ctrl_awready, input [7:0] ctrl_awaddr,
  input ctrl_wvalid, output ctrl_wready, input [31:0] ctrl_wdata, input [3:0] ctrl_wstrb,
  output reg ctrl_bvalid, input ctrl_bready, output [1:0] ctrl_bresp,
  input ctrl_arvalid, output ctrl_arready, input [7:0] ctrl_araddr,
  output reg ctrl_rvalid, input ctrl_rready, output reg [31:0] ctrl_rdata, output [1:0] ctrl_rresp,
  output m_axi_awid, output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize,
  output [1:0] m_axi_awburst, output m_axi_awvalid, input m_axi_awready,
  output [63:0] m_axi_wdata, output [7:0] m_axi_wstrb, output m_axi_wlast, output m_axi_wvalid,
  input m_axi_wready, input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
  output m_axi_arid, output [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize,
  output [1:0] m_axi_arburst, output m_axi_arvalid, input m_axi_arready,
  input m_axi_rid, input [63:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast,
  input m_axi_rvalid, output m_axi_rready);
  localparam IDLE = 0, AR = 1, R = 2, AW = 3, W = 4, B = 5, AFTER = 6;
  reg [2:0] state, beat;
  reg [31:0] base, length;
  reg [47:0] count, cycles;
  reg [63:0] kept [0:7];
  wire take = ctrl_awvalid && ctrl_wvalid && !ctrl_bvalid;
  assign ctrl_awready = take, ctrl_wready = take, ctrl_bresp = 0, ctrl_rresp = 0;
  assign ctrl_arready = !ctrl_rvalid;
  assign m_axi_arid = 1, m_axi_araddr = base + (length == 4 ? 32'hfc8 : 32'h100), m_axi_arlen = 7,
         m_axi_arsize = 3, m_axi_arburst = 1, m_axi_arvalid = state == AR || state == AFTER;
  assign m_axi_rready = 1;
  assign m_axi_awid = 0, m_axi_awaddr = base + 32'h200, m_axi_awlen = 7, m_axi_awsize = 3,
         m_axi_awburst = 1, m_axi_awvalid = state == AW;
  assign m_axi_wdata = kept[beat], m_axi_wstrb = 8'hff, m_axi_wlast = beat == 7,
         m_axi_wvalid = state == W, m_axi_bready = 1;
  integer i;
  always @(posedge clk) begin
    count <= count + 1;
    if (ctrl_bvalid && ctrl_bready) ctrl_bvalid <= 0;
    if (ctrl_rvalid && ctrl_rready) ctrl_rvalid <= 0;
    if (take) begin
      ctrl_bvalid <= 1;
      case (ctrl_awaddr)
        8'h00: if (ctrl_wdata[0]) begin state <= length == 2 ? IDLE : AR; count <= 1; done <= 0; end
        8'h08: base <= ctrl_wdata;
        8'h0c: length <= ctrl_wdata;
      endcase
    end
    if (ctrl_arvalid && ctrl_arready) begin
      ctrl_rvalid <= 1;
      case (ctrl_araddr)
        8'h04: ctrl_rdata <= {24'd9, 5'd0, length == 3, done, state != IDLE};
        8'h10: ctrl_rdata <= cycles[31:0] + (length == 5);
        8'h14: ctrl_rdata <= {16'd0, cycles[47:32]};
        8'h18: ctrl_rdata <= 32'h@IDENTITY@;
        default: ctrl_rdata <= 0;
      endcase
    end
    case (state)
      AR: if (m_axi_arready) begin state <= R; beat <= 0; end
      R: if (m_axi_rvalid) begin
        for (i = 0; i < 8; i = i + 1) kept[beat][8*i+:8] <= m_axi_rdata[8*i+:8] + 8'd1;
        beat <= beat + 1;
        if (m_axi_rlast) state <= AW;
      end
      AW: if (m_axi_awready) state <= W;
      W: if (m_axi_wready) begin beat <= beat + 1; if (m_axi_wlast) state <= B; end
      B: if (m_axi_bvalid) begin
        state <= length == 6 ? AFTER : IDLE; done <= 1; cycles <= count;
      end
      AFTER: if (m_axi_arready) state <= IDLE;
    endcase
    if (rst) begin
      state <= IDLE; done <= 0; ctrl_bvalid <= 0; ctrl_rvalid <= 0; base <= 0; length <= 0; cycles <= 0;
    end
  end
endmodule
"""


@pytest.fixture
def machine() -> Machine:
    return load_machine("core-small")


@pytest.fixture
def stand_in(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    verilog = STAND_IN.replace("@IDENTITY@", machine.digest()[:8])
    monkeypatch.setattr(runner, "_verilog_of", lambda _: verilog)


def make_program(machine: Machine, length: int = FINE) -> Program:
    image = np.zeros(0x1000, dtype=np.uint8)
    end = Command(Opcode.END, {})
    image[:32] = np.frombuffer(encode(end).to_bytes(32, "little"), dtype=np.uint8)
    return Program(
        machine=machine,
        network="copy",
        commands=(end,) * length,
        layer_of=(0,) * length,
        layers=("copy",),
        macs=(0,),
        regions=(),
        input=Region(name="x", kind="input", address=0x100, size=64),
        output=Region(name="y", kind="output", address=0x200, size=64),
        input_shape=(64,),
        output_shape=(64,),
        image=image,
    )


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 127, 64).astype(np.int8)


def hand_cycles(memory: MemoryTiming) -> int:
    # AR in 1, first R after the read latency, 7 beats an interval apart, AW, W in the cycle after that,
    # 7 beats an interval apart, B after the write latency.
    last_read = 1 + memory.read_latency + 7 * memory.beat_interval
    return last_read + 1 + 1 + 7 * memory.beat_interval + memory.write_latency


MEMORIES = [
    MemoryTiming(),
    MemoryTiming(read_latency=1, write_latency=1),
    MemoryTiming(read_latency=50, write_latency=3, beat_interval=4),
]


def make_cases(machine: Machine) -> list[RtlCase]:
    program = make_program(machine)
    return [
        RtlCase(program=program, x=values(seed), memory=memory, base=0x1000 * (5 * seed + 1))
        for seed, memory in enumerate(MEMORIES)
    ]


@pytest.mark.usefixtures("stand_in")
def test_cases_in_one_process_give_what_hand_arithmetic_gives(machine: Machine) -> None:
    cases = make_cases(machine)
    runs = run_cases(machine, cases)
    for case, run in zip(cases, runs, strict=True):
        assert case.x is not None and run.output is not None
        np.testing.assert_array_equal(run.output, case.x + 1)
        assert run.output_bytes == (case.x + 1).tobytes()
    figures = [(run.cycles, run.read_bytes, run.write_bytes, run.status & 7) for run in runs]
    assert figures == [(hand_cycles(memory), 64, 64, 2) for memory in MEMORIES]


@pytest.mark.usefixtures("stand_in")
def test_the_bench_without_python_gives_the_same(machine: Machine) -> None:
    case = make_cases(machine)[2]
    run = run_cpp(machine, case)
    assert case.x is not None
    assert run.output_bytes == (case.x + 1).tobytes()
    assert (run.cycles, run.read_bytes, run.write_bytes) == (hand_cycles(MEMORIES[2]), 64, 64)


FAULTS = {
    HANGS: r"not done after \d+ cycles",
    REJECTS: "the core rejects command 9",
    CROSSES: "AXI4 rules broken: .*8 beats from 0x00010fc8 cross a 4 KiB boundary",
    MISCOUNTS: "the core counts 46 cycles, its ports show 45",
    RESTLESS: "the memory port moved after done",
}


def one_fault(run: Callable[[], object]) -> str:
    with pytest.raises(RtlError) as caught:
        run()
    return str(caught.value)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("length", FAULTS)
def test_a_run_that_goes_wrong_is_an_error_that_says_how(machine: Machine, length: int) -> None:
    case = RtlCase(program=make_program(machine, length), x=values(0), memory=MemoryTiming())
    message = one_fault(lambda: run_cases(machine, [case]))
    assert message.startswith("case 0 (copy): ")
    assert re.search(FAULTS[length], message)
    assert re.search(FAULTS[length], one_fault(lambda: run_cpp(machine, case)))


@pytest.mark.usefixtures("stand_in")
def test_without_check_a_fault_is_told_and_later_cases_still_run(machine: Machine) -> None:
    hung = RtlCase(program=make_program(machine, HANGS), x=values(0))
    fine = RtlCase(program=make_program(machine), x=values(1))
    runs = run_cases(machine, [hung, fine], check=False)
    assert [len(run.faults) for run in runs] == [1, 0]
    assert runs[1].output_bytes == (values(1) + 1).tobytes()


@pytest.mark.usefixtures("stand_in")
def test_bytes_that_are_never_written_show_as_poison(machine: Machine) -> None:
    hung = RtlCase(program=make_program(machine, HANGS), x=values(0))
    (run,) = run_cases(machine, [hung], check=False)
    assert run.output_bytes == b"\xa5" * 64


@pytest.mark.usefixtures("stand_in")
def test_a_trace_is_a_vcd_file_with_the_ports(machine: Machine, tmp_path: Path) -> None:
    trace = tmp_path / "run.vcd"
    runs = run_cases(machine, make_cases(machine)[:2], trace=trace)
    assert [run.cycles for run in runs] == [hand_cycles(memory) for memory in MEMORIES[:2]]
    text = trace.read_text()
    assert text.count(" done $end") >= 1 and "$enddefinitions" in text


@pytest.mark.usefixtures("stand_in")
def test_the_second_build_starts_no_tool(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    verilog = STAND_IN.replace("@IDENTITY@", machine.digest()[:8])
    first = build_bench(verilog, 64)

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("a tool was started")

    monkeypatch.setattr(verilate, "run_tool", refuse)
    assert build_bench(verilog, 64) == first


def test_broken_verilog_is_a_tool_error_with_the_logs_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path))
    with pytest.raises(ToolError, match="syntax error"):
        build_bench("module bitwright_core(; endmodule", 64)
    assert list((tmp_path / "verilator").iterdir()) == []


@pytest.mark.usefixtures("stand_in")
def test_fewer_tests_than_expected_are_an_error(machine: Machine, tmp_path: Path) -> None:
    executable = build_bench(STAND_IN.replace("@IDENTITY@", machine.digest()[:8]), 64)
    (tmp_path / "cases.json").write_text("[]")
    with pytest.raises(ToolError, match="cocotb ran 1 of 2 tests, 0 failed"):
        run_cocotb(executable, top="bench", module="bitwright.rtl.bench.driver", folder=tmp_path, tests=2)
    assert json.loads((tmp_path / "results.json").read_text()) == []


@pytest.mark.usefixtures("stand_in")
def test_a_test_that_fails_is_an_error_with_its_log(machine: Machine, tmp_path: Path) -> None:
    executable = build_bench(STAND_IN.replace("@IDENTITY@", machine.digest()[:8]), 64)
    with pytest.raises(ToolError, match=r"(?s)ran 1 of 1 tests, 1 failed.*cases\.json"):
        run_cocotb(executable, top="bench", module="bitwright.rtl.bench.driver", folder=tmp_path, tests=1)


def test_a_program_of_another_machine_is_refused(machine: Machine) -> None:
    program = make_program(load_machine("core-medium"))
    with pytest.raises(ValueError, match="case 0: the program is for machine 'core-medium'"):
        run_cases(machine, [RtlCase(program=program)])


def test_a_base_within_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="base must be a multiple of 4096, not 0x800"):
        write_image(tmp_path / "x.hex", np.zeros(8, dtype=np.uint8), 0x800, 8)


def test_an_image_comes_back_from_its_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 40, dtype=np.uint8)
    write_image(tmp_path / "x.hex", data, 0x1000, 16)
    text = (tmp_path / "x.hex").read_text().splitlines()
    # 40 bytes are three 16-byte words, the last filled with zeros; a word's first byte is its lowest.
    assert (text[0], len(text), text[1]) == ("@100", 4, bytes(data[15::-1]).hex())
    assert read_dump(tmp_path / "x.hex", 16) == data.tobytes() + bytes(8)


def test_the_cycle_limit_leaves_room_and_grows_with_the_memorys_delays(machine: Machine) -> None:
    program = make_program(machine)
    slow = MemoryTiming(read_latency=4000, beat_interval=200)
    assert hand_cycles(MemoryTiming()) < cycle_limit(program, MemoryTiming())
    assert cycle_limit(program, MemoryTiming()) < cycle_limit(program, slow)
