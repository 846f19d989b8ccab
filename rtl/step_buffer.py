"""The buffer of step lists: written by bus beats, read an entry at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import STEP_BITS, Machine
from .axi import clog2_shape
from .line_buffer import LineBuffer

__all__ = ["StepBuffer"]


class StepBuffer(Component):
    """Step lists, `step_entries` of 32 bits: one read (latency 1) and one write port, each 1 a cycle.

    Ports:
        write: `w_en`, `w_line` (of a bus beat), `w_data`.
        read: `r_entry` is taken when `r_en`; `r_data` holds while `r_en` is low.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        super().__init__(
            {
                "w_en": In(1),
                "w_line": In(clog2_shape(machine.step_lines)),
                "w_data": In(machine.bus.data_bits),
                "r_en": In(1),
                "r_entry": In(clog2_shape(machine.buffers.step_entries)),
                "r_data": Out(STEP_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.machine.bus.data_bits
        m.submodules.lines = lines = LineBuffer(
            lines=self.machine.step_lines, line_bits=width, unit_bits=width
        )
        place = (width // STEP_BITS - 1).bit_length()
        m.d.comb += [
            lines.w_en.eq(self.w_en),
            lines.w_line.eq(self.w_line),
            lines.w_data.eq(self.w_data),
            lines.r_en.eq(self.r_en),
            lines.r_line.eq(self.r_entry[place:]),
        ]
        part = Signal(place)
        with m.If(self.r_en):
            m.d.sync += part.eq(self.r_entry[:place])
        m.d.comb += self.r_data.eq(lines.r_data.word_select(part, STEP_BITS) if place else lines.r_data)
        return m
