"""A plain twin of the cycle model: every unit is stepped in every cycle.

Written from "Timing rules" in docs/architecture.md alone, without a look at the kernel's shortcuts:
each cycle, every unit reads the state as of the cycle's start (`self.x`), and what it changes is put
into a list that is applied at the cycle's end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bitwright.mapper.isa import COMMAND_BYTES, Command, Opcode, unit_of
from bitwright.mapper.machine import MemoryTiming
from bitwright.mapper.program import Program


def stall(memory: MemoryTiming, channel: str, i: int) -> int:
    number = {"AR": 0, "R": 1, "AW": 2, "W": 3}[channel]
    low = 0xFFFFFFFF
    x = memory.seed ^ (i * 0x9E3779B1 & low) ^ (number * 0x85EBCA6B & low)
    x ^= x >> 16
    x = x * 0x7FEB352D & low
    x ^= x >> 15
    x = x * 0x846CA68B & low
    x ^= x >> 16
    return 1 + ((x >> 8) & memory.stall_mask) if (x & 255) < memory.stall_rate else 0


@dataclass
class Burst:
    owner: str
    beats: int
    accepted: int = -1  # AR handshake
    sent: int = 0


@dataclass
class Row:
    """A row descriptor."""

    fill: bool
    beats: int
    command: int
    last: bool


@dataclass
class Outcome:
    cycles: int = -1
    read_beats: int = 0
    start: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    drain: dict[int, int] = field(default_factory=dict)
    dispatch: dict[int, int] = field(default_factory=dict)
    issue_cycles: int = 0
    post_reads: int = 0
    gathers: int = 0


class Stepped:
    """The core and its memory; `run` steps until all is done."""

    def __init__(self, program: Program, memory: MemoryTiming) -> None:
        self.m, self.mem, self.commands = program.machine, memory, program.commands
        self.t = 0
        self.later: list[Callable[[], None]] = []
        self.out = Outcome()
        self.tokens = [0] * 8
        # FETCH
        self.requested = 0
        self.credits = self.m.queues.fetch_commands
        self.fifo: deque[int] = deque()
        self.beats_seen = 0
        # arbiter and read channel
        self.ar: Burst | None = None
        self.ar_valid_from = 0
        self.ar_count = 0
        self.reads: deque[Burst] = deque()
        self.r_count = 0
        self.r_last: int | None = None
        # LOAD
        self.queues: dict[int, deque[int]] = {0: deque(), 1: deque(), 2: deque()}
        self.load_state = "IDLE"
        self.load_command = -1
        self.load_rows: deque[tuple[int, int]] = deque()
        self.load_bursts: deque[int] = deque()
        self.load_flying = 0
        self.rows: deque[Row] = deque()
        self.row_done = 0
        # EXEC
        self.exec_state = "IDLE"
        self.exec_command = -1
        self.geometry = self.output = Command(Opcode.GEOMETRY, {})
        self.tiles: deque[tuple[int, int]] = deque()
        self.entries: list[int] = []  # of step lists, as the first LOAD of them brings them
        for k in self.commands:
            if k.opcode == Opcode.LOAD and k["target"] == 3 and not self.entries:
                data = program.image[k["address"] : k["address"] + k["run"]].tobytes()
                self.entries = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.issues_left = 0
        self.banks_used = 0
        self.to_drain: deque[tuple[int, int, int | None]] = deque()  # from, reads, last of command
        self.post_left = 0
        self.post_command: int | None = None
        self.pending = 0
        self.timers: list[tuple[int, Callable[[], None]]] = []
        # STORE
        self.store_state = "IDLE"
        self.store_command = -1
        self.store_rows: deque[tuple[int, int]] = deque()
        self.store_bursts: deque[int] = deque()
        self.store_waits: deque[int] = deque()  # of the row's beats after the next
        self.beats_left = 0
        self.data_from = 0
        self.store_missing = 0
        self.aw_since: int | None = None
        self.w_since: int | None = None
        self.aw_count = self.w_count = 0
        self.b_due: deque[int] = deque()
        self.b_last = -1
        self.b_time = -1
        self.moved = 0

    # -- helpers ---------------------------------------------------------------------------------

    def set(self, **values: object) -> None:
        self.later.append(lambda: self.__dict__.update(values))

    def add(self, name: str, amount: int) -> None:
        self.later.append(lambda: self.__dict__.__setitem__(name, self.__dict__[name] + amount))

    def post(self, mask: int) -> None:
        def apply() -> None:
            for k in range(8):
                self.tokens[k] += mask >> k & 1

        self.timers.append((self.t + self.m.timing.token_latency, apply))

    def ready(self, index: int) -> bool:
        wait = self.commands[index]["wait"]
        return all(self.tokens[k] > 0 for k in range(8) if wait >> k & 1)

    def take(self, unit: int) -> None:
        index = self.queues[unit][0]
        wait = self.commands[index]["wait"]

        def apply() -> None:
            self.queues[unit].popleft()
            for k in range(8):
                self.tokens[k] -= wait >> k & 1

        self.later.append(apply)
        self.out.start[index] = self.t

    def bursts(self, address: int, run: int) -> deque[int]:
        bus = self.m.bus_bytes
        beat, stop = address // bus, (address + run - 1) // bus + 1
        found: deque[int] = deque()
        while beat < stop:
            longest = self.m.bus.max_burst
            beats = min(stop - beat, longest - beat % longest)
            found.append(beats)
            beat += beats
        return found

    def gathers(self, address: int, run: int, pack: int) -> list[int]:
        """Output buffer reads of each beat of a row of `run` values, found value by value."""
        bus = self.m.bus_bytes
        values: dict[int, int] = {}
        for i in range(run):
            beat = (address * 8 + i * (8 >> pack)) // (8 * bus)
            values[beat] = values.get(beat, 0) + 1
        return [-(-values[beat] // bus) for beat in sorted(values)]

    def row_list(self, k: Command, row: str, plane: str) -> deque[tuple[int, int]]:
        return deque(
            (k["address"] + p * k[plane] + r * k[row], k["run"])
            for p in range(k["planes"])
            for r in range(k["rows"])
        )

    # -- units, each reads the state as of the cycle's start --------------------------------------

    def step_requests(self) -> None:
        """FETCH's and LOAD's requests, and the arbiter's register."""
        handshake = False
        if self.ar is not None:
            due = self.ar_valid_from + stall(self.mem, "AR", self.ar_count)
            if self.t == due:
                handshake = True
                burst = self.ar
                burst.accepted = self.t
                self.later.append(lambda: self.reads.append(burst))
                self.add("ar_count", 1)
                self.set(ar=None)
        if self.ar is not None and not handshake:
            return
        left = len(self.commands) - self.requested
        n = min(self.m.queues.fetch_burst, left)
        if self.t >= 2 and n > 0 and self.credits >= n:
            beats = n * COMMAND_BYTES // self.m.bus_bytes
            self.set(ar=Burst("fetch", beats), ar_valid_from=self.t + 1)
            self.add("requested", n)
            self.add("credits", -n)
            return
        if self.load_state == "BURST" and self.load_flying < self.m.bus.read_outstanding:
            beats = self.load_bursts[0]
            self.set(ar=Burst("load", beats), ar_valid_from=self.t + 1)
            self.add("load_flying", 1)
            self.later.append(self.load_bursts.popleft)
            if len(self.load_bursts) == 1:
                self.set(load_state="ROW" if self.load_rows else "IDLE")

    def step_load_address(self) -> None:
        if self.load_state == "IDLE" and self.queues[0] and self.ready(self.queues[0][0]):
            index = self.queues[0][0]
            self.take(0)
            rows = self.row_list(self.commands[index], "src_row", "src_plane")
            self.set(load_state="ROW", load_command=index, load_rows=rows)
        elif self.load_state == "ROW" and len(self.rows) < self.m.queues.row_descriptors:
            address, run = self.load_rows[0]
            last = len(self.load_rows) == 1
            self.later.append(self.load_rows.popleft)
            if self.commands[self.load_command].opcode == Opcode.FILL:
                row = Row(True, -(-run // self.m.bus_bytes), self.load_command, last)
                self.set(load_state="IDLE" if last else "ROW")
            else:
                bursts = self.bursts(address, run)
                row = Row(False, sum(bursts), self.load_command, last)
                self.set(load_state="BURST", load_bursts=bursts)
            self.later.append(lambda: self.rows.append(row))

    def step_read_data(self) -> None:
        """The R channel, FETCH's FIFO, LOAD's data side."""
        moved = False
        if self.reads:
            burst = self.reads[0]
            c = self.r_last + 1 if self.r_last is not None else 0
            if burst.sent == 0:
                c = max(c, burst.accepted + self.mem.read_latency)
            c += stall(self.mem, "R", self.r_count)
            c += self.mem.beat_interval - 1 if self.r_count else 0
            ready = burst.owner == "fetch" or (bool(self.rows) and not self.rows[0].fill)
            if self.t >= c and ready:
                self.set(r_last=self.t)
                self.add("r_count", 1)
                self.later.append(lambda: setattr(burst, "sent", burst.sent + 1))
                if burst.sent + 1 == burst.beats:
                    self.later.append(self.reads.popleft)
                    if burst.owner == "load":
                        self.add("load_flying", -1)
                if burst.owner == "fetch":
                    seen = self.beats_seen + 1
                    self.add("beats_seen", 1)
                    per = COMMAND_BYTES // self.m.bus_bytes
                    if seen % per == 0:
                        self.later.append(lambda: self.fifo.append(seen // per - 1))
                else:
                    moved = True
        if self.rows and (self.rows[0].fill or moved):
            row = self.rows[0]
            if self.row_done + 1 == row.beats:
                self.set(row_done=0)
                self.later.append(self.rows.popleft)
                if row.last:
                    self.out.end[row.command] = self.t
                    self.post(self.commands[row.command]["post"])
            else:
                self.add("row_done", 1)

    def step_dispatch(self) -> None:
        if not self.fifo:
            return
        index = self.fifo[0]
        unit = unit_of(self.commands[index].opcode)
        if unit is None or len(self.queues[int(unit)]) >= self.m.queues.commands:
            return
        self.out.dispatch[index] = self.t
        self.later.append(self.fifo.popleft)
        self.later.append(lambda: self.queues[int(unit)].append(index))
        self.add("credits", 1)

    def list_lengths(self, k: Command) -> list[int]:
        """Entries of each group's step list, walked one by one."""
        lengths, at = [], k["list"]
        for _ in range(k["groups"]):
            count = 1
            while not self.entries[at % len(self.entries)] >> 21 & 1:
                at, count = at + 1, count + 1
            at += 1
            lengths.append(count)
        return lengths

    def tile_list(self, k: Command) -> deque[tuple[int, int]]:
        """(pixels, steps) of each tile."""
        found: deque[tuple[int, int]] = deque()
        g = self.geometry
        steps = [g["fy"] * g["fx"] * g["sets"]] * k["groups"]
        for count in self.list_lengths(k) if g["listed"] else steps:
            y = 0
            while y < k["region_y"]:
                x = 0
                while x < k["region_x"]:
                    th = min(self.geometry["tile_y"], k["region_y"] - y)
                    tw = min(self.geometry["tile_x"], k["region_x"] - x)
                    found.append((th * tw, count))
                    x += self.geometry["tile_x"]
                y += self.geometry["tile_y"]
        return found

    def step_array(self) -> None:
        if self.exec_state == "IDLE":
            if not self.queues[1] or not self.ready(self.queues[1][0]):
                return
            index = self.queues[1][0]
            k = self.commands[index]
            if k.opcode == Opcode.EXEC:
                self.take(1)
                self.set(exec_state="TILE", exec_command=index, tiles=self.tile_list(k))
            elif self.pending == 0:
                self.take(1)
                if k.opcode == Opcode.GEOMETRY:
                    self.set(geometry=k)
                else:
                    self.set(output=k)
                self.out.end[index] = self.t
                self.post(k["post"])
        elif self.exec_state == "TILE" and self.geometry["listed"]:
            self.set(exec_state="LIST")
        elif self.exec_state in ("TILE", "LIST"):
            k = self.commands[self.exec_command]
            if k["first"] and self.banks_used >= 2:
                return
            if k["first"]:
                self.add("banks_used", 1)
            self.set(exec_state="ISSUE", issues_left=self.tiles[0][0] * self.tiles[0][1])
        else:
            k = self.commands[self.exec_command]
            self.out.issue_cycles += 1
            if self.issues_left > 1:
                self.add("issues_left", -1)
                return
            pixels, _ = self.tiles[0]
            self.later.append(self.tiles.popleft)
            done = len(self.tiles) == 1
            if k["last"]:
                reads = pixels * k["cols"] * self.m.row_groups * self.read_cycles()
                job = (
                    self.t + self.m.timing.array_latency, reads, self.exec_command if done else None
                )  # fmt: skip
                self.later.append(lambda: self.to_drain.append(job))
                self.add("pending", 1)
            if done:
                self.post(k["post"])
                self.out.end[self.exec_command] = self.t
            self.set(exec_state="IDLE" if done else "TILE")

    def step_post(self) -> None:
        if self.post_left == 0:
            if self.to_drain and self.t >= self.to_drain[0][0]:
                _, reads, command = self.to_drain[0]
                self.later.append(self.to_drain.popleft)
                self.set(post_left=reads, post_command=command)
            return
        self.out.post_reads += 1
        self.add("post_left", -1)
        if self.post_left == 1:
            self.add("banks_used", -1)
            command = self.post_command

            def finish() -> None:
                self.add("pending", -1)
                if command is not None:
                    self.post(self.commands[command]["post_drain"])
                    self.out.drain[command] = self.t

            timing = self.m.timing
            latency = timing.add_latency if self.output["mode"] >= 2 else timing.post_latency
            self.timers.append((self.t + latency, finish))

    def read_cycles(self) -> int:
        """Cycles that one read of POST takes: searches with several levels take two a level."""
        if self.output["mode"] == 1 and self.output["levels"] > 1:
            return 2 * self.output["levels"]
        return 1

    def step_store(self) -> None:
        if self.store_state == "IDLE":
            if self.queues[2] and self.ready(self.queues[2][0]):
                index = self.queues[2][0]
                self.take(2)
                rows = self.row_list(self.commands[index], "dst_row", "dst_plane")
                self.set(store_state="ROW", store_command=index, store_rows=rows)
        elif self.store_state == "ROW":
            address, run = self.store_rows[0]
            self.later.append(self.store_rows.popleft)
            pack = self.commands[self.store_command]["pack"]
            first, *waits = self.gathers(address, run, pack)
            self.out.gathers += first + sum(waits)
            data_from = self.t + self.m.timing.store_latency + (first if pack else 0)
            self.set(
                store_state="AW",
                store_bursts=self.bursts(address, -(-run * (8 >> pack) // 8)),
                store_waits=deque(waits),
                data_from=data_from,
            )
        elif self.store_state == "AW":
            if self.aw_since is None:
                if self.store_missing >= self.m.bus.write_outstanding:
                    return
                self.aw_since = self.t
            if self.t == self.aw_since + stall(self.mem, "AW", self.aw_count):
                self.set(aw_since=None, store_state="W", beats_left=self.store_bursts[0])
                self.later.append(self.store_bursts.popleft)
                self.add("aw_count", 1)
                self.add("store_missing", 1)
        elif self.store_state == "W":
            if self.w_since is None:
                if self.t < self.data_from:
                    return
                self.w_since = self.t
            due = self.w_since + stall(self.mem, "W", self.w_count)
            due += self.mem.beat_interval - 1 if self.w_count else 0
            if self.t == due:
                self.set(w_since=None)
                if self.store_waits:
                    self.set(data_from=self.t + self.store_waits[0])
                    self.later.append(self.store_waits.popleft)
                self.add("w_count", 1)
                self.add("beats_left", -1)
                if self.beats_left == 1:
                    answer = max(self.t + self.mem.write_latency, self.b_last + 1)
                    self.b_last = answer
                    self.b_due.append(answer)
                    following = "AW" if self.store_bursts else "ROW" if self.store_rows else "DRAIN"
                    self.set(store_state=following)
        elif self.store_missing == 0:
            self.post(self.commands[self.store_command]["post"])
            self.out.end[self.store_command] = self.t
            self.out.drain[self.store_command] = self.b_time
            self.set(store_state="IDLE")

    def step_answers(self) -> None:
        if self.b_due and self.b_due[0] == self.t:
            self.b_due.popleft()
            self.add("store_missing", -1)
            self.set(b_time=self.t)
            self.out.cycles = self.t

    def busy(self) -> bool:
        end_at_head = bool(self.fifo) and self.fifo[0] == len(self.commands) - 1
        return not (
            end_at_head
            and not any(self.queues.values())
            and self.load_state == self.exec_state == self.store_state == "IDLE"
            and not self.rows
            and not self.pending
            and not self.post_left
        )

    def run(self, limit: int = 200_000) -> Outcome:
        while self.busy():
            if self.t > limit:
                raise RuntimeError("the twin does not end")
            for due, action in [x for x in self.timers if x[0] == self.t]:
                self.timers.remove((due, action))
                action()
            self.step_requests()
            self.step_load_address()
            self.step_read_data()
            self.step_dispatch()
            self.step_array()
            self.step_post()
            self.step_store()
            self.step_answers()
            changes, self.later = self.later, []
            for change in changes:
                change()
            self.t += 1
        self.out.read_beats = self.r_count
        return self.out
