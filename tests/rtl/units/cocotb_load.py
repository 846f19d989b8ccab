"""Load against a naive copy: every byte of every bank and line, at each command's end."""

from __future__ import annotations

import random
from collections import deque

from bitwright.mapper.isa import TOKENS, Command, LoadTarget, Opcode, encode
from bitwright.mapper.machine import Machine
from unit_machines import MACHINES
from unit_memory import beat_at, byte_at, check_burst, random_address, rows_of
from unit_stimulus import PACES, Ports, chance, equal, unit_test

COMMANDS = 160
LIMIT = 40000
INPUTS = dict.fromkeys(
    ("base", "command_payload", "command_valid", "present", "ar_grant", "r_valid", "r_last", "r_data"), 0
)


def _command(rng: random.Random, machine: Machine, base: int) -> Command:
    kind = rng.choice(["load", "load", "load", "fill", "weight", "param"])
    # The last bits of a 20-bit address too: buffers wrap.
    fields = {
        "wait": rng.choice([0, 0, rng.getrandbits(TOKENS)]),
        "post": rng.choice([rng.randrange(1, 1 << TOKENS)] * 5 + [0]),
        "address": random_address(rng, base),
        "dst": rng.getrandbits(20),
    }
    if kind in ("weight", "param"):
        line_bits = machine.weight_line_bits if kind == "weight" else machine.param_line_bits
        wrap = rng.randint(1, line_bits // machine.bus.data_bits)
        target = LoadTarget.WEIGHT if kind == "weight" else LoadTarget.PARAM
        fields |= {"target": target, "wrap": wrap, "rows": 1, "planes": 1}
        fields["run"] = machine.bus_bytes * rng.choice([1, wrap, rng.randint(1, 60)])
        fields["address"] -= fields["address"] % machine.bus_bytes
        return Command(Opcode.LOAD, fields)
    fields |= {
        "target": LoadTarget.ACTIVATION,
        "cols": rng.choice([rng.getrandbits(machine.array.cols), (1 << machine.array.cols) - 1]),
        "run": rng.choice([1, machine.bus_bytes, rng.randint(1, 40), rng.randint(1, 200)]),
        "rows": rng.choice([1, 1, 2, 5]),
        "planes": rng.choice([1, 1, 2, 3]),
        "dst_row": rng.choice([rng.randrange(64), rng.getrandbits(20)]),
        "dst_plane": rng.choice([rng.randrange(256), rng.getrandbits(20)]),
        "src_row": rng.choice([rng.randrange(64), rng.getrandbits(24)]),
        "src_plane": rng.choice([rng.randrange(4096), rng.getrandbits(28)]),
    }
    if kind == "fill":
        fields["value"] = rng.getrandbits(8)
        del fields["address"]
        return Command(Opcode.FILL, fields)
    return Command(Opcode.LOAD, fields)


class Buffers:
    """What the activation banks, weight lines and parameter lines hold."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.banks = [bytearray(machine.buffers.activation_bytes) for _ in range(machine.array.cols)]
        bits = machine.bus.data_bits
        self.weights = [[0] * (machine.weight_line_bits // bits) for _ in range(machine.weight_lines)]
        self.params = [[0] * (machine.param_line_bits // bits) for _ in range(machine.param_lines)]

    def difference(self, other: Buffers) -> str | None:
        """The first place that `other` has otherwise."""
        for kind in ("banks", "weights", "params"):
            pairs = zip(getattr(self, kind), getattr(other, kind), strict=True)
            for number, (mine, theirs) in enumerate(pairs):
                for at, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                    if a != b:
                        return f"{kind}[{number}][{at}] is 0x{a:x}, not 0x{b:x}"
        return None

    def write_byte(self, cols: int, address: int, value: int) -> None:
        for col, bank in enumerate(self.banks):
            if cols >> col & 1:
                bank[address % len(bank)] = value

    def run(self, command: Command, base: int) -> None:
        """The command as docs/architecture.md has it."""
        bus_bytes = self.machine.bus_bytes
        if command["target"] == LoadTarget.ACTIVATION:
            for dst, src in rows_of(command, "dst", command["dst"], "src"):
                for i in range(command["run"]):
                    filling = command.opcode is Opcode.FILL
                    value = command["value"] if filling else byte_at((base + src + i) % (1 << 32))
                    self.write_byte(command["cols"], dst + i, value)
            return
        lines = self.weights if command["target"] == LoadTarget.WEIGHT else self.params
        for number in range(command["run"] // bus_bytes):
            line, unit = divmod(number, command["wrap"])
            beat = beat_at(base + command["address"] + number * bus_bytes, bus_bytes)
            lines[(command["dst"] + line) % len(lines)][unit] = beat

    def write(self, ports: Ports) -> None:
        """What the unit writes in this cycle."""
        act, weight, param = ports.many(("act_en", "weight_en", "param_en"))
        equal("no more than one buffer written", act + weight + param in (0, 1), True)
        if act:
            cols, address, mask, data = ports.many(("act_cols", "act_addr", "act_mask", "data"))
            for i in range(self.machine.bus_bytes):
                if mask >> i & 1:
                    self.write_byte(cols, address + i, data >> (8 * i) & 255)
        for enable, name, lines in ((weight, "weight", self.weights), (param, "param", self.params)):
            if enable:
                line, unit, data = ports.many((f"{name}_line", f"{name}_unit", "data"))
                lines[line][unit] = data


class Memory:
    """Bursts in their order, beats at random; LOAD's limit of bursts under way."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.bursts: deque[tuple[int, int]] = deque()  # address of the next beat, beats left
        self.offered = False

    def drive(self, ports: Ports, rng: random.Random, pace: float) -> None:
        # An R beat stays until it is taken.
        self.offered = bool(self.bursts) and (self.offered or chance(rng, pace) == 1)
        if self.offered:
            address, left = self.bursts[0]
            ports.drive(r_valid=1, r_last=int(left == 1), r_data=beat_at(address, self.machine.bus_bytes))
        else:
            ports.drive(r_valid=0, r_last=rng.getrandbits(1), r_data=rng.getrandbits(32))

    def edge(self, ports: Ports, grant: int) -> None:
        taken = self.offered and ports.get("r_ready")
        request = ports.get("ar_request")
        if request:
            equal(
                "bursts under way before a request",
                len(self.bursts) < self.machine.bus.read_outstanding,
                True,
            )
        if taken:
            address, left = self.bursts[0]
            if left == 1:
                self.bursts.popleft()
            else:
                self.bursts[0] = address + self.machine.bus_bytes, left - 1
            self.offered = False
        if request and grant:
            address, beats = ports.many(("ar_address", "ar_beats"))
            check_burst(self.machine, address, beats)
            self.bursts.append((address, beats))


@unit_test("load_narrow", "load_wide")
async def buffers_hold_what_a_naive_copy_gives(ports: Ports, rng: random.Random, unit: str) -> None:
    """LOAD and FILL at every alignment, across pages, under stalls of commands, AR and R."""
    machine = MACHINES[unit.removeprefix("load_")]
    base = rng.getrandbits(18) << 12
    written, expected, memory = Buffers(machine), Buffers(machine), Memory(machine)
    queue = deque(_command(rng, machine, base) for _ in range(COMMANDS))
    running: deque[Command] = deque()  # taken, not ended
    offered = False
    await ports.reset(**INPUTS)
    ports.drive(base=base)
    for _ in range(LIMIT):
        if not queue and not running:
            break
        pace = PACES[(COMMANDS - len(queue)) // 10 % len(PACES)]
        offered = bool(queue) and (offered or chance(rng, pace) == 1)
        head = queue[0] if offered else None
        present = rng.choice([(1 << TOKENS) - 1, rng.getrandbits(TOKENS)])
        grant = chance(rng, pace)
        ports.drive(command_valid=int(offered), present=present, ar_grant=grant)
        if head is not None:
            ports.drive(command_payload=encode(head))
        memory.drive(ports, rng, pace)
        await ports.settle()

        took = head is not None and ports.get("command_ready") == 1
        equal("take", ports.get("take"), head["wait"] if took and head is not None else 0)
        equal("idle, with a command", ports.get("idle") and (offered or any(c["post"] for c in running)), 0)
        written.write(ports)
        post = ports.get("post")
        if post:
            # Commands that post nothing end unseen before it.
            while running and running[0]["post"] == 0:
                expected.run(running.popleft(), base)
            equal("a post, of a command that runs", bool(running), True)
            ended = running.popleft()
            expected.run(ended, base)
            equal("post", post, ended["post"])
            equal(f"the difference that {ended} leaves behind", written.difference(expected), None)
        if not queue and ports.get("idle"):
            equal("commands that never posted", any(c["post"] for c in running), False)
            while running:
                expected.run(running.popleft(), base)
        if took and head is not None:
            equal("tokens of a command that was taken", present & head["wait"], head["wait"])
            running.append(queue.popleft())
            offered = False
        memory.edge(ports, grant)
        await ports.edge()
    equal("commands left", len(queue) + len(running), 0)
    equal("the difference at the end", written.difference(expected), None)
    await ports.settle()
    equal("idle at the end", ports.get("idle"), 1)
