"""SEQUENCER: fetches the program and hands each command to its unit."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..mapper.isa import COMMAND_BITS, COMMAND_BYTES, FIELDS, Opcode, Unit, unit_of
from ..mapper.machine import Machine
from .axi import ADDRESS_BITS
from .command_queue import CommandQueue

__all__ = ["Sequencer"]

OPCODE_BITS = dict(FIELDS[Opcode.END])["opcode"]


class Sequencer(Component):
    """Fetch with credits, then one command a cycle to the unit queues, which are its own.

    A command whose last beat arrives at t is at the FIFO's head from t + 1; dispatched at t', it is at its
    queue's head from t' + 1. Requests begin in the cycle after `start`. The FIFO has the opcodes alone: the
    commands lie in their units' queues from the first (`CommandQueue`).

    Ports:
        start, base, length: from CONTROL.
        ar_request, ar_address, ar_beats, ar_grant: to the read arbiter.
        r_valid, r_data: beats of its own reads; always taken.
        load, execute, store: the heads of the units' queues; after an unknown opcode they are dropped, as
            their tokens might never come.
        idle: nothing left to fetch or dispatch, and no command in a queue.
        error, error_command: sticky since `start`; an unknown opcode ends the program, and so does its last
            command where no END came.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        beats = max(1, COMMAND_BITS // machine.bus.data_bits) * machine.queues.fetch_burst
        super().__init__(
            {
                "start": In(1),
                "base": In(ADDRESS_BITS),
                "length": In(24),
                "ar_request": Out(1),
                "ar_address": Out(ADDRESS_BITS),
                "ar_beats": Out(range(beats + 1)),
                "ar_grant": In(1),
                "r_valid": In(1),
                "r_data": In(machine.bus.data_bits),
                "load": Out(stream.Signature(COMMAND_BITS)),
                "execute": Out(stream.Signature(COMMAND_BITS)),
                "store": Out(stream.Signature(COMMAND_BITS)),
                "idle": Out(1),
                "error": Out(1),
                "error_command": Out(24),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        queues = self.machine.queues
        m.submodules.fifo = fifo = SyncFIFO(width=OPCODE_BITS, depth=queues.fetch_commands)

        # Requests: whole commands, as many as there is room for.
        running = Signal()
        low_bits = queues.fetch_burst.bit_length() - 1
        bursts_left = Signal(24 - low_bits)  # of `fetch_burst` commands
        whole = Signal()  # there is one
        rest = Signal(max(1, low_bits))  # commands after them
        credits = Signal(range(queues.fetch_commands + 1), init=queues.fetch_commands)
        address = Signal(ADDRESS_BITS)
        count = Signal(range(queues.fetch_burst + 1))
        beats_a_command = COMMAND_BITS // self.machine.bus.data_bits
        dispatched = Signal()
        m.d.comb += [
            count.eq(Mux(whole, queues.fetch_burst, rest)),
            self.ar_request.eq(running & (count != 0) & (credits >= count)),
            self.ar_address.eq(address),
            self.ar_beats.eq(count * beats_a_command),
        ]
        granted = self.ar_request & self.ar_grant
        m.d.sync += credits.eq(credits - Mux(granted, count, 0) + dispatched)
        with m.If(granted):
            m.d.sync += address.eq(address + (count << (COMMAND_BYTES.bit_length() - 1)))
            with m.If(whole):
                m.d.sync += [bursts_left.eq(bursts_left - 1), whole.eq(bursts_left != 1)]
            with m.Else():
                m.d.sync += rest.eq(0)

        # Beats: the first one's opcode tells whose command it is. Credits guarantee the room.
        queue_of = {unit: CommandQueue(machine=self.machine, unit=unit) for unit in Unit}
        beat = Signal(range(max(2, beats_a_command)))
        coming, first_opcode = Signal(OPCODE_BITS), Signal(OPCODE_BITS)
        with m.If(self.r_valid):
            m.d.sync += beat.eq(Mux(beat == beats_a_command - 1, 0, beat + 1))
            with m.If(beat == 0):
                m.d.sync += first_opcode.eq(self.r_data[:OPCODE_BITS])
        m.d.comb += [
            coming.eq(Mux(beat == 0, self.r_data[:OPCODE_BITS], first_opcode)),
            fifo.w_data.eq(coming),
            fifo.w_en.eq(self.r_valid & (beat == beats_a_command - 1)),
        ]

        # Dispatch in order.
        opcode = fifo.r_data
        number = Signal(24)
        heads = {Unit.LOAD: self.load, Unit.EXEC: self.execute, Unit.STORE: self.store}
        for unit, queue in queue_of.items():
            m.submodules[f"{unit.name.lower()}_queue"] = queue
            connect(m, queue.head, flipped(heads[unit]))
            m.d.comb += [
                queue.clear.eq(self.start),
                queue.write.eq(self.r_valid & coming.matches(*_opcodes(unit))),
                queue.beat.eq(beat),
                queue.data.eq(self.r_data),
                queue.drop.eq(self.error),
            ]
        with m.If(running & fifo.r_rdy), m.Switch(opcode):
            for unit, queue in queue_of.items():
                with m.Case(*_opcodes(unit)):
                    m.d.comb += [queue.push.eq(queue.room), dispatched.eq(queue.room)]
            with m.Case(Opcode.END.value):
                m.d.comb += dispatched.eq(1)
                m.d.sync += running.eq(0)
            with m.Default():
                m.d.comb += dispatched.eq(1)
                m.d.sync += [running.eq(0), self.error.eq(1)]
        with m.Elif(~running):
            m.d.comb += dispatched.eq(fifo.r_rdy)  # what follows the end is dropped
        with m.Elif((credits == queues.fetch_commands) & (count == 0)):  # all are dispatched, none was END
            m.d.sync += [running.eq(0), self.error.eq(1)]
        m.d.comb += [
            fifo.r_en.eq(dispatched),
            self.error_command.eq(Mux(self.error, number, 0)),
        ]
        with m.If(running & dispatched & opcode.matches(*(op.value for op in Opcode))):
            m.d.sync += number.eq(number + 1)

        with m.If(self.start):
            m.d.sync += [
                bursts_left.eq(self.length >> low_bits),
                whole.eq(self.length >= queues.fetch_burst),
                rest.eq(self.length[:low_bits]),
                address.eq(self.base),
                running.eq(1),
                number.eq(0),
                self.error.eq(0),
            ]
        with m.Elif(~running):
            m.d.sync += [whole.eq(0), rest.eq(0)]
        empty = Cat(queue.empty for queue in queue_of.values()).all()
        m.d.comb += self.idle.eq(~running & (credits == queues.fetch_commands) & empty)
        return m


def _opcodes(unit: Unit) -> list[int]:
    return [opcode.value for opcode in Opcode if unit_of(opcode) is unit]
