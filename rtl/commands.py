"""Command layouts in hardware, made from the one table in `mapper/isa.py`, as wide as a machine needs."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Shape, Value, signed, unsigned
from amaranth.lib.data import StructLayout, View

from ..mapper.isa import FIELDS, SIGNED_FIELDS, Opcode, Unit, unit_of
from ..mapper.machine import Machine
from .axi import clog2_shape

__all__ = ["command_layout", "command_view", "used_places"]


def _used_widths(machine: Machine) -> dict[Opcode, dict[str, int]]:
    """Opcode → field → low bits that tell all values that `mapper/check.py` allows; without: all of them.

    Addresses and strides wrap with their buffer, counts end at what the buffer or the array holds.
    """
    array, buffers = machine.array, machine.buffers
    act, out, weight, param, step = (
        clog2_shape(count).width
        for count in (
            buffers.activation_bytes,
            buffers.output_bytes,
            machine.weight_lines,
            machine.param_lines,
            machine.step_lines,
        )
    )
    lines = (
        (machine.weight_lines, machine.weight_line_bits),
        (machine.param_lines, machine.param_line_bits),
        (machine.step_lines, machine.bus.data_bits),
    )
    listed = machine.step_lines > 0
    load = {
        "cols": array.cols,
        "dst": max(act, weight, param, step),
        "dst_row": act,
        "dst_plane": act,
        "run": max(buffers.activation_bytes, *(count * bits // 8 for count, bits in lines)).bit_length(),
        "wrap": max(bits // machine.bus.data_bits for _, bits in lines).bit_length(),
    }
    return {
        Opcode.LOAD: load,
        Opcode.FILL: load,
        Opcode.GEOMETRY: {
            **dict.fromkeys(("tile_x", "tile_y"), array.acc_depth.bit_length()),
            "tail": max(array.lanes(kind) for kind in array.kinds).bit_length(),
            **dict.fromkeys(("pixel_x", "pixel_y", "tap_x", "tap_y"), act),
            **dict.fromkeys(("act_tile_x", "act_tile_y", "act_group"), act),
            "act_col": act if array.cols > 1 else 0,
            "weight_group": weight,
            "listed": int(listed),
        },
        Opcode.OUTPUT: {
            **dict.fromkeys(("pixel_x", "pixel_y", "tile_x", "tile_y", "group"), out),
            "col": out if array.cols > 1 else 0,
            **dict.fromkeys(("param_set", "param_group"), param),
            **({} if machine.adds else dict.fromkeys(("sum_multiplier", "sum_shift", "planes"), 0)),
        },
        Opcode.EXEC: {
            "act": act,
            "weight": weight,
            "param": param,
            "out": out,
            "cols": array.cols.bit_length(),
            "rows_last": array.rows.bit_length(),
            "list": clog2_shape(buffers.step_entries).width if listed else 0,
        },
        Opcode.STORE: {
            **({} if machine.packs else {"pack": 0}),
            **dict.fromkeys(("src", "src_row", "src_plane"), out),
            "run": buffers.output_bytes.bit_length(),
        },
    }


def _fields(opcode: Opcode, machine: Machine) -> list[tuple[str, int, int]]:
    """Name, first bit and used bits of each field that the machine uses."""
    widths: Mapping[str, int] = _used_widths(machine)[opcode]
    fields = []
    place = 0
    for name, width in FIELDS[opcode]:
        used = min(width, widths.get(name, width))
        if used:
            fields.append((name, place, used))
        place += width
    return fields


def command_layout(opcode: Opcode, machine: Machine) -> StructLayout:
    """The fields of a command side by side, those and those bits of them that the machine uses."""

    def shape(name: str, width: int) -> Shape:
        return signed(width) if name in SIGNED_FIELDS else unsigned(width)

    return StructLayout({name: shape(name, width) for name, _, width in _fields(opcode, machine)})


def command_view(payload: Value, opcode: Opcode, machine: Machine) -> View[StructLayout]:
    """The fields of the command in `payload`, laid out as in memory."""
    parts = [payload[place : place + width] for _, place, width in _fields(opcode, machine)]
    return View(command_layout(opcode, machine), Cat(parts))


def used_places(unit: Unit, machine: Machine) -> list[int]:
    """The bits of a command, as in memory, that the unit looks at; the others of its queue read as zero."""
    opcodes = [opcode for opcode in Opcode if unit_of(opcode) is unit]
    places = {
        bit
        for opcode in opcodes
        for name, place, width in _fields(opcode, machine)
        if name != "opcode" or len(opcodes) > 1
        for bit in range(place, place + width)
    }
    highest = max(opcodes).bit_length()
    return sorted(bit for bit in places if bit < highest or bit >= dict(FIELDS[opcodes[0]])["opcode"])
