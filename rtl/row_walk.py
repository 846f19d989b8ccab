"""The walk of a 3-D copy: planes of rows, each row a run of bytes at both ends."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value

from .axi import ADDRESS_BITS
from .countdown import Countdown

__all__ = ["RowWalk"]


class RowWalk:
    """Where the current row lies in memory and in the buffer; LOAD and STORE walk alike.

    Not a component: its statements are added where a state machine loads or steps it.

    Args:
        buffer_bits: of an address in the buffer; it wraps.
    """

    def __init__(self, *, buffer_bits: int) -> None:
        self.memory = Signal(ADDRESS_BITS, name="row_memory")
        """First byte of the row in memory."""
        self.buffer = Signal(buffer_bits, name="row_buffer")
        """First byte of the row in the buffer, or the first line."""
        self.plane_memory = Signal(ADDRESS_BITS)
        self.plane_buffer = Signal(buffer_bits)
        self.rows = Countdown(12, name="rows")
        self.planes = Countdown(12, name="planes")

    @property
    def last(self) -> Value:
        """Whether this is the last row of the last plane."""
        return self.rows.last & self.planes.last

    def load(self, m: Module, *, memory: Value, buffer: Value, rows: Value, planes: Value) -> None:
        """Begin, in the next cycle, with the first row."""
        m.d.sync += [
            self.memory.eq(memory),
            self.plane_memory.eq(memory),
            self.buffer.eq(buffer),
            self.plane_buffer.eq(buffer),
        ]
        self.rows.load(m, rows)
        self.planes.load(m, planes)

    def step(
        self, m: Module, *, rows: Value, memory: tuple[Value, Value], buffer: tuple[Value, Value]
    ) -> None:
        """Go on, in the next cycle, to the row after this one.

        Args:
            m: takes the statements.
            rows: of a plane.
            memory, buffer: bytes from a row to the next and from a plane to the next.
        """
        plane_done = self.rows.last
        with m.If(plane_done):
            self.rows.load(m, rows)
            self.planes.step(m)
        with m.Else():
            self.rows.step(m)
        for here, plane, (row_stride, plane_stride) in (
            (self.memory, self.plane_memory, memory),
            (self.buffer, self.plane_buffer, buffer),
        ):
            with m.If(plane_done):
                m.d.sync += [here.eq(plane + plane_stride), plane.eq(plane + plane_stride)]
            with m.Else():
                m.d.sync += here.eq(here + row_stride)
