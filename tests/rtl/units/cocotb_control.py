"""Control against a register file in Python, under random delays on all five channels."""

from __future__ import annotations

import random

from unit_machines import CONTROL_IDENTITY
from unit_stimulus import PACES, Ports, chance, equal, unit_test

START, STATUS, BASE, LENGTH, CYCLES_LO, CYCLES_HI, IDENTITY = range(0x00, 0x1C, 4)
CYCLES = 8000
INPUTS = {
    **{f"bus_{name}": 0 for name in ("awvalid", "awaddr", "wvalid", "wdata", "wstrb", "bready")},
    **{f"bus_{name}": 0 for name in ("arvalid", "araddr", "rready")},
    **dict.fromkeys(("error", "error_command", "write_response"), 0),
    "idle": 1,
}


class Registers:
    """What the registers hold, cycle by cycle."""

    def __init__(self) -> None:
        self.base = self.length = self.cycles = 0
        self.busy = self.done = False
        self.now = 0
        self.run_cycle = 0
        """Cycles since the handshake of the start write."""

    def write(self, address: int, data: int) -> bool:
        """Whether the write starts a run."""
        if address == BASE:
            self.base = data & ~0xFFF
        elif address == LENGTH:
            self.length = data & 0xFFFFFF
        return address == START and bool(data & 1) and not self.busy

    def read(self, address: int, error: int, error_command: int) -> int:
        status = self.busy | self.done << 1 | error << 2 | error_command << 8
        known = {STATUS: status, BASE: self.base, LENGTH: self.length, CYCLES_LO: self.cycles}
        return {**known, IDENTITY: CONTROL_IDENTITY}.get(address, 0)


class Host:
    """Writes and reads at random; a valid stays, with its payload, until its ready."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.address: int | None = None
        self.data: int | None = None
        self.read: int | None = None
        self.writes = {"aw": 0, "w": 0, "b": 0}

    def _register(self) -> int:
        return self.rng.choice(
            [START, START, STATUS, BASE, LENGTH, CYCLES_LO, CYCLES_HI, IDENTITY, 0x1C, 0xFC]
        )

    def drive(self, ports: Ports, pace: float) -> None:
        # Address and data of a write come apart, either first; the next write may be on already.
        rng = self.rng
        if self.address is None and chance(rng, pace) and self.writes["aw"] <= self.writes["w"]:
            self.address = self._register()
        if self.data is None and chance(rng, pace) and self.writes["w"] <= self.writes["aw"]:
            self.data = rng.choice([rng.getrandbits(32), 1])
        if self.read is None and chance(rng, pace):
            self.read = self._register()
        ports.drive(
            bus_awvalid=int(self.address is not None),
            bus_awaddr=rng.getrandbits(8) if self.address is None else self.address,
            bus_wvalid=int(self.data is not None),
            bus_wdata=rng.getrandbits(32) if self.data is None else self.data,
            bus_wstrb=0xF,
            bus_arvalid=int(self.read is not None),
            bus_araddr=rng.getrandbits(8) if self.read is None else self.read,
            bus_bready=chance(rng, pace),
            bus_rready=chance(rng, pace),
        )


@unit_test("control")
async def registers_start_and_watch_a_run(ports: Ports, rng: random.Random, _unit: str) -> None:
    """Every register, start and its refusal while busy, done, error and the cycle counter."""
    registers, host = Registers(), Host(rng)
    await ports.reset(**INPUTS)
    responses = 0  # writes that lack their B
    due: int | None = None  # data of the read that lacks its R
    started = False
    runs = refused = 0
    for cycle in range(CYCLES):
        pace = PACES[cycle // 500 % len(PACES)]
        host.drive(ports, pace)
        # The core: busy for a while, with an idle glitch in the cycle of `start`, as the units' is.
        idle = started or not registers.busy or chance(rng, 0.05)
        error, error_command = chance(rng, 0.3), rng.getrandbits(24)
        response = chance(rng, 0.2)
        ports.drive(idle=int(idle), error=error, error_command=error_command, write_response=response)
        await ports.settle()

        equal("start", ports.get("start"), int(started))
        equal("done", ports.get("done"), int(registers.done))
        equal("base", ports.get("base"), registers.base)
        equal("length", ports.get("length"), registers.length)
        b_there, r_there = ports.get("bus_bvalid"), ports.get("bus_rvalid")
        equal("bvalid", b_there, int(responses > 0))
        equal("rvalid", r_there, int(due is not None))
        if r_there:
            equal("rdata, rresp", ports.many(("bus_rdata", "bus_rresp")), (due, 0))
        aw, w, ar = ports.many(("bus_awready", "bus_wready", "bus_arready"))

        if r_there and ports.driven("bus_rready"):
            due = None
        if ar and host.read is not None:
            equal("the read that an AR outruns", due, None)
            due = registers.read(host.read, error, error_command)
            host.read = None
        if b_there and ports.driven("bus_bready"):
            equal("bresp", ports.get("bus_bresp"), 0)
            responses -= 1
            host.writes["b"] += 1
        finished = registers.busy and idle and not started
        if registers.busy and response:
            registers.cycles = registers.run_cycle
        was_busy, started = registers.busy, False
        took_address, took_data = aw and host.address is not None, w and host.data is not None
        equal("a write that is taken in parts", took_address, took_data)
        if took_address and host.address is not None and host.data is not None:
            started = registers.write(host.address, host.data)
            refused += host.address == START and bool(host.data & 1) and was_busy
            host.address = host.data = None
            host.writes["aw"] += 1
            host.writes["w"] += 1
            responses += 1
            equal("writes at once", responses, 1)
        if finished:
            registers.busy, registers.done = False, True
        registers.run_cycle += 1
        if started:
            runs += 1
            registers.busy, registers.done, registers.cycles, registers.run_cycle = True, False, 0, 1
        await ports.edge()
    equal("runs and refused starts that were met", (runs > 20, refused > 20), (True, True))
