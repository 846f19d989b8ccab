"""STORE: output buffer to memory."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import COMMAND_BITS, TOKENS, Opcode
from ..mapper.machine import Machine
from .axi import ADDRESS_BITS, axi4_write
from .bursts import BurstCutter
from .commands import command_layout, command_view
from .countdown import Countdown
from .gather import Gather
from .read_ahead import ReadAhead
from .row_walk import RowWalk

__all__ = ["Store"]


class Store(Component):
    """Runs STORE: one burst at a time, one beat a cycle, B responses counted apart.

    IDLE takes a command when its tokens are there; ROW (one cycle) starts the reads, whose first beat
    is ready 5 cycles after it; AW while fewer than `write_outstanding` bursts lack their response; W; after
    the last row DRAIN until no response is missing, which posts the command's tokens. Where activations have
    fewer than 8 bits, a beat of packed values is gathered from up to 8 reads, a cycle each.

    Ports:
        command, present, take, post: command stream; tokens there, taken, posted.
        read_addr, read_data: the output buffer's read port (latency 3).
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
        offered = command_view(self.command.payload, Opcode.STORE, machine)
        current = Signal(command_layout(Opcode.STORE, machine))
        walk = RowWalk(buffer_bits=len(self.read_addr))

        bursts = BurstCutter(max_burst=machine.bus.max_burst, bus_bytes=bus_bytes, run_bits=len(current.run))
        row_bytes = Signal.like(current.run, name="row_bytes") if machine.packs else current.run
        row_done = Signal()  # no burst of the row after this one
        in_burst = Countdown(machine.bus.max_burst.bit_length(), name="beats")
        missing = Signal(range(machine.bus.write_outstanding + 1))

        # Reads run ahead of the beats.
        m.submodules.reads = reads = ReadAhead(machine=machine)
        taken = axi.wvalid & axi.wready
        m.d.comb += [
            self.read_addr.eq(reads.read_addr),
            reads.read_data.eq(self.read_data),
            reads.buffer.eq(walk.buffer),
            reads.run.eq(current.run),
            reads.offset.eq(walk.memory[:shift]),
        ]
        if machine.packs:
            m.d.comb += reads.pack.eq(current.pack)
            packing = Signal()  # from the cycle after ROW on
            m.d.sync += packing.eq(current.pack != 0)
            m.submodules.gather = gather = Gather(machine=machine)
            m.d.comb += [
                gather.start.eq(reads.start),
                gather.pack.eq(current.pack),
                gather.offset.eq(walk.memory[:shift]),
                gather.valid.eq(reads.valid & packing),
                gather.data.eq(reads.data),
                gather.within.eq(reads.within),
                gather.last.eq(reads.last),
                gather.taken.eq(taken),
                reads.ready.eq(Mux(packing, gather.ready, taken)),
                axi.wdata.eq(Mux(packing, gather.beat, reads.data)),
            ]
            beat_ready = Mux(packing, gather.full, reads.valid)
        else:
            m.d.comb += [reads.ready.eq(taken), axi.wdata.eq(reads.data)]
            beat_ready = reads.valid

        # Strobes: the first beat of a row starts at its offset, the last ends with its bytes.
        first_beat = Signal()
        left = Signal(len(current.run) + 1)  # bytes from the beat's low end to the row's end
        offset = walk.memory[:shift]
        whole = left[shift:].any()
        for i in range(bus_bytes):
            within = whole | (left[:shift] > i)
            m.d.comb += axi.wstrb[i].eq((~first_beat | (offset <= i)) & within)

        m.d.comb += [
            axi.awaddr.eq(bursts.address),
            axi.awlen.eq(bursts.beats - 1),
            axi.awsize.eq(shift),
            axi.awburst.eq(1),  # INCR
            axi.wlast.eq(in_burst.last),
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
                m.d.comb += reads.start.eq(1)
                m.d.sync += [first_beat.eq(1), left.eq(offset + row_bytes)]
                m.next = "AW"
            with m.State("AW"):
                m.d.comb += axi.awvalid.eq(missing != machine.bus.write_outstanding)
                with m.If(axi.awvalid & axi.awready):
                    bursts.step(m)
                    in_burst.load(m, bursts.beats)
                    m.d.sync += row_done.eq(bursts.last)
                    m.next = "W"
            with m.State("W"):
                m.d.comb += axi.wvalid.eq(beat_ready)
                with m.If(taken):
                    in_burst.step(m)
                    m.d.sync += [first_beat.eq(0), left.eq(left - bus_bytes)]
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
