"""Abstract machines: any hierarchy of memories around an array of processing elements."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from .problem import DIMS, OPERANDS, Problem
from .queues import Queues

__all__ = ["DATAFLOWS", "AbstractMachine", "Axis", "Level", "PeMode", "Residence"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_REDUCED = ("C", "FY", "FX")
_MOST_BITS = 1 << 50

DATAFLOWS: dict[str, dict[str, tuple[str, ...]]] = {
    "os": {"rows": ("OY", "OX", "B"), "cols": ("K",)},
    "ws": {"rows": ("C", "FY", "FX"), "cols": ("K",)},
    "is": {"rows": ("C", "FY", "FX"), "cols": ("OY", "OX", "B")},
    "mvu": {"simd": ("C", "FY", "FX"), "pe": ("K",)},
}
"""By `array.dataflow`: which loops lie on which axes. On a systolic array what stays in place (output,
weight, input) is what neither axis' outer loop changes; `mvu` is a matrix-vector unit a layer, in a row."""


def _check_name(path: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{path} must be letters, digits, '_' or '-', starting with a letter or '_', at most 64 long, "
            f"not {name!r}"
        )


def _check_operands(path: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in OPERANDS:
            raise ValueError(f"{path} must name operands among {', '.join(OPERANDS)}, not {name!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"{path} must name each operand once, not {list(names)}")


def _check_energy(path: str, value: float) -> None:
    if not 0 <= value <= 1e9:
        raise ValueError(f"{path} must be from 0 to 1e9 (picojoules), not {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A memory, or one for each PE below an axis: what it holds, how fast it is, what an access costs."""

    name: str
    operands: tuple[str, ...]
    """Which of W, I, O it holds; the others pass it by."""
    size_bits: int | None = None
    """Of one instance, shared by its operands; None is unbounded (or see the sizes of operands)."""
    weight_bits: int | None = None
    """Of a part for W alone; with it and its like, `size_bits` is not given."""
    input_bits: int | None = None
    output_bits: int | None = None
    ports: int = 2
    """1: reads and writes take turns. 2: one read and one write port."""
    read_bits_per_cycle: float = math.inf
    """Of one instance's read port; unlimited unless given."""
    write_bits_per_cycle: float = math.inf
    buffering: str = "single"
    """`double`: half of it is filled while the other half is used. `single`: the whole of it holds the tile,
    and filling it takes turns with its use. `shadow`: the whole of it holds the tile and values are replaced
    as they fall free, so that filling overlaps with use (the model that Timeloop has)."""
    sliding: bool = False
    """Whether inputs that two consecutive tiles share stay where they are, where a window slides."""
    compressed: tuple[str, ...] = ()
    """Of W and I, those that lie here encoded, in `weight_ratio` and `input_ratio` of their dense bits."""
    word_bits: int = 1
    """Bits of an access that costs `read_pj` or `write_pj`; parts of it count as such."""
    read_pj: float = 0.0
    write_pj: float = 0.0
    energy_source: str = "assumed"
    """Where the energies are from: a citation, `derived: …` or `assumed`."""

    def __post_init__(self) -> None:
        where = f"levels.{self.name}"
        _check_name("levels.name", self.name)
        _check_operands(f"{where}.operands", self.operands)
        if not self.operands:
            raise ValueError(f"{where}.operands must name at least one of W, I, O: a level nobody uses")
        parts = {"W": self.weight_bits, "I": self.input_bits, "O": self.output_bits}
        keys = {"W": "weight_bits", "I": "input_bits", "O": "output_bits"}
        split = [name for name, size in parts.items() if size is not None]
        if split and self.size_bits is not None:
            raise ValueError(f"{where} takes either size_bits or {keys[split[0]]} and its like, not both")
        for name in split:
            if name not in self.operands:
                raise ValueError(f"{where}.{keys[name]} is given, but {where}.operands has no {name}")
        if split and len(split) < len(self.operands):
            missing = next(name for name in self.operands if parts[name] is None)
            raise ValueError(f"{where}.{keys[missing]} is missing: each operand needs its part")
        for key, size in (("size_bits", self.size_bits), *((keys[n], parts[n]) for n in OPERANDS)):
            if size is not None and not 1 <= size <= _MOST_BITS:
                raise ValueError(f"{where}.{key} must be from 1 to 2^50 bits, not {size}")
        if self.ports not in (1, 2):
            raise ValueError(f"{where}.ports must be 1 or 2, not {self.ports}")
        for key in ("read_bits_per_cycle", "write_bits_per_cycle"):
            value = getattr(self, key)
            if not (math.isinf(value) and value > 0) and not 1e-6 <= value <= 1e12:
                raise ValueError(f"{where}.{key} must be above 0 (bits a cycle, 1e-6 to 1e12), not {value:g}")
        if self.buffering not in ("single", "double", "shadow"):
            raise ValueError(
                f"{where}.buffering must be 'single', 'double' or 'shadow', not {self.buffering!r}"
            )
        _check_operands(f"{where}.compressed", self.compressed)
        for name in self.compressed:
            if name == "O" or name not in self.operands:
                raise ValueError(f"{where}.compressed may name W and I that it holds, not {name!r}")
        if not 1 <= self.word_bits <= 1 << 16:
            raise ValueError(f"{where}.word_bits must be from 1 to 65536, not {self.word_bits}")
        _check_energy(f"{where}.read_pj", self.read_pj)
        _check_energy(f"{where}.write_pj", self.write_pj)

    def capacity(self, operand: str) -> int | None:
        """Bits that a tile of this operand alone may take in one instance; None is unbounded."""
        part = {"W": self.weight_bits, "I": self.input_bits, "O": self.output_bits}[operand]
        whole = self.size_bits if part is None else part
        return None if whole is None else (whole // 2 if self.buffering == "double" else whole)

    @property
    def shared(self) -> bool:
        """Whether its operands share one size."""
        return self.size_bits is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A row or column of instances below a level: what lies below is there `size` times."""

    name: str
    size: int
    below: str
    """The level that feeds it."""
    loops: tuple[str, ...] = DIMS
    """Those that it may unroll."""
    multicast: bool = True
    """Whether one read serves all instances that need the same value."""
    reduction: bool = True
    """Whether sums over C, FY and FX are added along it; without, it may not unroll them."""

    def __post_init__(self) -> None:
        _check_name("array axis", self.name)
        where = f"array.{self.name}"
        if not 1 <= self.size <= 1 << 20:
            raise ValueError(f"{where}.size must be from 1 to 2^20, not {self.size}")
        for loop in self.loops:
            if loop not in DIMS:
                raise ValueError(f"{where}.loops must name loops among {', '.join(DIMS)}, not {loop!r}")
        if len(set(self.loops)) != len(self.loops):
            raise ValueError(f"{where}.loops must name each loop once, not {list(self.loops)}")
        if not self.reduction and any(loop in _REDUCED for loop in self.loops):
            bad = next(loop for loop in self.loops if loop in _REDUCED)
            raise ValueError(f"{where}.loops has {bad}, which takes {where}.reduction = true")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeMode:
    """What a PE multiplies: operands up to these widths, so many products a cycle, at this energy."""

    name: str
    weight_bits: int
    input_bits: int
    macs_per_cycle: float = 1.0
    mac_pj: float = 0.0
    skips: tuple[str, ...] = ()
    """W, I: zeros of these take no cycle and no product."""
    gates: tuple[str, ...] = ()
    """W, I: zeros of these take their cycle, but no product's energy."""

    def __post_init__(self) -> None:
        _check_name("pes.name", self.name)
        where = f"pes.{self.name}"
        for key in ("weight_bits", "input_bits"):
            if not 1 <= getattr(self, key) <= 64:
                raise ValueError(f"{where}.{key} must be from 1 to 64, not {getattr(self, key)}")
        if not 1e-6 <= self.macs_per_cycle <= 1e6:
            raise ValueError(
                f"{where}.macs_per_cycle must be above 0, up to 1e6, not {self.macs_per_cycle:g}"
            )
        _check_energy(f"{where}.mac_pj", self.mac_pj)
        for key in ("skips", "gates"):
            _check_operands(f"{where}.{key}", getattr(self, key))
            if "O" in getattr(self, key):
                raise ValueError(f"{where}.{key} may name W and I, not 'O'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Residence:
    """Which operands of a layer lie whole in an on-chip level instead of the outermost one.

    Their part of the level is taken off its size. Reads and writes of it cost that level's energy and take
    its ports. An operand `in_place` has no tile there or further out: what lies below works on the tensor.
    O `through_tile` has a tile of sums there, from which only complete values go to the tensor.
    """

    level: str
    in_place: tuple[str, ...] = ()
    """I, O; O at the width of partial sums."""
    through_tile: bool = False
    """O, at the width of complete values."""

    def __post_init__(self) -> None:
        if not set(self.in_place) <= {"I", "O"} or len(set(self.in_place)) < len(self.in_place):
            raise ValueError(f"residence.in_place may name I and O, each once, not {list(self.in_place)}")
        if self.through_tile and "O" in self.in_place:
            raise ValueError("residence.in_place names O, so residence.through_tile must be false")

    @property
    def operands(self) -> tuple[str, ...]:
        """Those that lie there."""
        return (*self.in_place, *(("O",) if self.through_tile else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractMachine:
    """A machine without RTL: memory levels from the innermost to DRAM, array axes, PE modes.

    Raises:
        ValueError: a part that does not fit; names the path of the key.
    """

    name: str
    levels: tuple[Level, ...]
    """2 to 6, the one next to the PEs first, the last unbounded and for all operands."""
    axes: tuple[Axis, ...] = ()
    """Those below one level stand from the inner to the outer."""
    pes: tuple[PeMode, ...] = (PeMode(name="mac", weight_bits=16, input_bits=16),)
    template: str = "abstract"
    clock_hz: float = 200e6
    node_nm: int = 45
    dram_part: str = ""
    """Row of the energy table that the outermost level's energies are from, if they are."""
    dataflow: str = ""
    """A key of `DATAFLOWS`, if the loops of its axes follow one."""
    queues: Queues | None = None
    """Where fully connected layers run entry by entry of an encoded matrix; over its one axis, of K."""
    drains_cost: bool = True
    """Whether reading results out of a level on their way up costs its read energy (Timeloop's doesn't)."""
    residence: Residence | None = None
    """What a layer of a network finds on chip; a machine by itself has none."""

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if self.template != "abstract":
            raise ValueError(f"template must be 'abstract', not {self.template!r}")
        if not 1e3 <= self.clock_hz <= 1e11:
            raise ValueError(f"clock_hz must be from 1e3 to 1e11 (hertz), not {self.clock_hz:g}")
        if not 1 <= self.node_nm <= 1000:
            raise ValueError(f"node_nm must be from 1 to 1000 (nanometres), not {self.node_nm:g}")
        if not 2 <= len(self.levels) <= 6:
            raise ValueError(f"levels must be 2 to 6 memories, not {len(self.levels)}")
        names = [level.name for level in self.levels]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"levels.name must differ, {name!r} stands twice")
        last = self.levels[-1]
        if set(last.operands) != set(OPERANDS):
            raise ValueError(f"levels.{last.name}.operands must be W, I and O: it is the outermost level")
        if last.size_bits is not None or any(last.capacity(x) is not None for x in OPERANDS):
            raise ValueError(
                f"levels.{last.name}.size_bits must be left out: the outermost level has no bound"
            )
        if last.buffering != "single":
            raise ValueError(
                f"levels.{last.name}.buffering must be left out: nothing fills the outermost level"
            )
        for level in self.levels[:-1]:
            if any(level.capacity(x) is None for x in level.operands):
                raise ValueError(f"levels.{level.name}.size_bits is missing; only the outermost has no bound")
        seen: list[str] = []
        for axis in self.axes:
            if axis.name in seen:
                raise ValueError(f"array.{axis.name} stands twice; axes' names must differ")
            seen.append(axis.name)
            if axis.below not in names:
                raise ValueError(
                    f"array.{axis.name}.below must name a level among {', '.join(names)}, not {axis.below!r}"
                )
        if len(self.axes) > 6:
            raise ValueError(f"array must have at most 6 axes, not {len(self.axes)}")
        object.__setattr__(self, "axes", tuple(sorted(self.axes, key=lambda axis: names.index(axis.below))))
        if not self.pes:
            raise ValueError("pes must have at least one mode")
        modes = [mode.name for mode in self.pes]
        if len(set(modes)) != len(modes):
            raise ValueError(f"pes.name must differ, not {modes}")
        if self.residence is not None:
            self._check_residence(self.residence)
        if self.queues is not None and (len(self.axes) != 1 or self.axes[0].loops != ("K",)):
            raise ValueError(
                "queues stand before PEs that share the rows of a matrix: array must have one axis, of loops "
                f'["K"], not {[(axis.name, list(axis.loops)) for axis in self.axes]}'
            )
        if self.queues is not None and self.dataflow:
            raise ValueError(f"queues and array.dataflow ({self.dataflow}) exclude each other: leave one out")

    def _check_residence(self, residence: Residence) -> None:
        home = self.level_index(residence.level)
        level = self.levels[home]
        if home == len(self.levels) - 1 or not level.shared or not {"I", "O"} <= set(level.operands):
            raise ValueError(
                f"residence.level must be an inner level with one size for I and O, not {level.name!r}"
            )
        if any(self.level_index(axis.below) > home for axis in self.axes):
            raise ValueError(
                f"residence.level must be there once, but an axis lies between {level.name} and DRAM"
            )

    def held(self, i: int) -> tuple[str, ...]:
        """Operands of which level i holds tiles: those it serves but those that lie whole in it or inside."""
        operands, residence = self.levels[i].operands, self.residence
        if residence is None or i == len(self.levels) - 1 or i < self.level_index(residence.level):
            return operands
        gone = set(residence.in_place)
        if residence.through_tile and i > self.level_index(residence.level):
            gone.add("O")
        return tuple(name for name in operands if name not in gone)

    def home(self, operand: str) -> int:
        """The level where the operand's whole tensor lies: the outermost, or the residence's."""
        if self.residence is not None and operand in self.residence.operands:
            return self.level_index(self.residence.level)
        return len(self.levels) - 1

    def level_index(self, name: str) -> int:
        """The place of a level, 0 being the innermost; ValueError names those that there are."""
        for i, level in enumerate(self.levels):
            if level.name == name:
                return i
        raise ValueError(f"no level {name!r}; levels: {', '.join(level.name for level in self.levels)}")

    def pe_mode(self, problem: Problem) -> PeMode:
        """The mode with the most products a cycle (then the least energy) that takes the layer's formats.

        Raises:
            ValueError: none does; names the widths.
        """
        fits = [
            mode
            for mode in self.pes
            if mode.weight_bits >= problem.weight_bits and mode.input_bits >= problem.input_bits
        ]
        if not fits:
            widths = ", ".join(f"{mode.weight_bits}×{mode.input_bits}" for mode in self.pes)
            raise ValueError(
                f"layer {problem.name}: machine {self.name} multiplies weights × inputs of up to {widths} "
                f"bits, not {problem.weight_bits}×{problem.input_bits}: add a mode to pes"
            )
        return max(fits, key=lambda mode: (mode.macs_per_cycle, -mode.mac_pj))

    @property
    def pe_count(self) -> int:
        """Processing elements: the product of all axes."""
        return math.prod(axis.size for axis in self.axes)

    def digest(self) -> str:
        """Hash of everything that shapes a mapping's figures."""
        tables = dataclasses.asdict(self)
        del tables["name"]
        for key in ("residence", "queues"):
            if tables[key] is None:
                del tables[key]
        return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The machine as tables of a file: `levels` and `pes` by name, `array` with its axes."""

        def row(part: Any) -> dict[str, Any]:
            values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.name != "name"}
            return {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in values.items()
                if value is not None and value != math.inf
            }

        tables: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("levels", "axes", "pes", "dataflow", "residence", "queues")
        }
        if self.queues is not None:
            tables["queues"] = dataclasses.asdict(self.queues)
        tables["levels"] = {level.name: row(level) for level in self.levels}
        tables["array"] = {axis.name: row(axis) for axis in self.axes}
        if self.dataflow:
            tables["array"] = {"dataflow": self.dataflow, **tables["array"]}
        tables["pes"] = {mode.name: row(mode) for mode in self.pes}
        return tables
