"""Proofs by exhaustion: a compiled simulation in which a design sees every value of its input."""

from __future__ import annotations

import re

from .toolchain import ToolError, run_tool
from .verilate import Main, verilate

__all__ = ["exhaust"]

_MAIN = """
#include <cstdint>
#include <cstdio>
#include "Vtop.h"

double sc_time_stamp() { return 0; }

int main() {
    Vtop top;
    const uint64_t values = 1ull << BITS;
    uint64_t right = 0;
    for (uint64_t cycle = 0; cycle < values + SKIP; cycle++) {
        top.clk = 0;
        top.every = cycle & (values - 1);
        top.eval();
        // `ok` is of the value of SKIP cycles ago.
        right += cycle >= SKIP && top.ok;
        top.clk = 1;
        top.eval();
    }
    std::printf("%llu of %llu right\\n", (unsigned long long)right, (unsigned long long)values);
}
"""


def exhaust(verilog: str, *, top: str, bits: int, skip: int) -> bool:
    """Whether the output `ok` is 1 for every value of the input `every`, `skip` clock cycles later.

    Args:
        verilog: has the module `top` with the inputs `clk` and `every` of `bits` bits, a new value a cycle.
        top: its name.
        bits: at most 32, or it would take hours.
        skip: cycles from a value to its `ok`.

    Raises:
        ToolError: Verilator or the compiler is missing or rejects the design, or not every value was seen.
        ValueError: too many bits.
    """
    if not 1 <= bits <= 32:
        raise ValueError(f"bits must be from 1 to 32, not {bits}")
    main = _MAIN.replace("BITS", str(bits)).replace("SKIP", f"{skip}ull")
    executable = verilate({"design.v": verilog, "main.cpp": main}, top=top, main=Main.CPP)
    log = run_tool([str(executable)])
    said = re.fullmatch(r"(\d+) of (\d+) right\n", log)
    if said is None or int(said[2]) != 1 << bits:
        raise ToolError(f"not all of {1 << bits} values were seen", log=log)
    return int(said[1]) == 1 << bits
