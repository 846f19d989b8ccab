"""A buffer that is written bus unit by bus unit and read a whole line at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from .axi import clog2_shape

__all__ = ["LineBuffer"]


class LineBuffer(Component):
    """Line-addressed memory, one read (latency 1) and one write port (visible after 1), each 1 a cycle.

    Synthesis takes no care of a line that is read in the cycle in which it is written: tokens keep such a
    pair apart, and logic between the block RAM and its reader would cost more than a nanosecond.

    Args:
        lines: depth.
        line_bits: width of a line, a multiple of `unit_bits`.
        unit_bits: width of a write.

    Ports:
        write: `w_en`, `w_line`, `w_unit` (which unit of the line), `w_data`.
        read: `r_line` is taken when `r_en`; `r_data` holds while `r_en` is low.
    """

    def __init__(self, *, lines: int, line_bits: int, unit_bits: int) -> None:
        if line_bits % unit_bits:
            raise ValueError(f"line_bits must be a multiple of unit_bits ({unit_bits}), not {line_bits}")
        self.lines = lines
        self.line_bits = line_bits
        self.unit_bits = unit_bits
        super().__init__(
            {
                "w_en": In(1),
                "w_line": In(clog2_shape(lines)),
                "w_unit": In(clog2_shape(line_bits // unit_bits)),
                "w_data": In(unit_bits),
                "r_en": In(1),
                "r_line": In(clog2_shape(lines)),
                "r_data": Out(line_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        units = self.line_bits // self.unit_bits
        m.submodules.memory = memory = Memory(
            shape=unsigned(self.line_bits), depth=self.lines, init=[], attrs={"no_rw_check": 1}
        )
        write = memory.write_port(granularity=self.unit_bits)
        read = memory.read_port()
        enable = Signal(units)
        m.d.comb += [
            enable.eq(self.w_en << self.w_unit),
            write.addr.eq(self.w_line),
            write.data.eq(self.w_data.replicate(units)),
            write.en.eq(enable),
            read.addr.eq(self.r_line),
            read.en.eq(self.r_en),
            self.r_data.eq(read.data),
        ]
        return m
