"""FPGA targets: how Yosys is asked, what its cells are, and what a part holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["RESOURCES", "Target", "find_target", "target_names"]

RESOURCES = ("lut", "ff", "dsp", "bram")

Weights = Mapping[str, Mapping[str, int]]
"""Cell type → what one such cell takes of each resource; an empty table: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One FPGA part or family.

    `available` is empty for a family: then nothing is said of fitting.
    """

    name: str
    synthesis: str
    """The Yosys pass, without `-top` and `-json`."""
    cells: Weights
    units: Mapping[str, str]
    """What a unit of each resource is called in messages."""
    available: Mapping[str, int] = field(default_factory=dict)
    device: str = ""
    """nextpnr-ecp5's option for the part; empty: no place-and-route."""


# A CCU2C is two LUTs with a carry chain; a TRELLIS_DPR16X4 takes four LUTs as memory and two for its
# write port. With these weights the sum is nextpnr's "Total LUT4s" (prjtrellis, ECP5 slices).
_ECP5_CELLS: Weights = {
    "LUT4": {"lut": 1},
    "CCU2C": {"lut": 2},
    "TRELLIS_DPR16X4": {"lut": 6},
    "PFUMX": {},
    "L6MUX21": {},
    "TRELLIS_FF": {"ff": 1},
    "MULT18X18D": {"dsp": 1},
    "DP16KD": {"bram": 1},
    "PDPW16KD": {"bram": 1},
}
_ECP5_UNITS = {
    "lut": "LUT4s",
    "ff": "flip-flops",
    "dsp": "multipliers",
    "bram": "18-Kbit block RAMs",
}

# An SB_CARRY shares the logic cell of the LUT whose sum it feeds.
_ICE40_CELLS: Weights = {
    "SB_LUT4": {"lut": 1},
    "SB_CARRY": {},
    "SB_MAC16": {"dsp": 1},
    **{f"SB_RAM40_4K{edge}": {"bram": 1} for edge in ("", "NR", "NW", "NRNW")},
    **{
        f"SB_DFF{edge}{kind}": {"ff": 1}
        for edge in ("", "N")
        for kind in ("", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES")
    },
}
_ICE40_UNITS = {
    "lut": "LUT4s",
    "ff": "flip-flops",
    "dsp": "multipliers",
    "bram": "4-Kbit block RAMs",
}

# LUTs that memories take: AMD UG474 table 2-3 (7 series) and UG574 table 3-1 (UltraScale+).
_XILINX_CELLS: Weights = {
    **{f"LUT{inputs}": {"lut": 1} for inputs in range(1, 7)},
    "INV": {"lut": 1},
    **{f"MUXF{inputs}": {} for inputs in (7, 8, 9)},
    "CARRY4": {},
    "CARRY8": {},
    "SRL16E": {"lut": 1},
    "SRLC32E": {"lut": 1},
    "RAM32X1S": {"lut": 1},
    "RAM64X1S": {"lut": 1},
    "RAM32X1D": {"lut": 2},
    "RAM64X1D": {"lut": 2},
    "RAM128X1S": {"lut": 2},
    "RAM128X1D": {"lut": 4},
    "RAM256X1S": {"lut": 4},
    "RAM256X1D": {"lut": 8},
    "RAM512X1S": {"lut": 8},
    "RAM32M": {"lut": 4},
    "RAM64M": {"lut": 4},
    "RAM32M16": {"lut": 8},
    "RAM64M8": {"lut": 8},
    **{flip_flop: {"ff": 1} for flip_flop in ("FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE")},
    "DSP48E1": {"dsp": 1},
    "DSP48E2": {"dsp": 1},
    "RAMB18E1": {"bram": 1},
    "RAMB18E2": {"bram": 1},
    "RAMB36E1": {"bram": 2},
    "RAMB36E2": {"bram": 2},
}
_XILINX_UNITS = {
    "lut": "LUT6s",
    "ff": "flip-flops",
    "dsp": "DSP48s",
    "bram": "18-Kbit block RAMs",
}


def _ecp5(name: str, lut: int, dsp: int, bram: int) -> Target:
    return Target(
        name=f"ecp5-{name}",
        synthesis="synth_ecp5",
        cells=_ECP5_CELLS,
        units=_ECP5_UNITS,
        available={"lut": lut, "ff": lut, "dsp": dsp, "bram": bram},
        device=f"--{name}",
    )


def _ice40(name: str, synthesis: str, lut: int, dsp: int, bram: int) -> Target:
    return Target(
        name=f"ice40-{name}",
        synthesis=f"synth_ice40 {synthesis}",
        cells=_ICE40_CELLS,
        units=_ICE40_UNITS,
        available={"lut": lut, "ff": lut, "dsp": dsp, "bram": bram},
    )


def _xilinx(family: str) -> Target:
    return Target(
        name=family,
        synthesis=f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf",
        cells=_XILINX_CELLS,
        units=_XILINX_UNITS,
    )


_TARGETS = {
    target.name: target
    for target in (
        # Lattice FPGA-DS-02012, table 1.1; nextpnr-ecp5 reports the same.
        _ecp5("25k", lut=24288, dsp=28, bram=56),
        _ecp5("45k", lut=43848, dsp=72, bram=108),
        _ecp5("85k", lut=83640, dsp=156, bram=208),
        # Lattice FPGA-DS-02008 (iCE40 UltraPlus), FPGA-DS-02029 (iCE40 LP/HX).
        _ice40("up5k", "-device u -dsp", lut=5280, dsp=8, bram=30),
        _ice40("hx8k", "-device hx", lut=7680, dsp=0, bram=32),
        _xilinx("xc7"),
        _xilinx("xcup"),
    )
}


def target_names() -> list[str]:
    """Names of all targets."""
    return list(_TARGETS)


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        ValueError: unknown; the message lists what is allowed.
    """
    if name not in _TARGETS:
        raise ValueError(f"target must be one of {', '.join(_TARGETS)}, not {name!r}")
    return _TARGETS[name]
