"""A delay line: what travels beside a pipeline, in a memory instead of a register a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["DelayLine"]


class DelayLine(Component):
    """What came `cycles` cycles ago, registered; a value a cycle.

    A ring of memory that one pointer writes and reads; a reset leaves what is under way. So it is for what
    means something only beside a bit that is kept in registers.

    Args:
        width: bits of a value.
        cycles: 3 or more; fewer are cheaper in registers.

    Ports:
        given: the value.
        delayed: `cycles` later.
    """

    def __init__(self, *, width: int, cycles: int) -> None:
        if cycles < 3:
            raise ValueError(f"cycles must be at least 3, not {cycles}: take registers")
        self.cycles = cycles
        super().__init__({"given": In(width), "delayed": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.cycles - 1
        m.submodules.ring = ring = Memory(shape=len(self.given), depth=depth, init=[])
        write, read = ring.write_port(), ring.read_port(domain="comb")
        place = Signal(range(depth))
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(place),
            write.data.eq(self.given),
            read.addr.eq(place),
        ]
        m.d.sync += [
            place.eq(Mux(place == depth - 1, 0, place + 1)),
            self.delayed.eq(read.data),
        ]
        return m
