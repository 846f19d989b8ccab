"""A unit's command queue, which fetched commands are written to before they are handed to it."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import COMMAND_BITS, Unit
from ..mapper.machine import Machine
from .commands import used_places

__all__ = ["CommandQueue"]


class CommandQueue(Component):
    """Commands in order; one handed over at t is at the head from t + 1, one a cycle; the head is a register.

    A command is written as its beats come, and belongs to the queue once it is handed over. So one memory is
    both the unit's queue and its part of the fetch FIFO: it holds `queues.commands` and
    `queues.fetch_commands`, of each the bits that the unit looks at. And as a command lies there before it is
    handed over, it can be read in that cycle: units decide by a register, not by what a memory reads.

    Ports:
        clear: no command, neither in the queue nor written.
        write, beat, data: a beat of a command for this unit, and which of the command it is.
        push: the oldest written command that isn't in the queue comes into it.
        room: the queue is not full.
        head: the oldest command, its other bits zero.
        drop: no head is offered; what is in the queue leaves, one a cycle.
        empty: the queue has no command.
    """

    def __init__(self, *, machine: Machine, unit: Unit) -> None:
        self.machine = machine
        self.unit = unit
        self.beats = COMMAND_BITS // machine.bus.data_bits
        super().__init__(
            {
                "clear": In(1),
                "write": In(1),
                "beat": In(range(max(2, self.beats))),
                "data": In(machine.bus.data_bits),
                "push": In(1),
                "room": Out(1),
                "head": Out(stream.Signature(COMMAND_BITS)),
                "drop": In(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        queues, bits = self.machine.queues, self.machine.bus.data_bits
        depth = queues.commands + queues.fetch_commands
        # What comes to the head next: without one it is read in each cycle, so that it is there when pushed.
        following, end = Signal(range(depth)), Signal(range(depth))
        held = Signal(range(queues.commands + 1))
        leaves, comes = Signal(), Signal()

        word = [Const(0, 1)] * COMMAND_BITS
        used = used_places(self.unit, self.machine)
        for beat in range(self.beats):
            places = [place for place in used if place // bits == beat]
            if not places:
                continue
            m.submodules[f"beat_{beat}"] = memory = Memory(shape=len(places), depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(self.write & (self.beat == beat)),
                write.addr.eq(end),
                write.data.eq(Cat(self.data[place % bits] for place in places)),
                read.addr.eq(following),
            ]
            kept = Signal(len(places), name=f"head_{beat}", reset_less=True)
            with m.If(leaves | self.empty):
                m.d.sync += kept.eq(read.data)
            for number, place in enumerate(places):
                word[place] = kept[number]

        m.d.comb += [
            self.empty.eq(held == 0),
            self.room.eq(held != queues.commands),
            self.head.valid.eq(~self.empty & ~self.drop),
            self.head.payload.eq(Cat(word)),
            leaves.eq(~self.empty & (self.head.ready | self.drop)),
            comes.eq(Mux(self.empty, self.push, leaves & ((held != 1) | self.push))),
        ]
        m.d.sync += held.eq(held + self.push - leaves)
        for pointer, moves in ((following, comes), (end, self.write & (self.beat == self.beats - 1))):
            with m.If(moves):
                m.d.sync += pointer.eq(Mux(pointer == depth - 1, 0, pointer + 1))
        with m.If(self.clear):
            m.d.sync += [following.eq(0), end.eq(0)]
        return m
