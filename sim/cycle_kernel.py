"""The cycle model's kernel: when every command of a program starts and ends, by events.

It follows "Timing rules" in docs/architecture.md. What a unit does once it has started depends on
little else, so its whole time line is computed at its start: an EXEC's tiles, a STORE's bursts, a
read burst's beats at its grant (answers come in order). What is left to step through is short:
grants of the read arbiter, dispatches, and commands that start. Each round computes from the
registered state when each agent could act next, and serves those with the earliest cycle; what they
change is seen from the following cycle on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .port_kernel import read_beats, write_burst

__all__ = [
    "COLUMNS",
    "CORE",
    "DEADLOCK",
    "DONE",
    "MEMORY",
    "NO_BANK",
    "STALLS",
    "STALL_FETCH",
    "STALL_POST",
    "STALL_SETUP",
    "TIMES",
    "TOKEN_OVERFLOW",
    "run_cycles",
    "stall_cycles",
]

NEVER = 1 << 62
_NEVER = NEVER

# What run_cycles returns.
DONE, DEADLOCK, TOKEN_OVERFLOW, NO_BANK = 0, 1, 2, 3

# Columns of `commands`: what timing needs of a command. `address`, `row` and `plane` are the side
# in memory; `steps` is fx·fy·sets, `kept` where in the table of kept steps those of an EXEC's groups begin
# (-1: each runs `steps`), and the tile's size is that of the GEOMETRY in force. Of the OUTPUT
# in force: `slots`, the cycles of a POST read, and `adds`, whether its results pass the adder. `run` is
# in bytes of a LOAD or FILL, in values of a STORE.
COLUMNS = (
    "opcode", "wait", "post", "post_drain", "address", "row", "plane", "run", "rows", "planes", "pack",
    "groups", "region_y", "region_x", "tile_y", "tile_x", "steps", "cols", "first", "last", "slots", "adds",
    "kept",
)  # fmt: skip
(
    _OP, _WAIT, _POST, _POST_DRAIN, _ADDRESS, _ROW, _PLANE, _RUN, _ROWS, _PLANES, _PACK,
    _GROUPS, _REGION_Y, _REGION_X, _TILE_Y, _TILE_X, _STEPS, _COLS, _FIRST, _LAST, _SLOTS, _ADDS,
    _KEPT,
) = range(23)  # fmt: skip

# Entries of `core` and of `memory`.
CORE = (
    "bus_bytes", "max_burst", "read_outstanding", "write_outstanding", "queue", "fetch_commands",
    "fetch_burst", "row_descriptors", "row_groups", "array_latency", "post_latency", "add_latency",
    "store_latency", "token_latency",
)  # fmt: skip
(
    _BUS, _MAX_BURST, _READS, _WRITES, _QUEUE, _FETCH_COMMANDS,
    _FETCH_BURST, _DESCRIPTORS, _ROW_GROUPS, _ARRAY_LATENCY, _POST_LATENCY, _ADD_LATENCY,
    _STORE_LATENCY, _TOKEN_LATENCY,
) = range(14)  # fmt: skip
MEMORY = ("read_latency", "write_latency", "beat_interval", "stall_rate", "stall_mask", "seed")
_READ_LATENCY, _WRITE_LATENCY, _INTERVAL, _RATE, _MASK, _SEED = range(6)

# Columns of `times`: cycle of dispatch, start and end of a command; `drain` is an EXEC's last write
# by POST or a STORE's last B; then cycles in which the array issues and in which POST reads, a
# LOAD's R or a STORE's W beats, and a STORE's reads of the output buffer.
TIMES = ("dispatch", "start", "end", "drain", "issue", "post_reads", "beats", "gathers")
_T_DISPATCH, _T_START, _T_END, _T_DRAIN, _T_ISSUE, _T_READS, _T_BEATS, _T_GATHERS = range(8)

# Columns of `stalls`: 0…7 waiting for that token, then these.
STALL_FETCH, STALL_POST, STALL_SETUP = 8, 9, 10
STALLS = 11

# Where a STORE is: plane and row, first cycle of what comes next, beat, beats left of the row, first cycle
# with data; of the burst that is on its way its beats and last W handshake.
_S_PLANE, _S_ROW, _S_STATE, _S_BEAT, _S_LEFT, _S_DATA, _S_BEATS, _S_DONE = range(8)

_LOAD, _FILL, _GEOMETRY, _OUTPUT, _EXEC, _STORE, _END = 1, 2, 3, 4, 5, 6, 7
_AR, _R, _AW, _W = 0, 1, 2, 3
_TOKENS, _TOKEN_ROOM = 8, 256


@njit
def _multiply32(x: int, factor: int) -> int:
    """The low 32 bits of x · factor, never passing int64."""
    return ((x & 0xFFFF) * factor + ((((x >> 16) * factor) & 0xFFFF) << 16)) & 0xFFFFFFFF


@njit
def stall_cycles(memory: Any, channel: int, index: int) -> int:
    """The cycles that handshake `index` of a channel is held up; 0 for most."""
    if memory[_RATE] == 0:
        return 0
    x = memory[_SEED] ^ _multiply32(index & 0xFFFFFFFF, 0x9E3779B1)
    x ^= _multiply32(channel, 0x85EBCA6B)
    x ^= x >> 16
    x = _multiply32(x, 0x7FEB352D)
    x ^= x >> 15
    x = _multiply32(x, 0x846CA68B)
    x ^= x >> 16
    if (x & 255) >= memory[_RATE]:
        return 0
    return int(1 + ((x >> 8) & memory[_MASK]))


@njit
def _read_beat(memory: Any, read: Any, earliest: int, ready: int) -> int:
    """The handshake cycle of the next R beat; `read` is (last handshake, beats)."""
    index = read[1]
    cycle = max(earliest, read[0] + 1) + stall_cycles(memory, _R, index)
    if index:
        cycle += memory[_INTERVAL] - 1
    cycle = max(cycle, ready)
    read[0] = cycle
    read[1] = index + 1
    return int(cycle)


@njit
def _read_beats(memory: Any, read: Any, earliest: int, ready: int, beats: int) -> int:
    """The handshake cycle of the last of `beats` R beats of one burst."""
    if memory[_RATE] == 0:
        cycle = _read_beat(memory, read, earliest, ready)
        read[0] = cycle + (beats - 1) * memory[_INTERVAL]
        read[1] += beats - 1
    else:
        for _ in range(beats):
            _read_beat(memory, read, earliest, ready)
    return int(read[0])


@njit
def _post_tokens(tokens: Any, counts: Any, mask: int, cycle: int) -> bool:
    """Whether there was room; notes that each counter of `mask` goes up in `cycle`."""
    for k in range(_TOKENS):
        if mask >> k & 1:
            n = counts[k]
            if n == _TOKEN_ROOM:
                return False
            while n > 0 and tokens[k, n - 1] > cycle:
                tokens[k, n] = tokens[k, n - 1]
                n -= 1
            tokens[k, n] = cycle
            counts[k] += 1
    return True


@njit
def _tokens_from(core: Any, tokens: Any, counts: Any, mask: int) -> int:
    """The first cycle in which every counter of `mask` is seen above zero."""
    cycle = 0
    for k in range(_TOKENS):
        if mask >> k & 1:
            if counts[k] == 0:
                return _NEVER
            cycle = max(cycle, tokens[k, 0] + core[_TOKEN_LATENCY])
    return cycle


@njit
def _take_tokens(tokens: Any, counts: Any, mask: int) -> None:
    """Nothing; takes each counter of `mask` down by one."""
    for k in range(_TOKENS):
        if mask >> k & 1:
            counts[k] -= 1
            for i in range(counts[k]):
                tokens[k, i] = tokens[k, i + 1]


@njit
def _run_tiles(
    command: Any, kept: Any, core: Any, start: int, banks: Any, post: Any, times: Any, stalls: Any
) -> bool:
    """Whether the EXEC ever ends; fills in its `times` and `stalls`.

    `banks`: cycle from which each of the two is free again, and the one in use last; `post`: cycle
    from which POST is idle, and the last cycle in which a drain is pending.
    """
    setup = 1 if command[_KEPT] < 0 else 2  # TILE, and LIST where the groups run step lists
    cycle = start + setup
    end = cycle
    stalls[STALL_SETUP] += 1
    issue = reads = 0
    for group in range(command[_GROUPS]):
        steps = command[_STEPS] if command[_KEPT] < 0 else kept[command[_KEPT] + group]
        for ty in range(0, command[_REGION_Y], command[_TILE_Y]):
            height = min(command[_TILE_Y], command[_REGION_Y] - ty)
            for tx in range(0, command[_REGION_X], command[_TILE_X]):
                pixels = height * min(command[_TILE_X], command[_REGION_X] - tx)
                stalls[STALL_SETUP] += setup
                if command[_FIRST]:
                    bank = 0 if banks[0] <= banks[1] else 1
                    if banks[bank] == _NEVER:
                        return False
                    if banks[bank] > cycle:
                        stalls[STALL_POST] += banks[bank] - cycle
                        cycle = banks[bank]
                    banks[bank] = _NEVER
                    banks[2] = bank
                last_issue = cycle + pixels * steps
                issue += pixels * steps
                if command[_LAST]:
                    taken = max(last_issue + core[_ARRAY_LATENCY], post[0])
                    drain = pixels * command[_COLS] * core[_ROW_GROUPS] * command[_SLOTS]
                    reads += drain
                    post[0] = taken + drain + 1
                    post[1] = taken + drain + core[_ADD_LATENCY if command[_ADDS] else _POST_LATENCY]
                    banks[banks[2]] = taken + drain + 1
                end = last_issue
                cycle = last_issue + setup
    times[_T_END] = end
    times[_T_DRAIN] = post[1] if command[_LAST] else end
    times[_T_ISSUE] = issue
    times[_T_READS] = reads
    return True


@njit
def _write_beats(
    command: Any, bus: int, memory: Any, valid: int, beats: int, row: Any, write: Any, times: Any
) -> int:
    """The last handshake of the `beats` W beats of one burst, the first of which is valid from `valid`.

    `row`: the row's first byte not yet written, and its values not yet written.
    """
    times[_T_BEATS] += beats
    interval = memory[_INTERVAL]
    if memory[_RATE] == 0 and command[_PACK] == 0:
        done = valid + (interval - 1 if write[1] else 0) + (beats - 1) * interval
        write[1] += beats
        times[_T_GATHERS] += beats
        return int(done)
    done = 0
    for i in range(beats):
        gathers = _take_beat(command, bus, row)
        times[_T_GATHERS] += gathers
        if i > 0:
            valid = done + (gathers if command[_PACK] else 1)
        done = valid + stall_cycles(memory, _W, write[1]) + (interval - 1 if write[1] else 0)
        write[1] += 1
    return int(done)


@njit
def _beat_values(command: Any, bus: int, row: Any) -> int:
    """Values in the next beat of a STORE's row: those whose bits lie in its bytes."""
    return int(min((bus - row[0] % bus) << command[_PACK], row[1]))


@njit
def _gathers(command: Any, bus: int, row: Any) -> int:
    """Reads of the output buffer that the next beat of a STORE's row takes."""
    return 1 if command[_PACK] == 0 else (_beat_values(command, bus, row) + bus - 1) // bus


@njit
def _take_beat(command: Any, bus: int, row: Any) -> int:
    """As `_gathers`; the row goes on behind the beat."""
    gathers = _gathers(command, bus, row)
    row[1] -= _beat_values(command, bus, row)
    row[0] += bus - row[0] % bus
    return int(gathers)


@njit
def _store_row(command: Any, core: Any, at: Any, row: Any) -> None:
    """Nothing; `at` and `row` go on to the row that `at` names: its first beat, and when there are data."""
    bus = core[_BUS]
    row[0] = command[_ADDRESS] + at[_S_PLANE] * command[_PLANE] + at[_S_ROW] * command[_ROW]
    row[1] = command[_RUN]
    at[_S_BEAT] = row[0] // bus
    length = ((command[_RUN] << 3 >> command[_PACK]) + 7) // 8
    at[_S_LEFT] = (row[0] + length - 1) // bus - at[_S_BEAT] + 1
    at[_S_DATA] = at[_S_STATE] + core[_STORE_LATENCY]
    if command[_PACK]:
        at[_S_DATA] += _gathers(command, bus, row)
    at[_S_STATE] += 1


@njit
def _start_store(command: Any, core: Any, start: int, at: Any, row: Any) -> None:
    """Nothing; `at` and `row` are those of a STORE taken in `start`, before its first burst."""
    at[_S_PLANE] = at[_S_ROW] = 0
    at[_S_STATE] = start + 1
    _store_row(command, core, at, row)


@njit
def _store_burst(
    command: Any, core: Any, memory: Any, at: Any, row: Any, write: Any, answers: Any, times: Any
) -> int:
    """The cycle of the last W handshake of a STORE's next burst; `at` says which beats it is."""
    beats = min(at[_S_LEFT], core[_MAX_BURST] - at[_S_BEAT] % core[_MAX_BURST])
    slot = write[3] % core[_WRITES]
    accepted = max(at[_S_STATE], answers[slot] + 1) + stall_cycles(memory, _AW, write[0])
    write[0] += 1
    valid = max(accepted + 1, at[_S_DATA])
    at[_S_BEATS] = beats
    at[_S_DONE] = _write_beats(command, core[_BUS], memory, valid, beats, row, write, times)
    return int(at[_S_DONE])


@njit
def _answer_store(command: Any, core: Any, answer: int, at: Any, row: Any, write: Any, answers: Any) -> bool:
    """Whether the STORE has another burst after this one, whose B may come in `answer`."""
    write[2] = max(answer, write[2] + 1)
    answers[write[3] % core[_WRITES]] = write[2]
    write[3] += 1
    done, beats = at[_S_DONE], at[_S_BEATS]
    at[_S_STATE] = done + 1
    at[_S_BEAT] += beats
    at[_S_LEFT] -= beats
    if at[_S_LEFT] > 0:
        at[_S_DATA] = done + (_gathers(command, core[_BUS], row) if command[_PACK] else 1)
        return True
    at[_S_ROW] += 1
    if at[_S_ROW] == command[_ROWS]:
        at[_S_ROW] = 0
        at[_S_PLANE] += 1
    if at[_S_PLANE] == command[_PLANES]:
        return False
    _store_row(command, core, at, row)
    return True


@njit
def _run_store(
    command: Any, core: Any, memory: Any, start: int, at: Any, row: Any, write: Any, answers: Any, times: Any
) -> int:
    """The cycle in which a STORE ends; fills in its `times`.

    `write`: AW and W handshakes so far, last B, bursts; `answers`: B of the last bursts, a ring.
    """
    _start_store(command, core, start, at, row)
    more = True
    while more:
        done = _store_burst(command, core, memory, at, row, write, answers, times)
        more = _answer_store(command, core, done + memory[_WRITE_LATENCY], at, row, write, answers)
    return int(_end_store(at, write, times))


@njit
def _end_store(at: Any, write: Any, times: Any) -> int:
    """The cycle in which a STORE ends whose last burst is answered."""
    times[_T_END] = max(at[_S_STATE], write[2] + 1)
    times[_T_DRAIN] = write[2]
    return int(times[_T_END])


@njit
def _note_wait(
    command: Any, core: Any, tokens: Any, free: int, dispatched: int, pending: int, taken: int, stalls: Any
) -> None:
    """Nothing; lays the array's idle cycles before a command to what it waited for.

    The whole wait of a command at its queue's head goes to the cause that ended last.
    """
    stalls[STALL_FETCH] += max(0, dispatched + 1 - free)
    head = max(free, dispatched + 1)
    if taken > head:
        cause = STALL_POST
        latest = pending + 1 if command[_OP] != _EXEC else -1
        for k in range(_TOKENS):
            seen = tokens[k, 0] + core[_TOKEN_LATENCY]
            if command[_WAIT] >> k & 1 and seen > latest:
                cause = k
                latest = seen
        stalls[cause] += taken - head


@njit
def run_cycles(
    commands: Any,
    units: Any,
    kept: Any,
    orders: Any,
    lengths: Any,
    core: Any,
    memory: Any,
    channel: Any,
    times: Any,
    stalls: Any,
    totals: Any,
) -> int:
    """DONE, or why the program never ends.

    Args:
        commands: int64, (n, len(COLUMNS)), END last.
        units: int64, (n,), the unit of each command, -1 for END.
        kept: int64, steps of each group of the EXECs on step lists, one after the other.
        orders: int64, (3, n), each unit's commands in order, `lengths` (3,) of them.
        core: int64, CORE.
        memory: int64, MEMORY.
        channel: of port_memory.port_channel; where it has a DRAM part, that answers the port. Then nothing
            stalls AR, so a read goes out in the cycle after its grant, and what is served first is settled
            in time: bursts of reads and writes come to it in order, reads first in the same cycle.
        times: int64, (n, len(TIMES)), filled in.
        stalls: int64, (n, STALLS), zeros, filled in: cycles that the array does not issue, laid to
            the command of EXEC's queue that it waits on.
        totals: int64, (3,), filled in: R beats, last B handshake, the array's first idle cycle.
    """
    count = commands.shape[0]
    bus = core[_BUS]
    per_command = 32 // bus
    heads = np.zeros(3, np.int64)
    tails = np.zeros(3, np.int64)
    space = np.zeros(3, np.int64)  # cycle from which a queue that was full takes a command again
    tokens = np.zeros((_TOKENS, _TOKEN_ROOM), np.int64)
    token_counts = np.zeros(_TOKENS, np.int64)
    arrivals = np.full(count, _NEVER, np.int64)
    read = np.zeros(2, np.int64)
    read[0] = -1
    ends = np.full(core[_READS], -1, np.int64)  # last beats of LOAD's bursts, a ring
    finishes = np.full(core[_DESCRIPTORS], -1, np.int64)  # last beats of rows, a ring
    write = np.zeros(4, np.int64)
    write[2] = -1
    answers = np.full(core[_WRITES], -1, np.int64)
    dram = channel[0][0] > 0
    base_beat = channel[0][4] // bus
    store_row, storing = np.zeros(2, np.int64), np.zeros(8, np.int64)
    store_done = _NEVER  # last W of the burst that a STORE has on its way to the DRAM
    no_beats = np.empty(0, np.int64)
    banks = np.zeros(3, np.int64)
    post = np.full(2, -1, np.int64)

    fetched = dispatched = np.int64(0)
    credits = core[_FETCH_COMMANDS]
    # Of a type from the first on: a plain 0 would have the functions that take it compiled once more.
    requests = np.int64(0)  # AR handshakes given out
    register_free = 0  # first cycle in which the arbiter takes the next request
    last_dispatch = -1
    now = 0
    exec_free = store_free = np.int64(0)
    # LOAD's address side.
    idle, at_row, at_burst = 0, 1, 2
    load_state, load_from, load = idle, 0, 0
    plane = row = left = 0
    beat = np.int64(0)
    bursts = rows = 0
    head_from = np.int64(0)
    finish = -1

    while True:
        # The cycle in which each agent but LOAD acts next, from registered state.
        asked = min(core[_FETCH_BURST], count - fetched)
        fetch_at = _NEVER
        if asked > 0 and credits >= asked:
            fetch_at = max(now, 2, register_free)
        dispatch_at = _NEVER
        if dispatched < fetched and units[dispatched] >= 0:
            unit = units[dispatched]
            if tails[unit] - heads[unit] < core[_QUEUE]:
                dispatch_at = max(now, arrivals[dispatched] + 1, last_dispatch + 1, space[unit])
        exec_at = _NEVER
        if heads[1] < tails[1]:
            k = orders[1, heads[1]]
            exec_at = max(now, exec_free, _tokens_from(core, tokens, token_counts, commands[k, _WAIT]))
            if commands[k, _OP] != _EXEC:
                exec_at = max(exec_at, post[1] + 1)
        store_at = store_done
        if store_done == _NEVER and heads[2] < tails[2]:
            k = orders[2, heads[2]]
            wait = _tokens_from(core, tokens, token_counts, commands[k, _WAIT])
            store_at = max(now, store_free, wait)
        cycle = min(fetch_at, dispatch_at, exec_at, store_at)

        # LOAD's address side runs ahead, alone, as long as no other agent could act before it.
        again = False
        while not again:
            if load_state == idle:
                if heads[0] == tails[0]:
                    break
                k = orders[0, heads[0]]
                wait = _tokens_from(core, tokens, token_counts, commands[k, _WAIT])
                at = max(now, load_from, wait)
                if at > cycle or at >= _NEVER:
                    break
                _take_tokens(tokens, token_counts, commands[k, _WAIT])
                if tails[0] - heads[0] == core[_QUEUE]:
                    space[0] = at + 1
                heads[0] += 1
                load = k
                times[k, _T_START] = at
                plane = row = 0
                load_state, load_from = at_row, at + 1
                again = True
            elif load_state == at_row:
                slot = rows % core[_DESCRIPTORS]
                at = max(load_from, finishes[slot] + 1)
                if at > cycle:
                    break
                head_from = max(at, finish) + 1
                load_from = at + 1
                if commands[load, _OP] == _FILL:
                    finish = head_from + (commands[load, _RUN] + bus - 1) // bus - 1
                    finishes[slot] = finish
                    rows += 1
                    row += 1
                else:
                    address = commands[load, _ADDRESS]
                    address += plane * commands[load, _PLANE] + row * commands[load, _ROW]
                    beat = address // bus
                    left = (address + commands[load, _RUN] - 1) // bus - beat + 1
                    times[load, _T_BEATS] += left
                    load_state = at_burst
            else:
                if fetch_at < _NEVER:
                    break  # it asks in every cycle from there on and goes first
                slot = bursts % core[_READS]
                at = max(load_from, register_free, ends[slot] + 1)
                if at > cycle or at >= store_done:
                    break  # a write that is through by then is served before this read
                beats = min(left, core[_MAX_BURST] - beat % core[_MAX_BURST])
                register_free = at + 1 + stall_cycles(memory, _AR, requests)
                requests += 1
                if dram:
                    ends[slot] = read_beats(channel, register_free, beat, beats, head_from, read, no_beats)
                else:
                    earliest = register_free + memory[_READ_LATENCY]
                    ends[slot] = _read_beats(memory, read, earliest, head_from, beats)
                bursts += 1
                beat += beats
                left -= beats
                load_from = at + 1
                if left == 0:
                    finish = ends[slot]
                    finishes[rows % core[_DESCRIPTORS]] = finish
                    rows += 1
                    row += 1
                    load_state = at_row
            if load_state == at_row and row == commands[load, _ROWS]:
                row = 0
                plane += 1
                if plane == commands[load, _PLANES]:
                    times[load, _T_END] = finish
                    times[load, _T_DRAIN] = finish
                    load_state = idle
                    if not _post_tokens(tokens, token_counts, commands[load, _POST], finish):
                        return TOKEN_OVERFLOW
                    again = True
        if again:
            continue
        if cycle >= _NEVER:
            break

        if store_done == cycle:
            k = orders[2, heads[2] - 1]
            beat_now = base_beat + storing[_S_BEAT]
            answer = write_burst(channel, cycle, beat_now, storing[_S_BEATS])
            if _answer_store(commands[k], core, answer, storing, store_row, write, answers):
                store_done = _store_burst(
                    commands[k], core, memory, storing, store_row, write, answers, times[k]
                )
            else:
                store_done = _NEVER
                end = _end_store(storing, write, times[k])
                store_free = end + 1
                if not _post_tokens(tokens, token_counts, commands[k, _POST], end):
                    return TOKEN_OVERFLOW
            continue  # what else happens in this cycle is still to come
        if fetch_at == cycle:
            register_free = cycle + 1 + stall_cycles(memory, _AR, requests)
            requests += 1
            if dram:
                first = fetched * per_command
                landed = arrivals[fetched : fetched + asked]
                read_beats(channel, register_free, first, asked * per_command, np.int64(0), read, landed)
            else:
                earliest = register_free + memory[_READ_LATENCY]
                for k in range(fetched, fetched + asked):
                    arrivals[k] = _read_beats(memory, read, earliest, np.int64(0), per_command)
            fetched += asked
            credits -= asked
        if dispatch_at == cycle:
            times[dispatched, _T_DISPATCH] = cycle
            tails[units[dispatched]] += 1
            credits += 1
            last_dispatch = cycle
            dispatched += 1
        if exec_at == cycle:
            k = orders[1, heads[1]]
            heads[1] += 1
            times[k, _T_START] = cycle
            dispatch = times[k, _T_DISPATCH]
            _note_wait(commands[k], core, tokens, exec_free, dispatch, post[1], cycle, stalls[k])
            _take_tokens(tokens, token_counts, commands[k, _WAIT])
            if commands[k, _OP] == _EXEC:
                if not _run_tiles(commands[k], kept, core, cycle, banks, post, times[k], stalls[k]):
                    return NO_BANK
                if commands[k, _LAST] and not _post_tokens(
                    tokens, token_counts, commands[k, _POST_DRAIN], times[k, _T_DRAIN]
                ):
                    return TOKEN_OVERFLOW
            else:
                times[k, _T_END] = cycle
                times[k, _T_DRAIN] = cycle
                stalls[k, STALL_SETUP] += 1
            exec_free = times[k, _T_END] + 1
            if not _post_tokens(tokens, token_counts, commands[k, _POST], times[k, _T_END]):
                return TOKEN_OVERFLOW
        if store_at == cycle:
            k = orders[2, heads[2]]
            heads[2] += 1
            times[k, _T_START] = cycle
            _take_tokens(tokens, token_counts, commands[k, _WAIT])
            if dram:
                _start_store(commands[k], core, cycle, storing, store_row)
                store_done = _store_burst(
                    commands[k], core, memory, storing, store_row, write, answers, times[k]
                )
            else:
                end = _run_store(
                    commands[k], core, memory, cycle, storing, store_row, write, answers, times[k]
                )
                store_free = end + 1
                if not _post_tokens(tokens, token_counts, commands[k, _POST], end):
                    return TOKEN_OVERFLOW
        now = cycle + 1

    totals[0] = read[1]
    totals[1] = write[2]
    totals[2] = exec_free
    waiting = load_state != idle or dispatched < count - 1
    for unit in range(3):
        waiting = waiting or heads[unit] < lengths[unit]
    return DEADLOCK if waiting else DONE
