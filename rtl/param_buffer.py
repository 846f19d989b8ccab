"""The parameter buffer: a memory a POST lane, written bus unit by bus unit, each read at its own line."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from .axi import clog2_shape
from .line_buffer import LineBuffer

__all__ = ["PARAM_BITS", "ParamBuffer"]

PARAM_BITS = 128
"""Of a lane's part of a line."""


class ParamBuffer(Component):
    """Lines of 128 bits a lane; a read a lane (latency 2) and a write (visible after 1), each 1 a cycle.

    Lanes lie side by side in a line. A unit narrower than 128 bits is a part of one lane's line, a wider one
    covers several lanes. A block RAM's data come late in the cycle, so a register follows.

    Ports:
        write: `w_en`, `w_line`, `w_unit` (which unit of the line), `w_data`.
        read: `r_line_<lane>` are taken when `r_en`; `r_data` has lane 0 low.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.lanes = machine.post.lanes
        self.lines = machine.param_lines
        self.unit_bits = machine.bus.data_bits
        line = clog2_shape(self.lines)
        super().__init__(
            {
                "w_en": In(1),
                "w_line": In(line),
                "w_unit": In(clog2_shape(machine.param_line_bits // self.unit_bits)),
                "w_data": In(self.unit_bits),
                "r_en": In(1),
                **{f"r_line_{lane}": In(line) for lane in range(self.lanes)},
                "r_data": Out(machine.param_line_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit_bits = min(self.unit_bits, PARAM_BITS)
        units_a_lane = PARAM_BITS // unit_bits
        lanes_a_unit = self.unit_bits // unit_bits
        for lane in range(self.lanes):
            memory = LineBuffer(lines=self.lines, line_bits=PARAM_BITS, unit_bits=unit_bits)
            m.submodules[f"lane_{lane}"] = memory
            first = lane * units_a_lane // lanes_a_unit  # unit that holds the lane's low end
            mine = (self.w_unit >= first) & (self.w_unit < first + units_a_lane)
            m.d.comb += [
                memory.w_en.eq(self.w_en & mine),
                memory.w_line.eq(self.w_line),
                memory.w_unit.eq(self.w_unit - first),
                memory.w_data.eq(self.w_data.word_select(lane % lanes_a_unit, unit_bits)),
                memory.r_en.eq(self.r_en),
                memory.r_line.eq(getattr(self, f"r_line_{lane}")),
            ]
            m.d.sync += self.r_data.word_select(lane, PARAM_BITS).eq(memory.r_data)
        return m
