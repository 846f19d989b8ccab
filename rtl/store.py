"""STORE: output buffer to memory."""

from __future__ import annotations

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import COMMAND_BITS, TOKENS, Opcode
from ..mapper.machine import Machine
from .axi import ADDRESS_BITS, axi4_write
from .bursts import BurstCutter
from .commands import command_layout
from .gather import Gather
from .row_walk import RowWalk

__all__ = ["Store"]


class Store(Component):
    """Runs STORE: one burst at a time, one beat a cycle, B responses counted apart.

    IDLE takes a command when its tokens are there; ROW (one cycle) starts the read pipeline, whose first beat
    is ready 4 cycles after it; AW while fewer than `write_outstanding` bursts lack their response; W; after
    the last row DRAIN until no response is missing, which posts the command's tokens. Where activations have
    fewer than 8 bits, a beat of packed values is gathered from up to 8 reads, a cycle each.

    Ports:
        command, present, take, post: command stream; tokens there, taken, posted.
        read_en, read_addr, read_data: the output buffer's read port (latency 3, held while not enabled).
        axi: AW, W and B channels.
        responded: a B handshake.
        idle: no command is pending or running.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        super().__init__(
            {
                "base": In(ADDRESS_BITS),
                "command": In(stream.Signature(COMMAND_BITS)),
                "present": In(TOKENS),
                "take": Out(TOKENS),
                "post": Out(TOKENS),
                "read_en": Out(1),
                "read_addr": Out((machine.buffers.output_bytes - 1).bit_length()),
                "read_data": In(machine.bus.data_bits),
                "axi": Out(axi4_write(machine.bus.data_bits)),
                "responded": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, axi = self.machine, self.axi
        bus_bytes = machine.bus_bytes
        shift = bus_bytes.bit_length() - 1
        fields = command_layout(Opcode.STORE)
        offered = data.View(fields, self.command.payload[: fields.size])
        current = Signal(fields)
        walk = RowWalk()

        bursts = BurstCutter(max_burst=machine.bus.max_burst, bus_bytes=bus_bytes)
        row_bytes = Signal.like(current.run, name="row_bytes") if machine.packs else current.run
        row_done = Signal()  # no burst of the row after this one
        in_burst = Signal(range(machine.bus.max_burst + 1))
        missing = Signal(range(machine.bus.write_outstanding + 1))

        # Read pipeline: two stages in step with what takes its data, as the buffer's port has. Unpacked,
        # values lie in a read as in a beat; packed, each beat's reads begin with its first value.
        cursor = Signal(20)
        reading = Signal()
        to_read = Signal(21)  # values to the row's end, unpacked from the first beat's low end on
        stages = Signal(machine.timing.buffer_read_latency)
        data_ready = stages[-1]
        taken = axi.wvalid & axi.wready
        advance = Signal()
        last_of_row: Value = to_read <= bus_bytes
        read: ValueLike = bus_bytes
        m.d.comb += [
            self.read_en.eq(advance),
            self.read_addr.eq(cursor),
        ]
        if machine.packs:
            packing = current.pack != 0
            room = Signal(range(8 * bus_bytes + 1))  # values to the beat's end
            last_of_beat = room <= bus_bytes
            last_of_row = last_of_row & (~last_of_beat | (to_read <= room))
            read = Mux(last_of_beat, room, bus_bytes)
            m.submodules.gather = gather = Gather(machine=machine)
            lasts = Signal(len(stages))
            within = [Signal(bus_bytes, name=f"within_{n}") for n in range(len(stages))]
            with m.If(advance):
                m.d.sync += [
                    lasts.eq(Cat(last_of_beat | last_of_row, lasts)),
                    within[0].eq(Cat(to_read > i for i in range(bus_bytes))),
                    *(after.eq(before) for before, after in itertools.pairwise(within)),
                ]
                with m.If(reading):
                    m.d.sync += room.eq(Mux(last_of_beat, bus_bytes << current.pack, room - bus_bytes))
            m.d.comb += [
                gather.pack.eq(current.pack),
                gather.offset.eq(walk.memory[:shift]),
                gather.valid.eq(data_ready & packing),
                gather.data.eq(self.read_data),
                gather.within.eq(within[-1]),
                gather.last.eq(lasts[-1]),
                gather.taken.eq(taken),
                advance.eq(~data_ready | Mux(packing, gather.ready, taken)),
                axi.wdata.eq(Mux(packing, gather.beat, self.read_data)),
            ]
            beat_ready = Mux(packing, gather.full, data_ready)
        else:
            m.d.comb += [advance.eq(~data_ready | taken), axi.wdata.eq(self.read_data)]
            beat_ready = data_ready
        with m.If(advance):
            m.d.sync += stages.eq(Cat(reading, stages))
            with m.If(reading):
                m.d.sync += [
                    cursor.eq(cursor + read),
                    to_read.eq(to_read - read),
                    reading.eq(~last_of_row),
                ]

        # Strobes: the first beat of a row starts at its offset, the last ends with its bytes.
        first_beat = Signal()
        left = Signal(21)  # bytes from the beat's low end to the row's end
        offset = walk.memory[:shift]
        for i in range(bus_bytes):
            m.d.comb += axi.wstrb[i].eq((~first_beat | (offset <= i)) & (left > i))

        m.d.comb += [
            axi.awaddr.eq(bursts.address),
            axi.awlen.eq(bursts.beats - 1),
            axi.awsize.eq(shift),
            axi.awburst.eq(1),  # INCR
            axi.wlast.eq(in_burst == 1),
            axi.bready.eq(1),
            self.responded.eq(axi.bvalid & axi.bready),
        ]
        m.d.sync += missing.eq(missing + (axi.awvalid & axi.awready) - self.responded)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(~self.command.valid)
                with m.If(self.command.valid & ((self.present & offered.wait) == offered.wait)):
                    m.d.comb += [self.command.ready.eq(1), self.take.eq(offered.wait)]
                    m.d.sync += current.eq(offered)
                    if machine.packs:
                        m.d.sync += row_bytes.eq((offered.run + ((1 << offered.pack) - 1)) >> offered.pack)
                    walk.load(
                        m,
                        memory=self.base + offered.address,
                        buffer=offered.src,
                        rows=offered.rows,
                        planes=offered.planes,
                    )
                    m.next = "ROW"
            with m.State("ROW"):
                bursts.load(m, walk.memory, row_bytes)
                m.d.sync += [
                    cursor.eq(walk.buffer - offset),
                    reading.eq(1),
                    to_read.eq(offset + current.run),
                    first_beat.eq(1),
                    left.eq(offset + row_bytes),
                ]
                if machine.packs:
                    m.d.comb += gather.start.eq(1)
                    m.d.sync += room.eq(bus_bytes)
                    with m.If(packing):
                        m.d.sync += [
                            cursor.eq(walk.buffer),
                            to_read.eq(current.run),
                            room.eq((bus_bytes - offset) << current.pack),
                        ]
                m.next = "AW"
            with m.State("AW"):
                m.d.comb += axi.awvalid.eq(missing != machine.bus.write_outstanding)
                with m.If(axi.awvalid & axi.awready):
                    bursts.step(m)
                    m.d.sync += [in_burst.eq(bursts.beats), row_done.eq(bursts.last)]
                    m.next = "W"
            with m.State("W"):
                m.d.comb += axi.wvalid.eq(beat_ready)
                with m.If(taken):
                    m.d.sync += [
                        in_burst.eq(in_burst - 1),
                        first_beat.eq(0),
                        left.eq(left - bus_bytes),
                    ]
                    with m.If(axi.wlast):
                        with m.If(~row_done):
                            m.next = "AW"
                        with m.Elif(walk.last):
                            m.next = "DRAIN"
                        with m.Else():
                            m.next = "ROW"
                            walk.step(
                                m,
                                rows=current.rows,
                                memory=(current.dst_row, current.dst_plane),
                                buffer=(current.src_row, current.src_plane),
                            )
            with m.State("DRAIN"), m.If(missing == 0):
                m.d.comb += self.post.eq(current.post)
                m.next = "IDLE"
        return m
