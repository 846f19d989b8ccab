"""STORE: output buffer to memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import COMMAND_BITS, TOKENS, Opcode
from ..mapper.machine import Machine
from .axi import ADDRESS_BITS, axi4_write
from .bursts import BurstCutter
from .commands import command_layout
from .row_walk import RowWalk

__all__ = ["Store"]


class Store(Component):
    """Runs STORE: one burst at a time, one beat a cycle, B responses counted apart.

    IDLE takes a command when its tokens are there; ROW (one cycle) starts the read pipeline, whose first beat
    is ready 3 cycles after it; AW while fewer than `write_outstanding` bursts lack their response; W; after
    the last row DRAIN until no response is missing, which posts the command's tokens.

    Ports:
        command, present, take, post: command stream; tokens there, taken, posted.
        read_en, read_addr, read_data: the output buffer's read port (latency 2, held while not enabled).
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
        row_done = Signal()  # no burst of the row after this one
        in_burst = Signal(range(machine.bus.max_burst + 1))
        missing = Signal(range(machine.bus.write_outstanding + 1))

        # Read pipeline: two stages in step with W, as the buffer's port has.
        cursor = Signal(20)
        to_read = Signal(21)
        stages = Signal(machine.timing.buffer_read_latency)
        data_ready = stages[-1]
        taken = axi.wvalid & axi.wready
        advance = Signal()
        m.d.comb += [
            advance.eq(~data_ready | taken),
            self.read_en.eq(advance),
            self.read_addr.eq(cursor),
        ]
        with m.If(advance):
            m.d.sync += stages.eq(Cat(to_read != 0, stages))
            with m.If(to_read != 0):
                m.d.sync += [cursor.eq(cursor + bus_bytes), to_read.eq(to_read - 1)]

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
            axi.wdata.eq(self.read_data),
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
                    walk.load(
                        m,
                        memory=self.base + offered.address,
                        buffer=offered.src,
                        rows=offered.rows,
                        planes=offered.planes,
                    )
                    m.next = "ROW"
            with m.State("ROW"):
                bursts.load(m, walk.memory, current.run)
                m.d.sync += [
                    to_read.eq((offset + current.run + (bus_bytes - 1)) >> shift),
                    cursor.eq(walk.buffer - offset),
                    first_beat.eq(1),
                    left.eq(offset + current.run),
                ]
                m.next = "AW"
            with m.State("AW"):
                m.d.comb += axi.awvalid.eq(missing != machine.bus.write_outstanding)
                with m.If(axi.awvalid & axi.awready):
                    bursts.step(m)
                    m.d.sync += [in_burst.eq(bursts.beats), row_done.eq(bursts.last)]
                    m.next = "W"
            with m.State("W"):
                m.d.comb += axi.wvalid.eq(data_ready)
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
