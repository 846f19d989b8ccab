"""What the processing elements' parts cost beside their targets: LUTs a bit, registers, DSP blocks.

Run it with `make pe-cost`. Yosys counts each unit by itself, nothing is placed. The exit code is 1 if a
target is missed. The ternary target is judged on whole PEs; the counts alone are shown, too.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

from bitwright.mapper.machine import ArraySpec, Machine
from bitwright.mapper.machine_file import load_machine
from bitwright.rtl.cost import Cost, leaf_form, synthesise_unit
from bitwright.rtl.multiply import Multiply8, MultiplyPair8
from bitwright.rtl.pe import ProcessingElement
from bitwright.rtl.popcount import PopCount
from bitwright.rtl.toolchain import package_version
from bitwright.rtl.verilog import vendor_verilog

LANES = 128
XNOR_TARGETS = {"xc7": (1.3, 1.17), "xcup": (1.3, 1.17), "ecp5-85k": (2.3, 2.0)}
"""LUTs a bit: target and goal."""


def cost(unit: object, target: str) -> Cost:
    """Of one unit on a target, its vendor's cells included."""
    return synthesise_unit(unit, target, cells=vendor_verilog(leaf_form(target)), tries=False)


def machine(kind: str, bits: int) -> Machine:
    """A machine whose PE serves one kind, both operands of so many bits."""
    base = load_machine("core-small")
    array = ArraySpec(rows=8, cols=4, act_word_bits=bits, weight_word_bits=bits, acc_bits=20, pes=(kind,))
    return dataclasses.replace(base, array=array)


def show(name: str, target: str, made: Cost, judged: str) -> None:
    print(f"{name:44}{target:10}{made.lut:6}{made.ff:6}{made.dsp:5}  {judged}", flush=True)


def counts(target: str) -> list[bool]:
    """Whether the XNOR and the ternary units meet their targets."""
    wanted, goal = XNOR_TARGETS[target]
    leaf = leaf_form(target)
    plain = cost(PopCount(lanes=LANES), target)
    show(f"XNOR count, {LANES} lanes, plain adders", target, plain, f"{plain.lut / LANES:.2f} a bit")
    xnor = cost(PopCount(lanes=LANES, leaf=leaf), target)
    bit = xnor.lut / LANES
    verdict = "goal met" if bit <= goal else "target met" if bit <= wanted else "missed"
    show(
        f"XNOR count, {LANES} lanes, {leaf} cells",
        target,
        xnor,
        f"{bit:.2f} a bit; target {wanted}, goal {goal}: {verdict}",
    )
    met = [bit <= wanted]
    ternary = cost(PopCount(lanes=LANES, ternary=True, leaf=leaf), target)
    lane = ternary.lut / LANES
    show(
        f"ternary count, {LANES} lanes, {leaf} cells",
        target,
        ternary,
        f"{lane:.2f} a lane, {lane / bit:.2f} of an XNOR lane ({lane / wanted:.2f} of its target)",
    )
    units = {
        kind: cost(ProcessingElement(machine=machine(kind, bits), leaf=leaf), target)
        for kind, bits in (("binary", LANES), ("ternary", 2 * LANES))
    }
    ratio = units["ternary"].lut / units["binary"].lut
    for kind, made in units.items():
        judged = f"{made.lut / LANES:.2f} a lane"
        if kind == "ternary":
            judged += f", {ratio:.2f} of the XNOR unit; target 2: {'met' if ratio <= 2 else 'missed'}"
        show(f"{kind} PE with accumulators, {LANES} lanes", target, made, judged)
    return [*met, ratio <= 2]


def products(target: str) -> list[bool]:
    """Whether int8's forms meet their targets."""
    forms: dict[str, tuple[object, int, Callable[[Cost], bool], str]] = {
        "int8 product, left to synthesis": (Multiply8(leaf="inferred"), 1, lambda made: True, ""),
        "int8 product, vendor's cell": (
            Multiply8(leaf="dsp"),
            1,
            # Into the DSP48E2 of xcup Yosys packs no registers; the target is of ECP5.
            lambda made: (made.dsp, made.lut) == (1, 0) and (leaf_form(target) != "ecp5" or made.ff == 0),
            "target 1 DSP" + (", no registers outside" if leaf_form(target) == "ecp5" else ""),
        ),
        "int8 product, LUTs alone": (Multiply8(leaf="lut"), 1, lambda made: made.dsp == 0, "target no DSP"),
    }
    if leaf_form(target) == "xilinx":
        forms["two int8 products that share an operand"] = (
            MultiplyPair8(),
            2,
            lambda made: made.dsp == 1,
            "target 1 DSP for both",
        )
    met = []
    for name, (unit, number, fits, wanted) in forms.items():
        made = cost(unit, target)
        fine = fits(made)
        judged = f"{made.lut / number:.1f} LUTs a product"
        if wanted:
            judged += f"; {wanted}: {'met' if fine else 'missed'}"
        show(name, target, made, judged)
        met.append(fine)
    return met


def main() -> int:
    print(f"pyosys {package_version('pyosys')}, default options")
    print(f"{'unit':44}{'target':10}{'LUT':>6}{'FF':>6}{'DSP':>5}")
    met = []
    for target in XNOR_TARGETS:
        met += counts(target) + products(target)
    print(f"{sum(met)} of {len(met)} targets met")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
