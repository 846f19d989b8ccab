"""The machine: what a core is made of, and every constant that its model and its RTL share.

One TOML file describes one machine. `bitwright.sim` and `bitwright.rtl` never import each other; the
latencies, widths and depths that both must know stand here, once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from .pe import PeKind

__all__ = [
    "CROSSING_CYCLES",
    "PROGRAM_BASE",
    "STEP_BITS",
    "STEP_ENTRIES",
    "ArraySpec",
    "BufferSpec",
    "BusSpec",
    "CoreTiming",
    "Machine",
    "MemoryTiming",
    "PostSpec",
    "QueueSpec",
]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""What a machine may be called: it becomes a folder's and a report's name."""

MULTIPLIERS = ("inferred", "dsp", "lut", "pair")
"""Forms of int8 products."""

PROGRAM_BASE = 0x10000
"""Where benches and the cycle model put a program in memory; a multiple of 4096."""

CROSSING_CYCLES = 4
"""Core cycles that a request takes to the DRAM's clock, and an answer back: two synchronising registers and
one on each side."""

STEP_BITS = 32
"""Of an entry of a step list; `steps.py` packs it."""

STEP_ENTRIES = (64, 1 << 16)
"""Least and most that a machine holds, where it holds any; powers of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreTiming:
    """Pipeline depths of the core's RTL in cycles; docs/architecture.md draws each."""

    array_latency: int = 10
    """From an issue (addresses out) to the accumulator that a POST read sees."""
    post_latency: int = 12
    """From the last cycle of a POST read to the result's write at the output buffer's port."""
    add_latency: int = 22
    """The same where POST adds: the sum passes a second requantiser."""
    buffer_read_latency: int = 3
    """From an address at a byte buffer's read port to its rotated, registered word."""
    store_latency: int = 5
    """From the cycle in which a STORE begins a row to its first beat, of values that are not packed."""
    token_latency: int = 2
    """From the cycle of a post to the first in which the waiting unit sees its counter."""


def _check_range(path: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{path} must be from {low} to {high}, not {value}")


def _check_power_of_two(path: str, value: int, low: int, high: int) -> None:
    _check_range(path, value, low, high)
    if value & (value - 1):
        raise ValueError(f"{path} must be a power of two, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """The PE array: `rows` output channels × `cols` pixel columns × lanes."""

    rows: int
    cols: int
    act_word_bits: int
    weight_word_bits: int
    acc_depth: int = 16
    acc_bits: int = 32
    pes: tuple[str, ...] = ("int8",)
    """PE kinds (`PeKind.key`) that every PE of the array serves; a layer names one."""
    multiplier: str = "inferred"
    """`inferred` (synthesis chooses), `dsp` (one vendor multiplier leaf a lane), `lut` (LUTs alone) or
    `pair` (one wide multiplier, such as a DSP48, for two rows' products with one activation)."""

    def __post_init__(self) -> None:
        _check_power_of_two("array.rows", self.rows, 1, 64)
        _check_power_of_two("array.cols", self.cols, 1, 16)
        _check_power_of_two("array.act_word_bits", self.act_word_bits, 32, 512)
        _check_power_of_two("array.weight_word_bits", self.weight_word_bits, 16, 512)
        _check_power_of_two("array.acc_depth", self.acc_depth, 16, 256)
        _check_range("array.acc_bits", self.acc_bits, 16, 32)
        if self.multiplier not in MULTIPLIERS:
            allowed = ", ".join(map(repr, MULTIPLIERS))
            raise ValueError(f"array.multiplier must be one of {allowed}, not {self.multiplier!r}")
        if self.multiplier == "pair" and self.rows < 2:
            raise ValueError("array.rows must be at least 2 where array.multiplier is 'pair', not 1")

        known = [kind.key for kind in PeKind]
        for name in self.pes:
            if name not in known:
                raise ValueError(f"array.pes must name PE kinds among {', '.join(known)}, not {name!r}")
        if len(set(self.pes)) != len(self.pes) or not self.pes:
            raise ValueError(f"array.pes must name at least one PE kind, each once, not {list(self.pes)}")
        if PeKind.VECTOR.key in self.pes and self.rows * 8 > self.act_word_bits:
            raise ValueError(
                f"array.rows must be at most {self.act_word_bits // 8} (a byte of the activation word a row) "
                f"where array.pes has {PeKind.VECTOR.key!r}, not {self.rows}"
            )

    @property
    def kinds(self) -> tuple[PeKind, ...]:
        """The PE kinds in the order of their codes."""
        return tuple(kind for kind in PeKind if kind.key in self.pes)

    def lanes(self, kind: PeKind) -> int:
        """Products that a PE forms in one cycle."""
        if kind.lane_wise:
            return 1
        return min(self.act_word_bits // kind.act_bits, self.weight_word_bits // kind.weight_bits)

    def sets_per_word(self, kind: PeKind) -> int:
        """Lane sets in a weight word; consecutive steps share the word."""
        return self.weight_word_bits // (self.lanes(kind) * kind.weight_bits)

    def lane_bytes(self, kind: PeKind) -> int:
        """Bytes of activations in a lane set."""
        return self.lanes(kind) * kind.act_bits // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSpec:
    """On-chip buffers, each with one read and one write port."""

    activation_bytes: int
    """Of one column's bank; a machine has `array.cols` of them."""
    weight_bytes: int
    output_bytes: int
    param_channels: int
    """Output channels whose bias, multiplier and shift are held; 16 bytes each."""
    step_entries: int = 0
    """Entries of step lists that are held, 4 bytes each: weight steps that are not all zero. 0: no lists."""

    def __post_init__(self) -> None:
        _check_power_of_two("buffers.activation_bytes", self.activation_bytes, 256, 1 << 20)
        _check_power_of_two("buffers.weight_bytes", self.weight_bytes, 256, 1 << 20)
        _check_power_of_two("buffers.output_bytes", self.output_bytes, 256, 1 << 20)
        _check_power_of_two("buffers.param_channels", self.param_channels, 8, 4096)
        if self.step_entries:
            _check_power_of_two("buffers.step_entries", self.step_entries, *STEP_ENTRIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostSpec:
    """The POST unit: bias, requantise, clamp, max pool."""

    lanes: int

    def __post_init__(self) -> None:
        _check_power_of_two("post.lanes", self.lanes, 1, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class BusSpec:
    """The AXI4 master port."""

    data_bits: int = 64
    max_burst: int = 16
    """Beats in a burst at most."""
    read_outstanding: int = 4
    """Bursts of LOAD in flight at most (command fetch has credits of its own)."""
    write_outstanding: int = 4

    def __post_init__(self) -> None:
        _check_power_of_two("bus.data_bits", self.data_bits, 32, 256)
        _check_power_of_two("bus.max_burst", self.max_burst, 1, 256)
        _check_range("bus.read_outstanding", self.read_outstanding, 1, 16)
        _check_range("bus.write_outstanding", self.write_outstanding, 1, 16)
        if self.data_bits // 8 * self.max_burst > 4096:
            raise ValueError(
                "bus.max_burst times bus.data_bits must not pass 4096 bytes, the AXI4 limit, not "
                f"{self.data_bits // 8 * self.max_burst}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """Depths of the queues between the units."""

    commands: int = 8
    """Commands each unit's queue holds."""
    fetch_commands: int = 8
    """Commands the fetch FIFO holds; its credits."""
    fetch_burst: int = 4
    """Commands asked for in one burst."""
    row_descriptors: int = 8
    """Rows that LOAD's address side may run ahead of its data side."""

    def __post_init__(self) -> None:
        _check_range("queues.commands", self.commands, 1, 64)
        _check_range("queues.fetch_commands", self.fetch_commands, 1, 64)
        _check_power_of_two("queues.fetch_burst", self.fetch_burst, 1, 16)
        _check_range("queues.row_descriptors", self.row_descriptors, 1, 64)
        if self.fetch_burst > self.fetch_commands:
            raise ValueError(
                f"queues.fetch_burst must be at most queues.fetch_commands ({self.fetch_commands}), "
                f"not {self.fetch_burst}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTiming:
    """How the memory at the AXI port answers; the simple memory of benches and of the cycle model.

    One read and one write channel that do not disturb each other, each in order. Every stall is a
    function of the channel, the index of its handshake and `seed` (see docs/architecture.md).
    """

    read_latency: int = 20
    """Core cycles from an AR handshake to the first beat that it may return."""
    write_latency: int = 8
    """Core cycles from a burst's last W handshake to its B response."""
    beat_interval: int = 1
    """Core cycles from one read or write beat to the next at the least."""
    stall_rate: int = 0
    """Of 256 handshakes on AR, R, AW and W, how many are stalled on average."""
    stall_mask: int = 7
    """A stall lasts 1 + (hash & stall_mask) cycles."""
    seed: int = 0
    dram: str = ""
    """A DRAM part that answers in the place of latencies, interval and stalls; see sim/port_kernel.py."""
    dram_cycles: int = 12
    """Cycles of the part's clock to every `core_cycles` of the core's."""
    core_cycles: int = 1

    def __post_init__(self) -> None:
        _check_range("memory.dram_cycles", self.dram_cycles, 1, 4095)
        _check_range("memory.core_cycles", self.core_cycles, 1, 4095)
        if self.dram and (self.stall_rate or self.beat_interval != 1):
            raise ValueError(
                "memory.stall_rate must be 0 and memory.beat_interval 1 with memory.dram, whose part "
                f"decides, not {self.stall_rate} and {self.beat_interval}"
            )
        _check_range("memory.read_latency", self.read_latency, 1, 4095)
        _check_range("memory.write_latency", self.write_latency, 1, 4095)
        _check_range("memory.beat_interval", self.beat_interval, 1, 255)
        _check_range("memory.stall_rate", self.stall_rate, 0, 255)
        _check_range("memory.stall_mask", self.stall_mask, 0, 255)
        _check_range("memory.seed", self.seed, 0, 0xFFFF_FFFF)
        if self.stall_mask & (self.stall_mask + 1):
            raise ValueError(f"memory.stall_mask must be one less than a power of two, not {self.stall_mask}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A core machine: everything that the mapper, the cycle model and the RTL must agree on."""

    name: str
    template: str = "core"
    clock_hz: float = 100e6
    node_nm: int = 45
    """Process node of the event energies; it says nothing of an FPGA."""
    dram_part: str = "LPDDR4"
    """Row of the energy table that prices a DRAM bit."""
    array: ArraySpec
    buffers: BufferSpec
    post: PostSpec
    bus: BusSpec = field(default_factory=BusSpec)
    queues: QueueSpec = field(default_factory=QueueSpec)
    memory: MemoryTiming = field(default_factory=MemoryTiming)
    timing: CoreTiming = field(default_factory=CoreTiming)
    energy: tuple[tuple[str, float], ...] = ()
    """Rows of the energy table that this machine replaces: items and picojoules, a table in its file."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                "name must be letters, digits, '_' or '-', starting with a letter or '_', at most "
                f"64 long, not {self.name!r}"
            )
        if self.template != "core":
            raise ValueError(f"template must be 'core', not {self.template!r}")
        if not 1e3 <= self.clock_hz <= 1e11:
            raise ValueError(f"clock_hz must be from 1e3 to 1e11 (hertz), not {self.clock_hz:g}")
        a, bus = self.array, self.bus
        if bus.data_bits > a.act_word_bits:
            raise ValueError(
                f"bus.data_bits must be at most array.act_word_bits ({a.act_word_bits}), not {bus.data_bits}"
            )
        if a.rows * a.weight_word_bits % bus.data_bits:
            raise ValueError(
                f"array.rows times array.weight_word_bits must be a multiple of bus.data_bits "
                f"({bus.data_bits}), not {a.rows * a.weight_word_bits}"
            )
        if self.post.lanes > a.rows:
            raise ValueError(f"post.lanes must be at most array.rows ({a.rows}), not {self.post.lanes}")
        if self.post.lanes * 128 % bus.data_bits:
            raise ValueError(
                f"post.lanes must be at least {bus.data_bits // 128} for bus.data_bits "
                f"{bus.data_bits}, not {self.post.lanes}"
            )
        if self.timing != CoreTiming():
            raise ValueError("timing is a property of the RTL and cannot be overridden")

    # -- derived sizes, one definition for every room ------------------------------------------

    @property
    def bus_bytes(self) -> int:
        """Bytes of an AXI beat."""
        return self.bus.data_bits // 8

    @property
    def act_word_bytes(self) -> int:
        """Bytes of an activation word, the most that one buffer read delivers."""
        return self.array.act_word_bits // 8

    @property
    def output_word_bytes(self) -> int:
        """Bytes of an output buffer word: as wide as the bus and as one POST result set."""
        return max(self.bus_bytes, self.post.lanes)

    @property
    def weight_line_bits(self) -> int:
        """Bits of a weight buffer line: one weight word for each row."""
        return self.array.rows * self.array.weight_word_bits

    @property
    def weight_lines(self) -> int:
        """Lines the weight buffer holds."""
        return self.buffers.weight_bytes * 8 // self.weight_line_bits

    @property
    def param_line_bits(self) -> int:
        """Bits of a parameter buffer line: 128 for each POST lane."""
        return 128 * self.post.lanes

    @property
    def param_lines(self) -> int:
        """Lines the parameter buffer holds."""
        return max(1, self.buffers.param_channels // self.post.lanes)

    @property
    def step_lines(self) -> int:
        """Lines of the step lists, a bus beat each; 0 where the core has none."""
        return self.buffers.step_entries * STEP_BITS // self.bus.data_bits

    @property
    def row_groups(self) -> int:
        """POST reads that one pixel of one column takes: rows / post lanes."""
        return self.array.rows // self.post.lanes

    @property
    def packs(self) -> bool:
        """Whether STORE packs values below 8 bits: some PE kind takes such activations."""
        return any(kind.act_bits < 8 for kind in self.array.kinds)

    @property
    def adds(self) -> bool:
        """Whether POST adds with two scales: part of the VECTOR path."""
        return PeKind.VECTOR in self.array.kinds

    def to_dict(self) -> dict[str, Any]:
        """The machine as plain TOML-like tables."""
        tables = dataclasses.asdict(self)
        del tables["timing"]
        tables["energy"] = dict(self.energy)
        return tables

    def digest(self) -> str:
        """Hash of everything that shapes the RTL and the model (not the memory's stalls, nor prices)."""
        tables = dataclasses.asdict(self)
        del tables["memory"], tables["energy"]
        text = json.dumps(tables, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
