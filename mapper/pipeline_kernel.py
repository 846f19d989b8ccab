"""How long the tiles of one layer take, by a pipeline of LOAD, array, POST and STORE: kernels.

An estimate, not the cycle model: transfers take the larger of their beats, their bursts' requests and what
the bursts in flight allow; tiles wait for their slots; the array waits for its operands. What it leaves
out: who comes first at the arbiter, queues that are full, stalls of the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit

__all__ = ["CORE", "LAYER", "TILE", "pixel_tiles", "run_pipeline", "store_cost", "transfer_cycles"]

CORE = (
    "bus", "burst", "reads", "read_latency", "write_latency", "interval", "array_latency", "post_latency",
    "store_latency", "token", "row_groups", "command",
)  # fmt: skip
"""Entries of `core`: bytes of a beat, beats of a burst, bursts in flight, then cycles; `command` is beats."""
(
    C_BUS, C_BURST, C_READS, C_READ_LATENCY, C_WRITE_LATENCY, C_INTERVAL, C_ARRAY_LATENCY, C_POST_LATENCY,
    C_STORE_LATENCY, C_TOKEN, C_ROW_GROUPS, C_COMMAND,
) = range(12)  # fmt: skip

LAYER = (
    "OX", "pool_y", "pool_x", "width", "turns", "pitch", "out_pitch", "out_step", "out_bits", "slots",
    "steps", "K", "rows", "groups", "lane_wise", "alike", "ones", "lines", "line", "last_line", "params",
    "overlaps",
)  # fmt: skip
"""Entries of `layer`: `width` pixels of an input row, `turns` operands that lie row by row in turn, `pitch`
bytes from an input pixel to the next, `slots` cycles of a POST read, `steps` of a pixel, `groups` of `rows`
channels, weight `lines` of a group and bytes in memory of one, bytes of parameters of a group."""
(
    L_OX, L_POOL_Y, L_POOL_X, L_WIDTH, L_TURNS, L_PITCH, L_OUT_PITCH, L_OUT_STEP, L_OUT_BITS, L_SLOTS,
    L_STEPS, L_K, L_ROWS, L_GROUPS, L_LANE_WISE, L_ALIKE, L_ONES, L_LINES, L_LINE, L_LAST_LINE, L_PARAMS,
    L_OVERLAPS,
) = range(22)  # fmt: skip

TILE = (
    "load", "issue", "drain", "last_drain", "pixels", "accumulators", "height", "width", "beats", "written",
    "commands", "columns",
)  # fmt: skip
"""Columns of `tiles`, an entry a pixel tile: cycles of its LOADs, of a group's issues, drains, and
last drain; pixels of a column, accumulator tiles, results high and wide, beats, bytes into all banks,
commands, array columns used."""
(
    T_LOAD, T_ISSUE, T_DRAIN, T_LAST, T_PIXELS, T_ACCUMULATORS, T_HEIGHT, T_WIDTH, T_BEATS, T_WRITTEN,
    T_COMMANDS, T_COLUMNS,
) = range(12)  # fmt: skip


@njit
def transfer_cycles(core: Any, data: int, beats: int, bursts: int, rows: int, commands: int) -> int:
    """Cycles of LOAD's data side: `data` are those of padding, the rest are reads."""
    reads = (beats + commands * core[C_COMMAND]) * core[C_INTERVAL]
    flight = (bursts * (core[C_READ_LATENCY] + 4) + beats * core[C_INTERVAL]) // core[C_READS]
    return int(max(data + reads, rows + bursts + commands, flight))


@njit
def _run_beats(first: int, run: int, step: int, count: int, bus: int, burst: int, found: Any) -> None:
    """Nothing; adds to `found` (beats, bursts) those of `count` runs that begin `step` bytes apart."""
    period = 1
    while period < bus and step * period % bus:
        period *= 2
    period = min(period, count)
    for i in range(period):
        start = first + i * step
        low, high = start // bus, (start + run - 1) // bus
        times = (count - i + period - 1) // period
        found[0] += (high - low + 1) * times
        found[1] += (high // burst - low // burst + 1) * times


@njit
def _window(
    core: Any, layer: Any, offsets: Any, y: Any, y_step: int, x: Any, x_step: int, size: int, found: Any
) -> None:
    """Nothing; adds to `found` (beats, bursts, padding cycles, rows, commands, bytes) those of one window.

    `y` and `x` are (first position, filled before, copied, filled after); `size` is held of a pixel.
    """
    bus, burst = core[C_BUS], core[C_BURST]
    across = (x[1] + x[2] + x[3]) * size
    bytes_held = (y[1] + y[2] + y[3]) * across
    found[5] += bytes_held
    if y[2] == 0 or x[2] == 0:
        found[2] += (bytes_held + bus - 1) // bus
        found[3] += 1
        found[4] += 1
        return
    left, right = x[1] * size, x[3] * size
    head, tail = y[1] * across + left, right + y[3] * across
    if head:
        found[2] += (head + bus - 1) // bus
        found[3] += 1
        found[4] += 1
    if left + right and y[2] > 1:
        found[2] += (left + right + bus - 1) // bus * (y[2] - 1)
        found[3] += y[2] - 1
        found[4] += 1
    if tail:
        found[2] += (tail + bus - 1) // bus
        found[3] += 1
        found[4] += 1
    turns, pitch = layer[L_TURNS], layer[L_PITCH]
    row_step = y_step * layer[L_WIDTH] * pitch
    rows = y[2] // turns
    for operand in range(turns):
        base = offsets[operand] + (y[0] // turns * layer[L_WIDTH] + x[0]) * pitch
        found[4] += 1
        if size == pitch and x_step == 1:
            run = x[2] * size
            if run == turns * across and run == row_step:
                _run_beats(base, run * rows, 0, 1, bus, burst, found)
                found[3] += 1
            else:
                _run_beats(base, run, row_step, rows, bus, burst, found)
                found[3] += rows
        elif row_step % bus == 0:
            _run_beats(base, size, x_step * pitch, x[2], bus, burst, found)
            if rows > 1:
                # Every row begins alike.
                again = np.zeros(2, np.int64)
                _run_beats(base, size, x_step * pitch, x[2], bus, burst, again)
                found[0] += again[0] * (rows - 1)
                found[1] += again[1] * (rows - 1)
            found[3] += rows * x[2]
        else:
            for row in range(rows):
                _run_beats(base + row * row_step, size, x_step * pitch, x[2], bus, burst, found)
            found[3] += rows * x[2]


@njit
def pixel_tiles(
    core: Any, layer: Any, offsets: Any, ys: Any, xs: Any, steps: Any, split: bool, size: int, acc: Any,
    column_rows: int, tiles: Any,
) -> int:  # fmt: skip
    """The number of pixel tiles, described in `tiles`.

    Args:
        core: CORE.
        layer: LAYER.
        offsets: bytes from the tensors' starts to what is held of their first pixels.
        ys: (n, 6): tile, its rows of outputs, then first position, filled, copied, filled of one window; a
            window for each column where tiles are split.
        xs: (n, 5): outputs, then the same four.
        steps: input rows and columns from a bank position to the next.
        split: whether columns hold their own rows.
        size: bytes held of a pixel.
        acc: rows and columns of an accumulator tile.
        column_rows: rows of a column.
        tiles: (at least as many as there are, len(TILE)), filled in.
    """
    found = np.zeros(6, np.int64)
    count = 0
    at = 0
    while at < len(ys):
        stop = at
        while stop < len(ys) and ys[stop, 0] == ys[at, 0]:
            stop += 1
        height = ys[at, 1]
        columns = (height + column_rows - 1) // column_rows
        rows = min(height, column_rows)
        banks = 1 if split else columns
        down = (rows + acc[0] - 1) // acc[0]
        for i in range(len(xs)):
            width = xs[i, 0]
            found[:] = 0
            for window in range(at, stop):
                _window(core, layer, offsets, ys[window, 2:], steps[0], xs[i, 1:], steps[1], size, found)
            across = (width + acc[1] - 1) // acc[1]
            tile = tiles[count]
            tile[T_LOAD] = transfer_cycles(core, found[2], found[0], found[1], found[3], found[4])
            tile[T_PIXELS] = rows * width
            tile[T_ACCUMULATORS] = down * across
            tile[T_ISSUE] = rows * width * layer[L_STEPS] + down * across
            reads = columns * core[C_ROW_GROUPS] * layer[L_SLOTS]
            tile[T_DRAIN] = rows * width * reads + down * across
            last = (rows - (down - 1) * acc[0]) * (width - (across - 1) * acc[1])
            tile[T_LAST] = last * reads
            tile[T_HEIGHT] = height // layer[L_POOL_Y]
            tile[T_WIDTH] = width // layer[L_POOL_X]
            tile[T_BEATS] = found[0]
            tile[T_WRITTEN] = found[5] * banks
            tile[T_COMMANDS] = found[4]
            tile[T_COLUMNS] = columns
            count += 1
        at = stop
    return count


@njit
def store_cost(core: Any, layer: Any, height: int, width: int, channels: int, found: Any) -> int:
    """Cycles of STORE for an output tile; adds to `found` (commands, reads of the output buffer)."""
    full = layer[L_OX] // layer[L_POOL_X]
    bits, commands = layer[L_OUT_BITS], 1
    if layer[L_OUT_STEP] > 1:
        run, rows = 1, channels * height * width
        if width < full:
            commands = height
    elif channels * bits != layer[L_OUT_PITCH] * 8:
        run, rows = channels, height * width
    elif width < full:
        run, rows = width * channels, height
    else:
        run, rows = height * width * channels, 1
    bus = core[C_BUS]
    length = (run * bits + 7) // 8
    beats = (length + bus - 1) // bus
    # A packed beat is gathered from as many reads as it has buses full of values.
    gathers = beats if bits == 8 else (run + bus - 1) // bus
    first = 0 if bits == 8 else (min(run, bus * 8 // bits) + bus - 1) // bus
    bursts = (beats + core[C_BURST] - 1) // core[C_BURST]
    found[0] += commands
    found[1] += gathers * rows
    busy = max(gathers, beats * core[C_INTERVAL])
    cycles = rows * (core[C_STORE_LATENCY] + first + busy + bursts - 1)
    return int(cycles + commands * (core[C_WRITE_LATENCY] + 2))


@njit
def run_pipeline(
    core: Any, layer: Any, tiles: Any, count: int, weights_outer: bool, groups: int, slots: Any,
    weight_cycles: Any, stores: Any,
) -> int:  # fmt: skip
    """Cycles from the first LOAD of activations to the last write response.

    With two slots the first weights come while the layer before still runs, which reads its last tile then;
    LOAD's own time is a bound all the same.

    Args:
        core: CORE.
        layer: LAYER.
        tiles: TILE, of which `count` are there.
        count: pixel tiles.
        weights_outer: the order of the loops.
        groups: of a K tile.
        slots: tiles of activations, weights and outputs that the buffers hold.
        weight_cycles: LOAD's cycles for the weights and parameters of a full and of the last K tile.
        stores: (count, 2) STORE's cycles for a full and for the last K tile.
    """
    k_tiles = (layer[L_GROUPS] + groups - 1) // groups
    last_groups = layer[L_GROUPS] - (k_tiles - 1) * groups
    token, lane_wise = core[C_TOKEN], layer[L_LANE_WISE]
    first_beat = core[C_READ_LATENCY] + 4
    act_slots, weight_slots, out_slots = slots[0], slots[1], slots[2]
    act_key = np.full(act_slots, -1, np.int64)
    act_full = np.zeros(act_slots, np.int64)
    act_free = np.zeros(act_slots, np.int64)
    weight_key = np.full(weight_slots, -1, np.int64)
    weight_full = np.zeros(weight_slots, np.int64)
    weight_free = np.zeros(weight_slots, np.int64)
    out_free = np.zeros(out_slots, np.int64)
    acts = weights = 0
    load = array = post = store = before = 0
    inner = count if weights_outer else k_tiles
    for step in range(count * k_tiles):
        outer, now = step // inner, step % inner
        p, k = (now, outer) if weights_outer else (outer, now)
        # The outer loop's next tile is loaded two steps after the one before, if it has a slot by then.
        ahead = now == 2 and outer + 1 < (k_tiles if weights_outer else count)
        for turn in range(2 if ahead else 1):
            at_p, at_k = p, k
            if turn:
                at_p, at_k = (p, k + 1) if weights_outer else (p + 1, k)
            if not turn or (weights_outer and weight_slots > 1):
                key = 0 if layer[L_ALIKE] else at_k
                held = False
                for i in range(weight_slots):
                    held = held or weight_key[i] == key
                if not held:
                    slot = weights % weight_slots
                    cycles = weight_cycles[1 if at_k == k_tiles - 1 else 0]
                    if weights or weight_slots == 1:
                        load = max(load, weight_free[slot] + token + first_beat) + cycles
                    else:
                        before = cycles
                    weight_key[slot], weight_full[slot] = key, load
                    weights += 1
            if not turn or (not weights_outer and act_slots > 1 and not lane_wise):
                key = at_p * k_tiles + at_k if lane_wise else at_p
                held = False
                for i in range(act_slots):
                    held = held or act_key[i] == key
                if not held:
                    slot = acts % act_slots
                    load = max(load, act_free[slot] + token + first_beat) + tiles[at_p, T_LOAD]
                    act_key[slot], act_full[slot] = key, load
                    acts += 1
        key = p * k_tiles + k if lane_wise else p
        act = 0
        for i in range(act_slots):
            if act_key[i] == key:
                act = i
        key = 0 if layer[L_ALIKE] else k
        weight = 0
        for i in range(weight_slots):
            if weight_key[i] == key:
                weight = i
        full = last_groups if k == k_tiles - 1 else groups
        out = step % out_slots
        start = max(array, act_full[act] + token, weight_full[weight] + token, out_free[out] + token) + 2
        issue, drain = full * tiles[p, T_ISSUE], full * tiles[p, T_DRAIN]
        number = full * tiles[p, T_ACCUMULATORS]
        first = tiles[p, T_ISSUE] // tiles[p, T_ACCUMULATORS]
        array = start + issue
        drained = max(post, start + first + core[C_ARRAY_LATENCY]) + drain
        post = max(drained, array + core[C_ARRAY_LATENCY] + tiles[p, T_LAST])
        # POST is at most two accumulator tiles behind.
        array = max(array, post - core[C_ARRAY_LATENCY] - 2 * drain // number)
        act_free[act] = weight_free[weight] = array
        store = max(store, post + core[C_POST_LATENCY] + token)
        store += stores[p, 1 if k == k_tiles - 1 else 0]
        out_free[out] = store
    return int(max(store, load + before))
