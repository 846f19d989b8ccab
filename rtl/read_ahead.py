"""READ AHEAD: a row of the output buffer as a stream, read before it is asked for."""

from __future__ import annotations

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import Opcode
from ..mapper.machine import Machine
from .commands import command_layout

__all__ = ["ReadAhead"]


class ReadAhead(Component):
    """One read a cycle from the cycle after `start` on; the first at the output 5 cycles after `start`.

    Reads are never held up on their way through the buffer: a credit is taken for each, and a queue holds all
    that are in flight. It has room for the whole way and back, so that a reader that takes one a cycle
    never waits. Unpacked, values lie in a read as in a beat; packed, each beat's reads begin with its
    first value.

    Ports:
        start: a row begins; all of the row before has been taken.
        buffer, run, offset: its first value, its values, and the byte of its first beat at which it begins.
        pack: of the STORE, constant in a row.
        read_addr, read_data: the output buffer's read port (latency 3).
        valid, data, ready: reads.
        within, last: which values of the read belong to the row, and whether it is its beat's last; only
            of packed rows.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        self.latency = machine.timing.buffer_read_latency
        bus_bytes = machine.bus_bytes
        super().__init__(
            {
                "start": In(1),
                "buffer": In(command_layout(Opcode.STORE, machine)["src"].width),
                "run": In(command_layout(Opcode.STORE, machine)["run"].width),
                "offset": In(range(bus_bytes)),
                "pack": In(2),
                "read_addr": Out((machine.buffers.output_bytes - 1).bit_length()),
                "read_data": In(8 * bus_bytes),
                "valid": Out(1),
                "data": Out(8 * bus_bytes),
                "within": Out(bus_bytes),
                "last": Out(1),
                "ready": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        bus_bytes = machine.bus_bytes
        # From a credit's way back to the read's place in the queue: a register each, and the buffer's.
        depth = self.latency + 2
        cursor = Signal.like(self.read_addr)
        reading = Signal()
        to_read = Signal(
            len(self.run) + 1
        )  # values to the row's end, unpacked from the first beat's low end on
        credits = Signal(range(depth + 1), init=depth)
        read = Signal()
        stages = Signal(self.latency)
        m.submodules.queue = queue = SyncFIFO(
            width=len(self.data) + (bus_bytes + 1 if machine.packs else 0), depth=depth
        )
        returned = self.valid & self.ready
        m.d.comb += [
            read.eq(reading & (credits != 0)),
            self.read_addr.eq(cursor),
            queue.w_en.eq(stages[-1]),
            self.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.ready),
        ]
        m.d.sync += [stages.eq(Cat(read, stages)), credits.eq(credits + returned - read)]
        if machine.packs:
            room = Signal(range(8 * bus_bytes + 1))  # values to the beat's end
            last_of_beat = room <= bus_bytes
            # Comparisons with one read's values: whether there are bits above them.
            shift = bus_bytes.bit_length() - 1
            whole = to_read[shift:].any()
            one_read = ~whole | (to_read == bus_bytes)
            # Of a beat's last read there is room for at most one read's values, as there are left of the row.
            fits = to_read[: shift + 1] <= room[: shift + 1]
            last_of_row = one_read & (~last_of_beat | fits)
            lasts = Signal(self.latency)
            within = [Signal(bus_bytes, name=f"within_{n}") for n in range(self.latency)]
            m.d.sync += [
                lasts.eq(Cat(last_of_beat | last_of_row, lasts)),
                within[0].eq(Cat(whole | (to_read[:shift] > i) for i in range(bus_bytes))),
                *(after.eq(before) for before, after in itertools.pairwise(within)),
            ]
            m.d.comb += [
                queue.w_data.eq(Cat(self.read_data, within[-1], lasts[-1])),
                Cat(self.data, self.within, self.last).eq(queue.r_data),
            ]
            values = Mux(last_of_beat, room, bus_bytes)
            with m.If(read):
                m.d.sync += [
                    cursor.eq(cursor + values),
                    to_read.eq(to_read - values),
                    reading.eq(~last_of_row),
                    room.eq(Mux(last_of_beat, bus_bytes << self.pack, room - bus_bytes)),
                ]
        else:
            m.d.comb += [queue.w_data.eq(self.read_data), self.data.eq(queue.r_data)]
            with m.If(read):
                m.d.sync += [
                    cursor.eq(cursor + bus_bytes),
                    to_read.eq(to_read - bus_bytes),
                    reading.eq(to_read > bus_bytes),
                ]
        with m.If(self.start):
            m.d.sync += [
                cursor.eq(self.buffer - self.offset),
                to_read.eq(self.offset + self.run),
                reading.eq(1),
            ]
            if machine.packs:
                m.d.sync += room.eq(bus_bytes)
                with m.If(self.pack != 0):
                    m.d.sync += [
                        cursor.eq(self.buffer),
                        to_read.eq(self.run),
                        room.eq((bus_bytes - self.offset) << self.pack),
                    ]
        return m
