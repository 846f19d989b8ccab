"""The core: control, sequencer, LOAD, EXECUTE, POST, STORE and the buffers between them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from .array import ProcessingArray
from .axi import axi4_read, axi4_write, axi_lite
from .byte_buffer import ByteBuffer
from .control import Control
from .execute import Execute
from .line_buffer import LineBuffer
from .load import Load
from .param_buffer import ParamBuffer
from .post import Post
from .read_arbiter import ReadArbiter
from .sequencer import Sequencer
from .step_buffer import StepBuffer
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
        parts: dict[str, Any] = {
            "control": Control(identity=int(machine.digest()[:8], 16)),
            "sequencer": Sequencer(machine=machine),
            "read_arbiter": ReadArbiter(data_bits=machine.bus.data_bits),
            "tokens": TokenCounters(takers=3, posters=4),
            "load": Load(machine=machine),
            "execute": Execute(machine=machine),
            "array": ProcessingArray(machine=machine),
            "post": Post(machine=machine),
            "store": Store(machine=machine),
        }
        for name, part in parts.items():
            m.submodules[name] = part
        self._connect_control(m, parts)
        self._connect_commands(m, parts)
        self._connect_memory(m, parts)
        self._connect_operands(m, parts)
        self._connect_results(m, parts)
        return m

    def _connect_control(self, m: Module, parts: dict[str, Any]) -> None:
        """Registers, program start and end."""
        control, sequencer = parts["control"], parts["sequencer"]
        load, store = parts["load"], parts["store"]
        connect(m, flipped(self.ctrl), control.bus)
        m.d.comb += [
            sequencer.start.eq(control.start),
            sequencer.base.eq(control.base),
            sequencer.length.eq(control.length),
            control.idle.eq(sequencer.idle & load.idle & parts["execute"].idle & store.idle),
            control.error.eq(sequencer.error),
            control.error_command.eq(sequencer.error_command),
            control.write_response.eq(store.responded),
            self.done.eq(control.done),
            load.base.eq(control.base),
            store.base.eq(control.base),
            parts["tokens"].clear.eq(control.start),
        ]

    def _connect_commands(self, m: Module, parts: dict[str, Any]) -> None:
        """Commands to the units, tokens between them."""
        tokens = parts["tokens"]
        for number, name in enumerate(("load", "execute", "store")):
            unit = parts[name]
            connect(m, getattr(parts["sequencer"], name), unit.command)
            m.d.comb += [
                unit.present.eq(tokens.present),
                getattr(tokens, f"take_{number}").eq(unit.take),
            ]
        for number, name in enumerate(("load", "execute", "post", "store")):
            m.d.comb += getattr(tokens, f"post_{number}").eq(parts[name].post)

    def _connect_memory(self, m: Module, parts: dict[str, Any]) -> None:
        """The AXI4 port: fetch and LOAD read, STORE writes."""
        arbiter, sequencer, load = parts["read_arbiter"], parts["sequencer"], parts["load"]
        connect(m, arbiter.axi, flipped(self.read))
        connect(m, parts["store"].axi, flipped(self.write))
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

    def _connect_operands(self, m: Module, parts: dict[str, Any]) -> None:
        """LOAD to the operand buffers, and these to the array and POST."""
        machine = self.machine
        load, execute, array, post = (parts[name] for name in ("load", "execute", "array", "post"))
        # LOAD's writes are registered on their way: the tokens of a read take longer.
        written: dict[str, Signal] = {}
        for name in ("act_en", "act_cols", "act_addr", "act_mask", "data"):
            written[name] = _registered(m, getattr(load, name), f"load_{name}")
        for name in ("weight", "param"):
            for field in ("en", "line", "unit"):
                part = f"{name}_{field}"
                written[part] = _registered(m, getattr(load, part), f"load_{part}")
        # As much of an activation word as the machine's kinds take.
        operand_bytes = max(machine.array.lane_bytes(kind) for kind in machine.array.kinds)
        if PeKind.VECTOR in machine.array.kinds:
            operand_bytes = max(operand_bytes, machine.array.rows)
        for col in range(machine.array.cols):
            # act_col changes with GEOMETRY only, whose successor issues no earlier than two cycles later.
            offset = Signal.like(execute.act_col, name=f"column_offset_{col}")
            m.d.sync += offset.eq(execute.act_col * col)
            bank = ByteBuffer(
                size_bytes=machine.buffers.activation_bytes,
                word_bytes=max(operand_bytes, machine.bus_bytes),
                write_bytes=machine.bus_bytes,
                read_bytes=operand_bytes,
            )
            m.submodules[f"activation_{col}"] = bank
            m.d.comb += [
                bank.w_en.eq(written["act_en"] & written["act_cols"][col]),
                bank.w_addr.eq(written["act_addr"]),
                bank.w_data.eq(written["data"]),
                bank.w_mask.eq(written["act_mask"]),
                bank.r_addr.eq(execute.act_addr + offset),
                getattr(array, f"act_{col}").eq(bank.r_data),
            ]
        weights = LineBuffer(
            lines=machine.weight_lines, line_bits=machine.weight_line_bits, unit_bits=machine.bus.data_bits
        )
        m.submodules.weight = weights
        m.submodules.param = params = ParamBuffer(machine=machine)
        for name, buffer in (("weight", weights), ("param", params)):
            m.d.comb += [
                buffer.w_en.eq(written[f"{name}_en"]),
                buffer.w_line.eq(written[f"{name}_line"]),
                buffer.w_unit.eq(written[f"{name}_unit"]),
                buffer.w_data.eq(written["data"]),
            ]
        for lane in range(machine.post.lanes):
            m.d.comb += getattr(params, f"r_line_{lane}").eq(getattr(post, f"param_line_{lane}"))
        if machine.step_lines:
            m.submodules.steps = steps = StepBuffer(machine=machine)
            for field in ("en", "line"):
                part = f"step_{field}"
                written[part] = _registered(m, getattr(load, part), f"load_{part}")
            m.d.comb += [
                steps.w_en.eq(written["step_en"]),
                steps.w_line.eq(written["step_line"]),
                steps.w_data.eq(written["data"]),
                steps.r_en.eq(execute.step_en),
                steps.r_entry.eq(execute.step_entry),
                execute.step_data.eq(steps.r_data),
            ]
        m.d.comb += [
            weights.r_en.eq(execute.weight_en),
            weights.r_line.eq(execute.weight_line),
            array.weight_line.eq(weights.r_data),
            params.r_en.eq(post.param_en),
            post.param_data.eq(params.r_data),
            *(
                getattr(array, name).eq(getattr(execute, name))
                for name in (
                    "pe",
                    "tail",
                    "last_set",
                    "weight_set",
                    "acc_en",
                    "acc_fresh",
                    "acc_bank",
                    "acc_index",
                )
            ),
        ]

    def _connect_results(self, m: Module, parts: dict[str, Any]) -> None:
        """The array through POST to the output buffer, and this to STORE."""
        machine = self.machine
        execute, array, post, store = (parts[name] for name in ("execute", "array", "post", "store"))
        outputs = ByteBuffer(
            size_bytes=machine.buffers.output_bytes,
            word_bytes=machine.output_word_bytes,
            write_bytes=machine.post.lanes,
            read_bytes=machine.bus_bytes,
        )
        m.submodules.output = outputs
        connect(m, execute.job, post.job)
        m.d.comb += [
            *(
                getattr(array, name).eq(getattr(post, name))
                for name in ("drain_en", "drain_load", "drain_bank", "drain_index")
            ),
            post.heads.eq(array.heads),
            post.output.eq(execute.output),
            execute.drained.eq(post.drained),
            execute.finished.eq(post.finished),
            *(
                getattr(outputs, name).eq(getattr(post, name))
                for name in ("w_en", "w_addr", "w_data", "w_mask")
            ),
            outputs.r_addr.eq(store.read_addr),
            store.read_data.eq(outputs.r_data),
        ]


def _registered(m: Module, signal: Signal, name: str) -> Signal:
    """`signal` a cycle later."""
    later = Signal(signal.shape(), name=name)
    m.d.sync += later.eq(signal)
    return later
