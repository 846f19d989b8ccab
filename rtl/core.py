"""The core: control, sequencer, LOAD, EXECUTE, POST, STORE and the buffers between them."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..mapper.isa import COMMAND_BITS
from ..mapper.machine import Machine
from .array import ProcessingArray
from .axi import axi4_read, axi4_write, axi_lite
from .byte_buffer import ByteBuffer
from .control import Control
from .execute import Execute
from .line_buffer import LineBuffer
from .load import Load
from .post import Post
from .read_arbiter import ReadArbiter
from .sequencer import Sequencer
from .store import Store
from .tokens import TokenCounters

__all__ = ["Core"]


class Core(Component):
    """Bitwright's accelerator template for one machine; timing rules in docs/architecture.md.

    Ports:
        ctrl: AXI4-Lite registers (`control.Register`).
        read, write: the channels of one AXI4 master port.
        done: high from a run's end to the next start.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        super().__init__(
            {
                "ctrl": In(axi_lite()),
                "read": Out(axi4_read(machine.bus.data_bits)),
                "write": Out(axi4_write(machine.bus.data_bits)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        m.submodules.control = control = Control(identity=int(machine.digest()[:8], 16))
        m.submodules.sequencer = sequencer = Sequencer(machine=machine)
        m.submodules.read_arbiter = arbiter = ReadArbiter(data_bits=machine.bus.data_bits)
        m.submodules.tokens = tokens = TokenCounters(takers=3, posters=4)
        m.submodules.load = load = Load(machine=machine)
        m.submodules.execute = execute = Execute(machine=machine)
        m.submodules.array = array = ProcessingArray(machine=machine)
        m.submodules.post = post = Post(machine=machine)
        m.submodules.store = store = Store(machine=machine)
        connect(m, flipped(self.ctrl), control.bus)
        connect(m, arbiter.axi, flipped(self.read))
        connect(m, store.axi, flipped(self.write))

        units_idle = Signal()
        m.d.comb += [
            sequencer.start.eq(control.start),
            sequencer.base.eq(control.base),
            sequencer.length.eq(control.length),
            control.idle.eq(sequencer.idle & units_idle),
            control.error.eq(sequencer.error),
            control.error_command.eq(sequencer.error_command),
            control.write_response.eq(store.responded),
            self.done.eq(control.done),
            load.base.eq(control.base),
            store.base.eq(control.base),
        ]

        # Command queues and tokens.
        for number, (name, unit) in enumerate((("load", load), ("exec", execute), ("store", store))):
            queue = SyncFIFO(width=COMMAND_BITS, depth=machine.queues.commands)
            m.submodules[f"{name}_queue"] = queue
            source = getattr(sequencer, name)
            m.d.comb += [
                queue.w_data.eq(source.payload),
                queue.w_en.eq(source.valid),
                source.ready.eq(queue.w_rdy),
                unit.command.payload.eq(queue.r_data),
                unit.command.valid.eq(queue.r_rdy),
                queue.r_en.eq(unit.command.ready),
                unit.present.eq(tokens.present),
                getattr(tokens, f"take_{number}").eq(unit.take),
            ]
        m.d.comb += [
            tokens.clear.eq(control.start),
            *(
                getattr(tokens, f"post_{number}").eq(unit.post)
                for number, unit in enumerate((load, execute, post, store))
            ),
            units_idle.eq(load.idle & execute.idle & store.idle),
        ]

        # Reads.
        m.d.comb += [
            arbiter.fetch_request.eq(sequencer.ar_request),
            arbiter.fetch_address.eq(sequencer.ar_address),
            arbiter.fetch_beats.eq(sequencer.ar_beats),
            sequencer.ar_grant.eq(arbiter.fetch_grant),
            sequencer.r_valid.eq(arbiter.fetch_valid),
            sequencer.r_data.eq(arbiter.data),
            arbiter.load_request.eq(load.ar_request),
            arbiter.load_address.eq(load.ar_address),
            arbiter.load_beats.eq(load.ar_beats),
            load.ar_grant.eq(arbiter.load_grant),
            load.r_valid.eq(arbiter.load_valid),
            load.r_last.eq(arbiter.load_last),
            load.r_data.eq(arbiter.data),
            arbiter.load_ready.eq(load.r_ready),
        ]

        # Buffers.
        offset = Signal(20)
        for col in range(machine.array.cols):
            bank = ByteBuffer(
                size_bytes=machine.buffers.activation_bytes,
                word_bytes=machine.act_word_bytes,
                write_bytes=machine.bus_bytes,
                read_bytes=machine.act_word_bytes,
            )
            m.submodules[f"activation_{col}"] = bank
            m.d.comb += [
                bank.w_en.eq(load.act_en & load.act_cols[col]),
                bank.w_addr.eq(load.act_addr),
                bank.w_data.eq(load.data),
                bank.w_mask.eq(load.act_mask),
                bank.r_en.eq(1),
                bank.r_addr.eq(execute.act_addr + offset),
                getattr(array, f"act_{col}").eq(bank.r_data),
            ]
            following = Signal(20, name=f"column_offset_{col + 1}")
            m.d.sync += following.eq(offset + execute.act_col)
            offset = following
        m.submodules.weights = weights = LineBuffer(
            lines=machine.weight_lines,
            line_bits=machine.weight_line_bits,
            unit_bits=machine.bus.data_bits,
        )
        m.submodules.params = params = LineBuffer(
            lines=machine.param_lines,
            line_bits=machine.param_line_bits,
            unit_bits=machine.bus.data_bits,
        )
        m.d.comb += [
            weights.w_en.eq(load.weight_en),
            weights.w_line.eq(load.weight_line),
            weights.w_unit.eq(load.weight_unit),
            weights.w_data.eq(load.data),
            weights.r_en.eq(execute.weight_en),
            weights.r_line.eq(execute.weight_line),
            params.w_en.eq(load.param_en),
            params.w_line.eq(load.param_line),
            params.w_unit.eq(load.param_unit),
            params.w_data.eq(load.data),
            params.r_en.eq(post.param_en),
            params.r_line.eq(post.param_line),
        ]
        m.submodules.outputs = outputs = ByteBuffer(
            size_bytes=machine.buffers.output_bytes,
            word_bytes=machine.output_word_bytes,
            write_bytes=machine.post.lanes,
            read_bytes=machine.bus_bytes,
        )
        m.d.comb += [
            outputs.w_en.eq(post.w_en),
            outputs.w_addr.eq(post.w_addr),
            outputs.w_data.eq(post.w_data),
            outputs.w_mask.eq(post.w_mask),
            outputs.r_en.eq(store.read_en),
            outputs.r_addr.eq(store.read_addr),
            store.read_data.eq(outputs.r_data),
        ]

        # Array and POST.
        m.d.comb += [
            array.weight_line.eq(weights.r_data),
            array.weight_set.eq(execute.weight_set),
            array.acc_en.eq(execute.acc_en),
            array.acc_fresh.eq(execute.acc_fresh),
            array.acc_bank.eq(execute.acc_bank),
            array.acc_index.eq(execute.acc_index),
            array.drain_load.eq(post.drain_load),
            array.drain_bank.eq(post.drain_bank),
            array.drain_index.eq(post.drain_index),
            post.heads.eq(array.heads),
            post.output.eq(execute.output),
            post.param_data.eq(params.r_data),
            execute.drained.eq(post.drained),
            execute.finished.eq(post.finished),
        ]
        connect(m, execute.job, post.job)
        return m
