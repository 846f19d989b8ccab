"""What is proved of vendors' leaf cells: on models of the primitives each is its behavioural twin."""

from __future__ import annotations

import itertools
import textwrap

from .proofs import Proof
from .verilog import vendor_verilog

__all__ = ["cell_proofs"]

MODELS = {"xilinx": ("xilinx/cells_sim.v",), "ecp5": ("ecp5/cells_sim.v",)}


def cell_proofs() -> list[Proof]:
    """All of them."""
    return [*_lone_cells(), _rows(), _chains(), _sums()]


def _against_twin(leaf: str, cell: str, claim: str, top: str, broken: tuple[str, str]) -> Proof:
    """The proof that `top`, which has a cell and its twin (`twin_…` for `bw_…`), finds both equal."""
    twin = vendor_verilog("behavioural").replace("module bw_", "module twin_")
    return Proof(
        name=f"{cell}, {leaf}",
        claim=claim,
        verilog=vendor_verilog(leaf) + twin + top,
        broken=broken,
        libraries=MODELS[leaf],
        quick=True,
    )


def _all_same(ports: str, same: str, pairs: str) -> str:
    """A module whose `ok` says that every bit of `same` is 1, which `pairs` of a cell and its twin set."""
    return f"module proof({ports}, output ok); wire {same} same;{pairs}\nassign ok = &same;\nendmodule\n"


def _lone_cells() -> list[Proof]:
    plain = {
        "bw_differ3": ("input [2:0] a, b", ".a(a), .b(b)", "s", 2, "1'b1"),
        "bw_trit": ("input [1:0] a, b", ".a(a), .b(b)", "x", 2, "a != 2'b10 && b != 2'b10"),
        "bw_count7": ("input [6:0] x", ".x(x)", "s", 3, "1'b1"),
    }
    broken = {
        "bw_differ3": ("64'h172B", "64'h173B"),
        "bw_trit": ("64'h80208020", "64'h80208021"),
        "bw_count7": ("64'h177E", "64'h176E"),
    }
    proofs = []
    for cell, (ports, given, out, width, assumed) in plain.items():
        top = textwrap.dedent(f"""
            module proof({ports}, output ok);
                wire [{width - 1}:0] left, right;
                {cell} left_cell({given}, .{out}(left));
                twin_{cell[3:]} right_cell({given}, .{out}(right));
                assign ok = !({assumed}) || left == right;
            endmodule
            """)
        claim = "the LUTs and the carry chain are the behavioural cell, on all inputs"
        proofs.append(_against_twin("xilinx", cell, claim, top, broken[cell]))
    return proofs


def _rows() -> Proof:
    rows = "".join(
        f"""
        wire [{w}:0] left_{w}, right_{w};
        bw_row #(.WIDTH({w})) l_{w}(.a(a[{w - 1}:0]), .b(b[{w - 1}:0]), .carry(carry), .s(left_{w}));
        twin_row #(.WIDTH({w})) r_{w}(.a(a[{w - 1}:0]), .b(b[{w - 1}:0]), .carry(carry), .s(right_{w}));
        assign same[{w}] = left_{w} == right_{w};"""
        for w in range(1, 10)
    )
    return _against_twin(
        "xilinx",
        "bw_row",
        "rows of 1 to 9 places add a, b and the carry",
        _all_same("input [8:0] a, b, input carry", "[9:1]", rows),
        ("assign differ = a ^ b;", "assign differ = a | b;"),
    )


def _chains() -> Proof:
    chains = ""
    patterns = [(1, *kinds) for length in (1, 2, 3) for kinds in itertools.product(range(3), repeat=length)]
    for number, kinds in enumerate(patterns):
        n = len(kinds)
        packed = sum(kind << (2 * place) for place, kind in enumerate(kinds))
        parameters = f"#(.LENGTH({n}), .KINDS({2 * n}'d{packed}))"
        given = ", ".join(f".{port}({port}[{n - 1}:0])" for port in "abcd")
        trits = sum(1 << place for place, kind in enumerate(kinds) if kind == 2)
        chains += f"""
        wire [{n - 1}:0] left_{number}, right_{number};
        bw_chain {parameters} l_{number}({given}, .s(left_{number}));
        twin_chain {parameters} r_{number}({given}, .s(right_{number}));
        assign same[{number}] = (invalid & 4'd{trits}) != 0
            || left_{number} >> 1 == right_{number} >> 1;
        """
    return _against_twin(
        "ecp5",
        "bw_chain",
        "CCU2Cs add as the behavioural chain, every sequence of up to four kinds that begins anew",
        _all_same(
            "input [3:0] a, b, c, d",
            f"[{len(patterns) - 1}:0]",
            "wire [3:0] invalid = (a & ~c) | (b & ~d);" + chains,
        ),
        ("HIGH[1] ? 16'h0FF9", "HIGH[1] ? 16'h0FF8"),
    )


def _sums() -> Proof:
    sums = "".join(
        f"""
        wire [{w - 1}:0] left_{w}, right_{w};
        bw_accumulate #(.WIDTH({w})) l_{w}(.a(a), .again(again), .b(b), .c(c), .s(left_{w}));
        twin_accumulate #(.WIDTH({w})) r_{w}(.a(a), .again(again), .b(b), .c(c), .s(right_{w}));
        assign same[{w}] = left_{w} == right_{w};"""
        for w in range(1, 7)
    )
    return _against_twin(
        "ecp5",
        "bw_accumulate",
        "CCU2Cs of 1 to 6 places add the one or the other operand that is chosen",
        _all_same("input [5:0] a, b, c, input again", "[6:1]", sums),
        ("INIT0(16'h596A)", "INIT0(16'h596B)"),
    )
