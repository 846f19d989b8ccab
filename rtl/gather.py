"""GATHER: values, a byte each in the output buffer, densely packed into beats."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import PACKED_BITS
from ..mapper.machine import Machine

__all__ = ["Gather"]


class Gather(Component):
    """Packs reads of the output buffer into a beat: one read a cycle, the beat the cycle after its last.

    A read brings as many values as the bus has bytes; the low 4 or 2 bits of each, or its inverted sign,
    go side by side to the next place in the beat. What passes the beat's end is dropped.

    Ports:
        start, offset: a row begins: the byte of the beat at which its first value lies.
        pack: 1, 2 or 3, constant in a row.
        valid, data, within, last: a read, the mask of its values that belong to the row, and whether it is
            the beat's last; taken in cycles with `ready`.
        full, beat: the packed beat, until `taken`.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.bus_bytes = machine.bus_bytes
        bus_bits = machine.bus.data_bits
        super().__init__(
            {
                "start": In(1),
                "offset": In(range(self.bus_bytes)),
                "pack": In(2),
                "valid": In(1),
                "data": In(bus_bits),
                "within": In(self.bus_bytes),
                "last": In(1),
                "ready": Out(1),
                "full": Out(1),
                "beat": Out(bus_bits),
                "taken": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = self.bus_bytes
        unit = min(8, count)  # bits: the least that a read moves on by
        places = 8 * count // unit
        place = Signal(range(places))
        fresh = Signal()

        packed = Signal(4 * count)
        with m.Switch(self.pack):
            for pack in (1, 2, 3):
                with m.Case(pack):
                    m.d.comb += packed.eq(Cat(self._value(i, PACKED_BITS[pack]) for i in range(count)))
        moved = Signal(8 * count)
        m.d.comb += [
            moved.eq(packed << (place * unit)),
            self.ready.eq(~self.full | self.taken),
        ]
        step = Array(PACKED_BITS[pack] * count // unit for pack in range(4))[self.pack]
        with m.If(self.taken):
            m.d.sync += self.full.eq(0)
        with m.If(self.valid & self.ready):
            m.d.sync += [
                self.beat.eq(Mux(fresh, 0, self.beat) | moved),
                fresh.eq(self.last),
                self.full.eq(self.last),
                place.eq(Mux(self.last, 0, place + step)),
            ]
        with m.If(self.start):
            m.d.sync += [place.eq(self.offset * (8 // unit)), fresh.eq(1), self.full.eq(0)]
        return m

    def _value(self, i: int, width: int) -> Value:
        byte = self.data.word_select(i, 8)
        value = ~byte[7] if width == 1 else byte[:width]
        return value & self.within[i].replicate(width)
