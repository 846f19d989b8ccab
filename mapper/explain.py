"""A mapping as people write it: the loop nest, with what each buffer holds and moves."""

from __future__ import annotations

from .isa import PostMode
from .machine import Machine
from .mapping import Capacity, ColumnMode, LoopOrder, Mapping
from .traffic import activation_beats, passes, pixel_work, weight_bytes

__all__ = ["explain_mapping"]


def _bytes(count: int) -> str:
    return f"{count:,} B".replace(",", " ")


def _loop(name: str, size: int, step: int) -> str:
    if step >= size:
        return f"{name} = 0 … {size - 1}, all at once" if size > 1 else f"{name} = 0"
    ragged = f", the last {size % step}" if size % step else ""
    return f"for {name} in 0, {step}, … < {size}{ragged}"


def explain_mapping(mapping: Mapping, machine: Machine, capacity: Capacity) -> list[str]:
    """Lines of text: the layer's loops from the outermost in, each operand where a tile of it is loaded.

    Args:
        mapping: of one layer, legal for `capacity`.
        machine: where it runs.
        capacity: what a tile may take of each buffer.
    """
    shape, work = mapping.shape, pixel_work(mapping)
    array, kind = machine.array, shape.pe
    act, weight, param = passes(mapping, capacity, work)
    act_moved = act * activation_beats(mapping, machine.bus_bytes, capacity.act_slots) * machine.bus_bytes
    weight_moved = weight * weight_bytes(mapping, machine)
    params = shape.param_lines(mapping.all_groups, machine.row_groups) * machine.param_line_bits // 8
    banks = f"{mapping.tile_columns} banks" if mapping.tile_columns > 1 else "1 bank"
    how = "the same in each" if mapping.mode is ColumnMode.SHARED else "its own rows in each"
    activations = (
        f"activations: {_bytes(mapping.bank_bytes())} of {_bytes(capacity.act_bytes)} in {banks}"
        f"{', ' + how if mapping.tile_columns > 1 else ''}; {capacity.act_slots} slots; DRAM moves "
        f"{_bytes(act_moved)} in all"
    )
    line = machine.weight_line_bits // 8
    weights = (
        f"weights: {_bytes(mapping.tile_lines(machine) * line)} of {_bytes(capacity.weight_lines * line)}; "
        f"{capacity.weight_slots} slots; DRAM moves {_bytes(weight_moved)} of weights, "
        f"{_bytes(param * params)} of parameters"
    )
    lane_wise = kind.lane_wise
    pixels = [
        _loop("oy", shape.OY, mapping.columns * mapping.column_rows),
        _loop("ox", shape.OX, mapping.tile_x),
    ]
    channels = [_loop("k", shape.K, mapping.k_tile)]
    reduction = f"C {shape.reduced} × FY {shape.FY} × FX {shape.FX}"
    lines = [
        f"{shape.name}: K {shape.K} × OY {shape.OY} × OX {shape.OX} × {reduction}, {kind.key}, on "
        f"{array.rows} rows × {mapping.tile_columns} of {array.cols} columns × {array.lanes(kind)} lanes"
    ]
    depth = 0

    def put(text: str, note: str = "") -> None:
        lines.append("  " * depth + text + (f"   # {note}" if note else ""))

    def nest(loops: list[str], note: str) -> None:
        nonlocal depth
        for number, text in enumerate(loops):
            put(text + ":", note if number == len(loops) - 1 else "")
            depth += 1

    split_note = " (per chunk, see below)"
    act_note = activations + (split_note if mapping.act_chunked else "")
    weight_note = weights + (split_note if mapping.weight_chunked else "")
    if mapping.order is LoopOrder.WEIGHTS:
        nest(channels, weight_note)
        nest(pixels, act_note)
    else:
        nest(pixels, "" if lane_wise else act_note)
        nest(channels, weight_note)
        if lane_wise:
            put("", act_note)
    walks = [mapping.geometry(chunk, machine) for chunk in mapping.chunks]
    steps = sum(walk.steps for walk in walks)
    tile = f"{mapping.acc_y} × {mapping.acc_x} pixels a column"
    each = min(mapping.column_rows, shape.OY)
    rows = f"a column takes {each} row{'s' * (each > 1)} of outputs"
    if len(walks) == 1:
        put(f"for group of {array.rows} channels in the K tile:", "one EXEC does all that follows")
        depth += 1
        put(f"for accumulator tile of {tile}:", f"{array.acc_depth} accumulators a PE; {rows}")
        depth += 1
    else:
        put(f"for accumulator tile of {tile}:", rows)
        depth += 1
        put(f"for group of {array.rows} channels in the K tile:")
        depth += 1
        put(f"for chunk of the reduction ({len(walks)}):", "an EXEC each; accumulators go on")
        depth += 1
    run = "channel" if lane_wise else f"lane set of {array.lanes(kind)} values"
    kept = mapping.kept(machine)
    if kept is None:
        put(f"for fy, fx, {run} ({steps} steps):", "a weight word is held")
    else:
        share = f"{sum(kept.counts)} of {kept.mask.size} steps of all groups"
        put(f"for {run} in the group's step list ({share}):", "a weight word is held; zero ones are left out")
    depth += 1
    put(
        "for pixel of the accumulator tile:",
        f"a cycle each: {array.rows} rows, all columns and lanes at once",
    )
    depth -= 1
    depth -= 1
    mode = {
        PostMode.REQUANTIZE: "requantise",
        PostMode.THRESHOLDS: "thresholds",
        PostMode.ADD: "add",
        PostMode.PLANES: f"sum of {shape.planes} planes",
    }
    pool = f", max pool {shape.pool_y} × {shape.pool_x}" if shape.pool_y * shape.pool_x > 1 else ""
    if shape.mode is PostMode.ADD:
        pool = ""
    put(
        f"POST: {mode[shape.mode]}{pool}",
        f"outputs: {_bytes(mapping.output_bytes())} of {_bytes(capacity.out_bytes)}; {capacity.out_slots} "
        f"slots; DRAM moves {_bytes(mapping.write_bytes)} in all",
    )
    return lines
