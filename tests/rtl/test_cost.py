"""Cell counts and fitting, held against designs whose cells can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from bitwright.rtl import cost as cost_module
from bitwright.rtl.cost import Cost, synthesise_verilog
from bitwright.rtl.fpga import find_target, target_names
from bitwright.rtl.toolchain import ToolError

COUNTER = """
module counter(input clk, output reg [7:0] count);
  always @(posedge clk) count <= count + 1;
endmodule
"""
# 29 products of 18 × 18 bits, each in registers: one more than the ECP5-25 has multipliers.
PRODUCTS = """
module lane(input clk, input signed [17:0] a, b, output reg signed [35:0] p);
  reg signed [17:0] ra, rb;
  always @(posedge clk) begin ra <= a; rb <= b; p <= ra * rb; end
endmodule
module products(input clk, input [29*36-1:0] in, output [29*36-1:0] out);
  genvar i;
  generate for (i = 0; i < 29; i = i + 1) begin : g
    lane lane(.clk(clk), .a(in[36*i+:18]), .b(in[36*i+18+:18]), .p(out[36*i+:36]));
  end endgenerate
endmodule
"""
MEMORY = """
module memory(input clk, input we, input [9:0] wa, ra, input [35:0] d, output reg [35:0] q);
  reg [35:0] mem [0:1023];
  always @(posedge clk) begin if (we) mem[wa] <= d; q <= mem[ra]; end
endmodule
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("target", "lut"),
    [("ecp5-25k", 9), ("ice40-up5k", 8), ("ice40-hx8k", 8), ("xc7", 1), ("xcup", 1)],
)
def test_an_8_bit_counter_takes_the_cells_that_its_logic_needs(target: str, lut: int) -> None:
    # ECP5: four carry cells of two LUTs and bit 0's inverter. iCE40: a LUT a bit. Xilinx: the sums are
    # made in the carry cells, so bit 0's inverter only.
    cost = synthesise_verilog(COUNTER, "counter", target)
    assert (cost.lut, cost.ff, cost.dsp, cost.bram) == (lut, 8, 0, 0)


def test_29_products_do_not_fit_a_part_with_28_multipliers() -> None:
    cost = synthesise_verilog(PRODUCTS, "products", "ecp5-25k", pnr=True)
    assert (cost.dsp, cost.fits, cost.text, cost.fmax_mhz, cost.placed) == (
        29,
        False,
        "does not fit: 29 of 28 multipliers",
        None,
        None,
    )


def test_block_rams_are_counted_in_the_targets_blocks() -> None:
    # 1024 × 36 bits = 36 Kbit: two 18-Kbit blocks on ECP5 and 7 series.
    counts = [synthesise_verilog(MEMORY, "memory", target).bram for target in ("ecp5-25k", "xc7")]
    assert counts == [2, 2]


def test_parts_of_the_top_sum_to_the_whole() -> None:
    cost = synthesise_verilog(PRODUCTS, "products", "xc7")
    sums = [sum(part[name] for part in cost.modules.values()) for name in ("lut", "ff", "dsp", "bram")]
    assert sums == [cost.lut, cost.ff, cost.dsp, cost.bram]


def test_a_placed_design_has_a_clock_and_nextpnrs_own_counts() -> None:
    cost = synthesise_verilog(COUNTER, "counter", "ecp5-25k", pnr=True)
    assert cost.fits and cost.fmax_mhz is not None and cost.fmax_mhz > 50
    assert cost.placed is not None
    assert (cost.placed["ff"].used, cost.placed["dsp"].available) == (8, 28)


def test_the_same_question_is_answered_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    first = synthesise_verilog(COUNTER, "counter", "xc7")

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("a tool was started")

    monkeypatch.setattr(cost_module, "run_tool", refuse)
    assert synthesise_verilog(COUNTER, "counter", "xc7") == first


def test_a_damaged_cache_entry_is_made_anew(tmp_path: Path) -> None:
    first = synthesise_verilog(COUNTER, "counter", "xc7")
    (kept,) = (tmp_path / "cost").glob("*.json")
    kept.write_text('{"target": "xc7"')
    assert synthesise_verilog(COUNTER, "counter", "xc7") == first


def test_the_json_has_the_keys_that_others_rely_on() -> None:
    table = synthesise_verilog(COUNTER, "counter", "xc7").to_dict()
    assert {"target", "lut", "ff", "dsp", "bram", "fmax_mhz"} <= set(table)


def test_broken_verilog_is_a_tool_error_with_the_logs_end() -> None:
    with pytest.raises(ToolError, match="syntax error"):
        synthesise_verilog("module counter(; endmodule", "counter", "xc7")


def test_a_missing_top_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="nothere"):
        synthesise_verilog(COUNTER, "nothere", "ecp5-25k")


def test_a_cell_that_no_table_knows_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ToolError, match="12 cells 'ODDRX1F' for ecp5-25k"):
        cost_module._weigh({"ODDRX1F": 12}, find_target("ecp5-25k"))


@pytest.mark.parametrize(
    "text", ["", "{}", '{"design": {"num_cells": 3}}', '{"design": {"num_cells_by_type": {}}}']
)
def test_a_missing_count_is_an_error_and_not_a_zero(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stat.json"
    path.write_text(text)
    with pytest.raises(ToolError, match="no readable cell count"):
        cost_module._read_counts(path, "")


def test_place_and_route_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"place-and-route is there for ecp5-25k.*not for xc7"):
        synthesise_verilog(COUNTER, "counter", "xc7", pnr=True)


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=f"one of {', '.join(target_names())}, not 'spartan'"):
        synthesise_verilog(COUNTER, "counter", "spartan")


def test_a_top_that_is_no_identifier_never_reaches_yosys() -> None:
    with pytest.raises(ValueError, match="top must be letters"):
        synthesise_verilog(COUNTER, "counter; exec -- touch x", "xc7")


def test_costs_compare_equal_after_a_round_trip(tmp_path: Path) -> None:
    cost = synthesise_verilog(COUNTER, "counter", "xc7")
    path = tmp_path / "kept.json"
    cost_module._keep_cost(path, cost)
    assert isinstance(cost, Cost) and cost_module._read_cost(path) == cost
