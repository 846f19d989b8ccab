"""What is proved of lanes with int8 activations: each pair of lanes, and the tree after them."""

from __future__ import annotations

import re

from ..mapper.machine import ArraySpec
from ..mapper.pe import PeKind
from .integer_lanes import IntegerLanes
from .pe import PE_BITS
from .proofs import Proof
from .verilog import component_verilog

__all__ = ["freed", "integer_lane_proofs"]

_LANES = 4
_PAIRS = range(_LANES // 2)


def integer_lane_proofs() -> list[Proof]:
    """The lanes up to their first registers, and the sum from there on, which is too hard as a whole."""
    array = ArraySpec(
        rows=1, cols=1, act_word_bits=32, weight_word_bits=16, pes=("ternary_int8", "binary_int8")
    )
    unit = IntegerLanes(array=array, pe_bits=PE_BITS)
    verilog = component_verilog(unit, "unit")
    return [
        *(_pairs(verilog, kind, len(unit.act), len(unit.weight)) for kind in unit.kinds),
        _tree(verilog, unit),
    ]


def _pairs(verilog: str, kind: PeKind, act_bits: int, weight_bits: int) -> Proof:
    """Two lanes' registered sum and the carry that is still to come are their two products."""
    text = verilog
    for n in _PAIRS:
        text = _shown(_shown(text, f"part_0_{n}", 9), f"part_carry_0_{n}", 1)
    product = {
        PeKind.TERNARY_INT8: "$signed(act[8*i+:8]) * $signed(weight[2*i+:2])",
        PeKind.BINARY_INT8: "(weight[i] ? $signed(act[8*i+:8]) : -$signed(act[8*i+:8]))",
    }[kind]
    wires = "".join(f"wire signed [8:0] part_{n}; wire carry_{n};\n" for n in _PAIRS)
    ports = ", ".join(f".part_0_{n}(part_{n}), .part_carry_0_{n}(carry_{n})" for n in _PAIRS)
    right = " && ".join(f"part_{n} + $signed({{1'b0, carry_{n}}}) == pair_{n}" for n in _PAIRS)
    top = f"""
module proof(input clk, input [{act_bits - 1}:0] act, input [{weight_bits - 1}:0] weight, output ok);
    reg signed [10:0] product [{_LANES - 1}:0];
    reg signed [10:0] {", ".join(f"pair_{n}" for n in _PAIRS)};
    reg wrong, invalid;
    integer i;
    always @* begin
        wrong = 0;
        for (i = 0; i < {_LANES}; i = i + 1) begin
            product[i] = {product};
            wrong = wrong | ({int(kind is PeKind.TERNARY_INT8)} && weight[2*i+:2] == 2'b10);
        end
    end
    always @(posedge clk) begin
        {" ".join(f"pair_{n} <= product[{2 * n}] + product[{2 * n + 1}];" for n in _PAIRS)}
        invalid <= wrong;
    end
    {wires}
    unit dut(.clk(clk), .rst(1'b0), .pe({PE_BITS}'d{int(kind)}), .act(act), .weight(weight), {ports});
    assign ok = invalid || ({right});
endmodule
"""
    return Proof(
        name=f"pairs of lanes, {kind.key}, {_LANES} lanes",
        claim="a pair's sum and the carry that it leaves are the sum of its two products",
        verilog=text + top,
        broken=(".weight(weight)", ".weight(weight & ~1)"),
        steps=2,
        skip=1,
        quick=True,
    )


def _tree(verilog: str, unit: IntegerLanes) -> Proof:
    """The sum of free pairs and carries."""
    text = verilog
    for n in _PAIRS:
        text = freed(freed(text, f"part_0_{n}", 9), f"part_carry_0_{n}", 1)
    parts = ", ".join(f"part_{n}" for n in _PAIRS)
    carries = ", ".join(f"carry_{n}" for n in _PAIRS)
    ports = ", ".join(f".part_0_{n}(part_{n}), .part_carry_0_{n}(carry_{n})" for n in _PAIRS)
    total = " + ".join(f"part_{n} + $signed({{1'b0, carry_{n}}})" for n in _PAIRS)
    width, stages = len(unit.dot), unit.LATENCY - 1
    top = f"""
module proof(input clk, input signed [8:0] {parts}, input {carries}, output ok);
    reg signed [{width - 1}:0] {", ".join(f"stage_{n}" for n in range(stages))};
    always @(posedge clk) begin
        stage_0 <= {total};
        {" ".join(f"stage_{n} <= stage_{n - 1};" for n in range(1, stages))}
    end
    wire signed [{width - 1}:0] dot;
    unit dut(.clk(clk), .rst(1'b0), .pe({PE_BITS}'d0), .dot(dot), {ports});
    assign ok = dot == stage_{stages - 1};
endmodule
"""
    return Proof(
        name=f"tree of pairs, {_LANES} lanes",
        claim="the result is the literal sum of all pairs and all carries, four cycles later",
        verilog=text + top,
        broken=("+ $signed({ part_0_1,", "+ $signed({ part_0_0,"),
        steps=stages + 1,
        skip=stages,
        quick=True,
    )


def freed(verilog: str, register: str, width: int) -> str:
    """The module `unit` with a register made an input.

    Raises:
        ValueError: there is no such register.
    """
    span = _span(width)
    verilog, declared = re.subn(
        rf"^  reg {re.escape(span)}{register} = \S+;$",
        f"  input {span}{register};\n  wire {span}{register};",
        verilog,
        flags=re.MULTILINE,
    )
    verilog, driven = re.subn(
        rf"^  always @\(posedge clk\)\n    {register} <= .*;$", "", verilog, flags=re.MULTILINE
    )
    return _listed(verilog, register, width, declared == driven == 1)


def _shown(verilog: str, register: str, width: int) -> str:
    """The module `unit` with a register made an output."""
    span = _span(width)
    verilog, declared = re.subn(
        rf"^  (reg {re.escape(span)}{register} = \S+;)$",
        rf"  output {span}{register};\n  \1",
        verilog,
        flags=re.MULTILINE,
    )
    return _listed(verilog, register, width, declared == 1)


def _span(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _listed(verilog: str, register: str, width: int, found: bool) -> str:
    verilog, listed = re.subn(r"^module unit\(", f"module unit({register}, ", verilog, flags=re.MULTILINE)
    if not found or listed != 1:
        raise ValueError(f"register {register} of {width} bits is not found once in the design")
    return verilog
