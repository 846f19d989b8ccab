"""What is proved of the arithmetic: counts, lanes, products, thresholds, rounding.

Each statement is Verilog written for it alone: loops over lanes, and integers wide enough for everything.
"""

from __future__ import annotations

import dataclasses
import re

from ..mapper.machine_file import load_machine
from ..mapper.pe import PeKind
from .bit_lanes import BitLanes
from .multiply import Multiply8, MultiplyPair8
from .popcount import LEAVES, PopCount
from .proof_lanes import freed, integer_lane_proofs
from .proofs import Proof
from .requantize import Requantizer
from .thresholds import ThresholdSearch
from .verilog import component_verilog, ecp5_blocks, vendor_verilog

__all__ = ["arithmetic_proofs"]

COUNTED = ((12, True), (24, False))
TRITS = ((6, True), (12, False))
"""Lanes that are proved, and whether in the quick part."""


def arithmetic_proofs() -> list[Proof]:
    """All of them."""
    return [
        *(_count(leaf, lanes, quick) for leaf in LEAVES for lanes, quick in COUNTED),
        *(_trits(leaf, lanes, quick) for leaf in LEAVES for lanes, quick in TRITS),
        *_dots(),
        *integer_lane_proofs(),
        *_products(),
        _threshold_digit(),
        _threshold_search(),
        *_rounding(),
    ]


def _delayed(width: int, value: str, cycles: int) -> str:
    """Verilog: `expected` is `value` of so many cycles ago."""
    stages = "".join(f" stage_{n} <= stage_{n - 1};" for n in range(2, cycles + 1))
    names = ", ".join(f"stage_{n}" for n in range(1, cycles + 1))
    return (
        f"reg [{width - 1}:0] {names};\nalways @(posedge clk) begin stage_1 <= {value};{stages} end\n"
        f"wire [{width - 1}:0] expected = stage_{cycles};\n"
    )


def _count(leaf: str, lanes: int, quick: bool) -> Proof:
    unit = PopCount(lanes=lanes, leaf=leaf)
    width = len(unit.count)
    top = f"""
module proof(input clk, input [{lanes - 1}:0] a, b, output ok);
    reg [{width - 1}:0] sum;
    integer i;
    always @* begin
        sum = 0;
        for (i = 0; i < {lanes}; i = i + 1) sum = sum + (a[i] ^ b[i]);
    end
    {_delayed(width, "sum", unit.LATENCY)}
    wire [{width - 1}:0] count;
    unit dut(.clk(clk), .rst(1'b0), .a(a), .b(b), .count(count));
    assign ok = count == expected;
endmodule
"""
    broken = {
        "behavioural": ("a ^ b", "a | b"),
        "ecp5": ("a[i] ^ b[i]} + {1'b0, c[i] ^ d[i]}", "a[i] ^ b[i]} + {1'b0, c[i] | d[i]}"),
        "xilinx": ("{1'b0, x[2]}", "{1'b0, x[1]}"),
    }[leaf]
    return Proof(
        name=f"XNOR count, {leaf}, {lanes} lanes",
        claim="the pipelined count is the literal sum of differing bits",
        verilog=component_verilog(unit, "unit") + vendor_verilog("behavioural") + top,
        broken=broken,
        steps=unit.LATENCY + 1,
        skip=unit.LATENCY,
        quick=quick,
    )


def _trits(leaf: str, lanes: int, quick: bool) -> Proof:
    unit = PopCount(lanes=lanes, ternary=True, leaf=leaf)
    width = len(unit.count)
    top = f"""
module proof(input clk, input [{2 * lanes - 1}:0] a, b, output ok);
    reg invalid;
    integer i;
    reg signed [{width}:0] sum;
    reg signed [3:0] product;
    always @* begin
        sum = 0;
        invalid = 0;
        for (i = 0; i < {lanes}; i = i + 1) begin
            product = $signed(a[2*i+:2]) * $signed(b[2*i+:2]); // of 4 bits, where an integer's would be slow
            sum = sum + 1 + product;
            invalid = invalid | (a[2*i+:2] == 2'b10) | (b[2*i+:2] == 2'b10);
        end
    end
    {_delayed(width + 1, f"{{invalid, sum[{width - 1}:0]}}", unit.LATENCY)}
    wire [{width - 1}:0] count;
    unit dut(.clk(clk), .rst(1'b0), .a(a), .b(b), .count(count));
    assign ok = expected[{width}] || count == expected[{width - 1}:0];
endmodule
"""
    broken = {
        "behavioural": ("a[2] & b[2]", "a[2] | b[2]"),
        "ecp5": ("a[i] ^ b[i] ? 2'd0", "a[i] & b[i] ? 2'd0"),
        "xilinx": ("wire signs_differ = a[1] ^ b[1];", "wire signs_differ = a[1] | b[1];"),
    }[leaf]
    return Proof(
        name=f"ternary count, {leaf}, {lanes} lanes",
        claim="the pipelined count is the literal sum of 1 + product",
        verilog=component_verilog(unit, "unit") + vendor_verilog("behavioural") + top,
        broken=broken,
        steps=unit.LATENCY + 1,
        skip=unit.LATENCY,
        quick=quick,
    )


def _dots() -> list[Proof]:
    """Dot products of bit lanes against literal sums of products, lanes beyond a run included."""
    binary, ternary = PeKind.BINARY, PeKind.TERNARY
    cases = (
        ("binary", BitLanes(lanes={binary: 10}), 10, 1, 1, True),
        ("ternary", BitLanes(lanes={ternary: 4}), 4, 2, 2, True),
        ("binary of both", BitLanes(lanes={binary: 8, ternary: 4}), 8, 1, 1, False),
        ("ternary of both", BitLanes(lanes={binary: 8, ternary: 4}), 4, 2, 2, False),
    )
    proofs = []
    for name, unit, lanes, act_bits, weight_bits, quick in cases:
        width = len(unit.dot)
        act = f"act[{act_bits}*i+:{act_bits}]"
        weight = f"weight[{weight_bits}*i+:{weight_bits}]"
        if weight_bits == 1:
            product = f"({act} == {weight} ? 1 : -1)"
        else:
            product = f"$signed({act}) * $signed({weight})"
        top = f"""
module proof(
    input clk, input [{act_bits * lanes - 1}:0] act, input [{weight_bits * lanes - 1}:0] weight,
    input [3:0] valid, output ok
);
    reg signed [{width - 1}:0] sum;
    reg invalid;
    integer i;
    always @* begin
        sum = 0;
        invalid = valid > {lanes};
        for (i = 0; i < {lanes}; i = i + 1)
            if (i < valid) begin
                sum = sum + {product};
                invalid = invalid | {_no_code(act, act_bits)} | {_no_code(weight, weight_bits)};
            end else invalid = invalid | {act} != 0 | {weight} != 0;
    end
    {_delayed(width + 1, "{invalid, sum}", unit.LATENCY)}
    wire [{width - 1}:0] dot;
    unit dut(
        .clk(clk), .rst(1'b0), .binary(1'b{int(act_bits == 1)}), .valid(valid),
        .act({{32'd0, act}}), .weight({{32'd0, weight}}), .dot(dot)
    );
    assign ok = expected[{width}] || dot == expected[{width - 1}:0];
endmodule
"""
        proofs.append(
            Proof(
                name=f"dot product, {name}, {lanes} lanes",
                claim="the lanes' result is the literal sum of products over the valid lanes",
                verilog=component_verilog(unit, "unit") + top,
                broken=(".weight({32'd0, weight})", ".weight({32'd0, weight} & ~1)"),
                steps=unit.LATENCY + 1,
                skip=unit.LATENCY,
                quick=quick,
            )
        )
    return proofs


def _no_code(value: str, bits: int) -> str:
    """Verilog: `value` is the ternary code that stands for nothing."""
    return f"({value} == 2'b10)" if bits == 2 else "1'b0"


def _products() -> list[Proof]:
    """int8 products by exhaustion, each against Verilog's own product."""
    forms = {
        "inferred": (component_verilog(Multiply8(leaf="inferred"), "inferred"), "inferred"),
        "lut": (component_verilog(Multiply8(leaf="lut"), "luts"), "luts"),
        **{leaf: (_own_multiplier(leaf), f"{leaf}_multiply8") for leaf in LEAVES},
    }
    units = "".join(
        f"""
    wire [15:0] p_{form};
    {module} unit_{form}(.clk(clk), .rst(1'b0), .a(a), .b(b), .p(p_{form}));
    assign right[{number}] = p_{form} == expected;"""
        for number, (form, (_, module)) in enumerate(forms.items())
    )
    single = f"""
module proof(input clk, input [15:0] every, output ok);
    wire [7:0] a = every[7:0], b = every[15:8];
    wire signed [15:0] product = $signed(a) * $signed(b);
    wire [{len(forms) - 1}:0] right;
    {_delayed(16, "product", 2)}{units}
    assign ok = &right;
endmodule
"""
    pair = f"""
module proof(input clk, input [23:0] every, output ok);
    wire [7:0] low = every[7:0], high = every[15:8], b = every[23:16];
    wire signed [15:0] low_product = $signed(low) * $signed(b), high_product = $signed(high) * $signed(b);
    {_delayed(32, "{high_product, low_product}", 2)}
    wire [15:0] p_low, p_high;
    unit dut(.clk(clk), .rst(1'b0), .a_low(low), .a_high(high), .b(b), .p_low(p_low), .p_high(p_high));
    assign ok = {{p_high, p_low}} == expected;
endmodule
"""
    return [
        Proof(
            name="int8 products: inferred, LUTs, each vendor's cell",
            claim="each form gives a · b for all 65,536 operands (ECP5's on a trusted twin of MULT18X18D)",
            verilog="".join(text for text, _ in forms.values()) + single,
            broken=("unit_lut(.clk(clk), .rst(1'b0), .a(a)", "unit_lut(.clk(clk), .rst(1'b0), .a(a | 1)"),
            every=16,
            skip=2,
        ),
        Proof(
            name="two int8 products of one multiplier",
            claim="both halves give their product for all 2^24 operands",
            verilog=component_verilog(MultiplyPair8(), "unit") + pair,
            broken=("{ 1'h0, product[15] }", "{ 1'h0, 1'h0 }"),
            every=24,
            skip=2,
        ),
    ]


def _own_multiplier(leaf: str) -> str:
    """The vendor's form of the multiplier, with the vendor in its name, and what it stands on."""
    found = re.search(
        r"^module bw_multiply8\b.*?^endmodule\n", vendor_verilog(leaf), re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ValueError(f"{leaf}.v has no bw_multiply8")
    text = found[0].replace("bw_multiply8", f"{leaf}_multiply8")
    return text + ecp5_blocks() if leaf == "ecp5" else text


def _threshold_unit() -> str:
    machine = load_machine("core-small")
    machine = dataclasses.replace(machine, array=dataclasses.replace(machine.array, acc_bits=16))
    return component_verilog(ThresholdSearch(machine=machine), "unit")


def _reached(node: str) -> str:
    """Verilog: how many of a node's thresholds `acc` reaches."""
    return " + ".join(f"($signed(acc) >= $signed({node}[{32 * i}+:32]))" for i in range(3))


def _unsorted(node: str) -> str:
    pairs = (f"$signed({node}[{32 * i}+:32]) > $signed({node}[{32 * i + 32}+:32])" for i in range(2))
    return " | ".join(pairs)


def _threshold_digit() -> Proof:
    latency = ThresholdSearch.LATENCY
    top = f"""
module proof(input clk, input [127:0] node, input [15:0] acc, input [8:0] low, input two, output ok);
    wire [1:0] reached = {_reached("node")};
    wire invalid = {_unsorted("node")};
    {_delayed(3, "{invalid, reached}", latency - 1)}
    reg [8:0] value;
    reg ignored;
    always @(posedge clk) begin
        value <= low + (two ? expected[1:0] + expected[1:0] : {{1'b0, expected[1:0]}});
        ignored <= expected[2];
    end
    wire [8:0] result;
    unit dut(
        .clk(clk), .rst(1'b0), .search(1'b1), .root(1'b1), .base(8'd0), .node(node), .acc(acc), .low(low),
        .step({{two, ~two}}), .result(result)
    );
    assign ok = ignored || result == value;
endmodule
"""
    return Proof(
        name="thresholds of one node",
        claim="the digit is the number of sorted thresholds that the accumulator reaches",
        verilog=_threshold_unit() + top,
        broken=(".acc(acc)", ".acc(acc + 16'd1)"),
        steps=latency + 3,
        skip=latency + 2,
        quick=True,
    )


def _threshold_search() -> Proof:
    """Two levels: the root's line is read in phase 0 and there in 2, its child's two phases later each."""
    done = 4 + ThresholdSearch.LATENCY
    top = f"""
module proof(
    input clk, input [127:0] node, input [15:0] acc_in, input [7:0] base_in, input [8:0] low, output ok
);
    reg [3:0] phase;
    reg [15:0] held;
    reg [7:0] base;
    reg [1:0] first, second;
    reg invalid, moved;
    reg [8:0] value;
    wire [15:0] acc = phase == 2 ? acc_in : held;
    wire [1:0] reached = {_reached("node")};
    wire [7:0] line;
    always @(posedge clk) begin
        phase <= phase + 1;
        if (phase == 0) base <= base_in;
        if (phase == 2) begin held <= acc_in; first <= reached; invalid <= {_unsorted("node")}; end
        if (phase == 2) moved <= line != base + 8'd1 + reached;
        if (phase == 4) begin second <= reached; invalid <= invalid | {_unsorted("node")}; end
        value <= low + {{first, second}};
    end
    wire [8:0] result;
    unit dut(
        .clk(clk), .rst(1'b0), .search(phase == 0 || phase == 2), .root(phase == 0),
        .base(phase == 0 ? base_in : base), .node(node), .acc(acc), .low(low), .step(2'd1), .line(line),
        .result(result)
    );
    assign ok = phase != {done} || invalid || (result == value && !moved);
endmodule
"""
    return Proof(
        name="thresholds of two levels",
        claim="the child's line is that of the root's digit, and both digits are the count",
        verilog=_threshold_unit() + top,
        broken=(".base(phase == 0 ? base_in : base)", ".base(base_in)"),
        steps=done + 2,
        skip=done + 1,
    )


def _rounding() -> list[Proof]:
    """The requantiser's stages after its product, which is free; each rounding with each shift."""
    text = component_verilog(Requantizer(acc_bits=32), "unit")
    after = Requantizer.LATENCY - Requantizer.PRODUCT_LATENCY
    for register, width in (("product", 64), ("shift_3", 5)):
        text = freed(text, register, width)
    top = f"""
module proof(
    input clk, input signed [63:0] p, input [4:0] shift, input [1:0] rounding,
    input signed [8:0] zero_point, clamp_low, clamp_high, output ok
);
    localparam signed [63:0] LIMIT = 64'sd1 << 62;
    wire invalid = p < -LIMIT || p > LIMIT;
    wire signed [63:0] high = (p + (64'sd1 <<< 30)) >>> 31;
    wire [63:0] size = high < 0 ? -high : high;
    wire [63:0] away = shift == 0 ? size : (size + (64'd1 << (shift - 1))) >> shift;
    wire [6:0] amount = shift + 31;
    wire signed [63:0] up = (p + (64'sd1 <<< (amount - 1))) >>> amount;
    wire signed [63:0] down = p >>> amount;
    wire [63:0] rest = p - (down <<< amount), half = 64'd1 << (amount - 1);
    wire signed [63:0] even = rest > half || (rest == half && down[0]) ? down + 1 : down;
    wire signed [63:0] rounded =
        rounding == 0 ? (high < 0 ? -away : away) : rounding == 1 ? up : rounding == 2 ? even : down;
    {_delayed(65, "{invalid, rounded}", after - 1)}
    wire signed [63:0] moved = $signed(expected[63:0]) + zero_point;
    reg [8:0] value;
    reg ignored;
    always @(posedge clk) begin
        value <= moved < clamp_low ? clamp_low : moved > clamp_high ? clamp_high : moved;
        ignored <= expected[64];
    end
    wire [8:0] result;
    unit dut(
        .clk(clk), .rst(1'b0), .acc(32'd0), .bias(32'd0), .multiplier(32'd0), .shift(5'd0),
        .rounding(rounding), .zero_point(zero_point), .clamp_low(clamp_low), .clamp_high(clamp_high),
        .result(result), .product(p), .shift_3(shift)
    );
    assign ok = ignored || result == value;
endmodule
"""
    names = ("TFLite double", "TFLite single", "half to even", "shift")
    return [
        Proof(
            name=f"rounding after a free product, {name}",
            claim="rounding, zero point and clamp are those of the definition, for each shift from 0 to 31",
            verilog=text + top,
            broken=(".product(p)", ".product(p + 64'sd1)"),
            steps=after + 1,
            skip=after,
            cases=tuple(f"-set rounding {code} -set shift {shift}" for shift in range(32)),
        )
        for code, name in enumerate(names)
    ]
