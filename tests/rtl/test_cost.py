"""Cell counts and fitting, held against designs whose cells can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out
from bitwright.mapper.machine_file import load_machine
from bitwright.rtl import cost as cost_module
from bitwright.rtl import place as place_module
from bitwright.rtl import yosys as yosys_module
from bitwright.rtl.cost import synthesise, synthesise_unit, synthesise_verilog
from bitwright.rtl.fpga import find_target, target_names
from bitwright.rtl.place import complaint_of, estimate_of, read_report
from bitwright.rtl.toolchain import ToolError
from bitwright.rtl.yosys import read_counts, split_by_unit

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
PRODUCT = """
module product(input clk, input signed [7:0] a, b, output reg signed [15:0] p);
  always @(posedge clk) p <= a * b;
endmodule
"""
SMALL_MEMORY = """
module memory(input clk, input we, input [3:0] wa, ra, input [3:0] d, output [3:0] q);
  reg [3:0] mem [0:15];
  always @(posedge clk) if (we) mem[wa] <= d;
  assign q = mem[ra];
endmodule
"""
TREE = """
module half(input [31:0] bits, output [5:0] count);
  integer i;
  reg [5:0] sum;
  always @* begin sum = 0; for (i = 0; i < 32; i = i + 1) sum = sum + bits[i]; end
  assign count = sum;
endmodule
module tree(input clk, input [63:0] bits, output reg [6:0] total);
  wire [5:0] a, b;
  half low(.bits(bits[31:0]), .count(a));
  half high(.bits(bits[63:32]), .count(b));
  always @(posedge clk) total <= a + b;
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


def test_an_ice40_without_multipliers_makes_products_of_luts() -> None:
    # hx8k has no SB_MAC16. An 8 × 8 product has 64 partial product bits; a LUT4 with its carry adds at most
    # two of them to a sum, so no fewer than 32 LUTs.
    cost = synthesise_verilog(PRODUCT, "product", "ice40-hx8k")
    assert (cost.dsp, cost.resources["dsp"].available, cost.lut >= 32) == (0, 0, True)


def test_what_a_target_has_not_is_not_reported_rather_than_zero() -> None:
    cost = synthesise_verilog(COUNTER, "counter", "ice40-up5k")
    assert cost.lutram is None and cost.resources["lutram"].used is None
    assert cost.modules["counter"]["lutram"] is None


def test_distributed_memory_is_told_apart() -> None:
    # 16 × 4 bits are one TRELLIS_DPR16X4: four LUTs of memory and two for the write port.
    cost = synthesise_verilog(SMALL_MEMORY, "memory", "ecp5-25k")
    assert (cost.lut, cost.lutram, cost.bram) == (6, 6, 0)


def test_block_rams_are_counted_in_the_targets_blocks() -> None:
    # 1024 × 36 bits = 36 Kbit: two 18-Kbit blocks on ECP5 and 7 series.
    counts = [synthesise_verilog(MEMORY, "memory", target).bram for target in ("ecp5-25k", "xc7")]
    assert counts == [2, 2]


def test_units_of_the_top_sum_to_the_whole() -> None:
    cost = synthesise_verilog(PRODUCTS, "products", "xc7")
    units = [use for owner, use in cost.modules.items() if "." not in owner]
    sums = [sum(use[name] or 0 for use in units) for name in ("lut", "ff", "dsp", "bram")]
    assert sums == [cost.lut, cost.ff, cost.dsp, cost.bram]


def test_a_cell_at_a_port_of_the_top_counts_for_the_unit_behind_it(tmp_path: Path) -> None:
    # `out` is store's register: its cell bears the port's name, and the nets say whose it is.
    netlist = {
        "netnames": {"out": {"bits": [5]}, "store.data": {"bits": [5]}, "spare": {"bits": [7]}},
        "cells": {
            "out_TRELLIS_FF_Q": {"type": "TRELLIS_FF"},
            "store.walk$12.left_LUT4_Z": {"type": "LUT4"},
            "spare_LUT4_Z_1": {"type": "LUT4"},
            "note": {"type": "$scopeinfo"},
        },
    }
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": netlist}}))
    assert split_by_unit(path, "top") == {
        "store": {"LUT4": 1, "TRELLIS_FF": 1},
        "store.walk": {"LUT4": 1},
        "top": {"LUT4": 1},
    }


@pytest.mark.parametrize("target", ["ecp5-25k", "ecp5-45k", "ecp5-85k", "ice40-up5k", "ice40-hx8k"])
def test_a_placed_design_has_a_clock_and_nextpnrs_own_counts(target: str) -> None:
    cost = synthesise_verilog(COUNTER, "counter", target, pnr=True)
    part = find_target(target)
    assert cost.fits and cost.fmax_mhz is not None and cost.fmax_mhz > 50
    assert cost.speed_grade == ("6" if "ecp5" in target else target[6:8].upper())
    assert cost.speed_grade in cost.clock
    assert cost.placed is not None and cost.placed["lut"].available == part.available["lut"]
    # nextpnr-ice40 counts logic cells, which hold a flip-flop each: it doesn't tell these apart.
    assert cost.placed["ff"].used == (8 if "ecp5" in target else None)
    assert cost.slowest is not None
    path_ns = cost.slowest.logic_ns + cost.slowest.routing_ns
    assert path_ns == pytest.approx(1000 / cost.fmax_mhz, abs=0.05)


def test_a_design_that_is_not_routed_has_an_estimated_clock_alone() -> None:
    routed = synthesise_verilog(COUNTER, "counter", "ecp5-25k", pnr=True)
    placed = synthesise_verilog(COUNTER, "counter", "ecp5-25k", pnr=True, route=False)
    assert placed.fmax_mhz is None and placed.fmax_by_seed == {"1": None}
    assert "estimated by nextpnr after placing, not routed" in placed.clock
    # The same seed places the same: what routing starts from is the estimate.
    assert placed.placed_mhz == routed.placed_mhz is not None
    assert placed.placed_mhz != routed.fmax_mhz
    assert placed.placed == routed.placed


def test_the_estimate_is_of_the_slowest_clock_as_it_is_told_first() -> None:
    log = (
        "Info: Max frequency for clock 'fast': 250.00 MHz (PASS at 100.00 MHz)\n"
        "Info: Max frequency for clock    'slow': 90.25 MHz (FAIL at 100.00 MHz)\n"
        "Info: Max frequency for clock 'slow': 80.00 MHz (FAIL at 100.00 MHz)\n"
    )
    assert estimate_of(log) == 90.25
    assert estimate_of("Info: no clock\n") is None


def test_a_family_is_not_placed_and_says_so() -> None:
    cost = synthesise_verilog(COUNTER, "counter", "xcup")
    assert (cost.fmax_mhz, cost.speed_grade, cost.clock) == (
        None,
        None,
        "not placed: synthesised only, nextpnr has no such family",
    )


def test_the_clock_is_the_median_of_all_seeds() -> None:
    cost = synthesise_verilog(COUNTER, "counter", "ice40-hx8k", pnr=True, seeds=(1, 2, 3))
    reached = sorted(mhz for mhz in cost.fmax_by_seed.values() if mhz is not None)
    assert list(cost.fmax_by_seed) == ["1", "2", "3"]
    assert cost.fmax_mhz == reached[1]


def test_of_yosyss_ways_the_one_with_fewest_luts_is_reported() -> None:
    cost = synthesise_verilog(TREE, "tree", "ecp5-25k", tries=True)
    tried = {each.recipe: each.resources["lut"] for each in cost.tries}
    assert list(tried) == [recipe.name for recipe in find_target("ecp5-25k").recipes]
    assert cost.lut == min(count for count in tried.values() if count is not None) == tried[cost.recipe]
    assert cost.lut < (tried["default"] or 0)


class Sum(Component):
    """A registered sum: by itself it has no path from register to register."""

    def __init__(self) -> None:
        super().__init__({"a": In(8), "b": In(8), "total": Out(9)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.total.eq(self.a + self.b)
        return m


def test_adders_without_carry_chains_are_no_choice_where_a_clock_is_asked_for() -> None:
    # A conditional negation ripples: on ECP5, Yosys makes it smaller of look-up tables alone.
    verilog = """
module negate(input clk, input [7:0] a, input n, output reg [7:0] q);
  always @(posedge clk) q <= n ? -a : a;
endmodule
"""
    small = synthesise_verilog(verilog, "negate", "ecp5-25k", tries=True)
    fast = synthesise_verilog(verilog, "negate", "ecp5-25k", tries=True, clocked=True)
    assert "-noccu2" in small.recipe and "-noccu2" not in fast.recipe
    assert small.lut < fast.lut
    assert fast.tries == small.tries


def test_a_unit_is_counted_bare_and_timed_between_registers() -> None:
    cost = synthesise_unit(Sum(), "ice40-hx8k", pnr=True, tries=False)
    assert cost.ff == 9
    assert cost.fmax_mhz is not None and "between registers at all ports" in cost.clock
    bare = synthesise_unit(Sum(), "ice40-hx8k", tries=False)
    assert bare.lut == cost.lut and bare.fmax_mhz is None


def test_the_same_question_is_answered_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    first = synthesise_verilog(COUNTER, "counter", "ecp5-25k", pnr=True)

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("a tool was started")

    monkeypatch.setattr(yosys_module, "run_tool", refuse)
    monkeypatch.setattr(place_module, "run_tool", refuse)
    assert synthesise_verilog(COUNTER, "counter", "ecp5-25k", pnr=True) == first


@pytest.mark.parametrize("kept", ["*.json", "*.netlist.gz"])
def test_a_damaged_cache_entry_is_made_anew(tmp_path: Path, kept: str) -> None:
    first = synthesise_verilog(COUNTER, "counter", "ecp5-25k")
    (path,) = (tmp_path / "cost").glob(kept)
    path.write_text('{"target": "xc7"')
    assert synthesise_verilog(COUNTER, "counter", "ecp5-25k") == first


def test_the_json_has_the_keys_that_others_rely_on() -> None:
    table = synthesise_verilog(COUNTER, "counter", "ecp5-25k").to_dict()
    assert {"target", "lut", "ff", "dsp", "bram", "lutram", "fmax_mhz"} <= set(table)
    assert json.loads(json.dumps(table))["lut"] == table["lut"]


def test_broken_verilog_is_a_tool_error_with_the_logs_end() -> None:
    with pytest.raises(ToolError, match="syntax error"):
        synthesise_verilog("module counter(; endmodule", "counter", "ecp5-25k")


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
        read_counts(path, "")


@pytest.mark.parametrize("text", ["", "{}", '{"fmax": {}, "critical_paths": []}'])
def test_a_report_without_its_tables_is_an_error_and_not_a_zero(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    placer = find_target("ecp5-25k").placer
    assert placer is not None
    with pytest.raises(ToolError, match="no readable report"):
        read_report(path, placer, 1, "")


def test_nextpnrs_refusal_is_told_by_what_is_too_much() -> None:
    log = (
        "Info: Device utilisation:\n"
        "Info: \t         ICESTORM_LC:    7101/   5280   134%\n"
        "Info: \t        ICESTORM_RAM:       4/     30    13%\n"
        "ERROR: Unable to place cell 'x_LC', no BELs remaining to implement cell type 'ICESTORM_LC'\n"
    )
    assert complaint_of(log) == "7101 of 5280 ICESTORM_LC"
    assert complaint_of("ERROR: Failed to open JSON file\n") == ""


def test_place_and_route_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"place-and-route is there for ecp5-25k.*not for xc7"):
        synthesise_verilog(COUNTER, "counter", "xc7", pnr=True)


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=f"one of {', '.join(target_names())}, not 'spartan'"):
        synthesise_verilog(COUNTER, "counter", "spartan")


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"recipe for xc7 must be one of 'default'.*not 'faster'"):
        synthesise_verilog(COUNTER, "counter", "xc7", recipe="faster")


def test_a_placement_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="at least one placer seed"):
        synthesise_verilog(COUNTER, "counter", "ecp5-25k", pnr=True, seeds=())


def test_a_top_that_is_no_identifier_never_reaches_yosys() -> None:
    with pytest.raises(ValueError, match="top must be letters"):
        synthesise_verilog(COUNTER, "counter; exec -- touch x", "xc7")


@pytest.mark.slow
@pytest.mark.parametrize("target", target_names())
def test_the_smallest_core_has_a_cost_on_every_target(target: str) -> None:
    machine = load_machine("core-small")
    cost = synthesise(machine, target, pnr=find_target(target).placer is not None)
    assert cost.lut > 1000 and cost.ff > 1000
    assert {"array", "execute", "load", "post", "store"} <= set(cost.modules)
    assert (cost.fmax_mhz is not None) == (cost.fits is True)
    if target == "ecp5-25k":  # 4 lanes × 4 rows, and the requantiser's wide product
        assert cost.dsp >= 16
