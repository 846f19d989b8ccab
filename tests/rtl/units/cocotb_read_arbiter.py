"""ReadArbiter against a register and a rule: fetch before LOAD, payload held until its handshake."""

from __future__ import annotations

import random

from unit_machines import ARBITER_BITS
from unit_stimulus import PACES, Ports, chance, equal, unit_test

CYCLES = 4000
SOURCES = ("fetch", "load")
PAYLOAD = ("axi_arid", "axi_araddr", "axi_arlen", "axi_arsize", "axi_arburst")


@unit_test("arbiter")
async def requests_and_beats_find_their_way(ports: Ports, rng: random.Random, _unit: str) -> None:
    """A request is granted when the register is free; it is on AR from the next cycle until `arready`."""
    requests = {f"{source}_{name}": 0 for source in SOURCES for name in ("request", "address", "beats")}
    beats = dict.fromkeys(("axi_arready", "axi_rvalid", "axi_rid", "axi_rdata", "axi_rresp", "axi_rlast"), 0)
    await ports.reset(load_ready=0, **requests, **beats)
    held: tuple[int, ...] | None = None
    granted = dict.fromkeys(SOURCES, 0)
    both = 0
    for cycle in range(CYCLES):
        pace = PACES[cycle // 200 % 4]
        ready_pace = PACES[cycle // 800 % 4]
        asks = {source: chance(rng, pace) for source in SOURCES}
        what = {
            source: (rng.getrandbits(32), rng.choice([1, 4, 16, 255, 256, rng.randint(1, 256)]))
            for source in SOURCES
        }
        for source in SOURCES:
            address, count = what[source]
            ports.drive(
                **{
                    f"{source}_request": asks[source],
                    f"{source}_address": address,
                    f"{source}_beats": count,
                }
            )
        ar_ready, r_valid, rid = chance(rng, ready_pace), chance(rng, 0.6), rng.getrandbits(1)
        data, last, load_ready = rng.getrandbits(ARBITER_BITS), rng.getrandbits(1), rng.getrandbits(1)
        ports.drive(axi_arready=ar_ready, axi_rvalid=r_valid, axi_rid=rid, axi_rdata=data, axi_rlast=last)
        ports.drive(load_ready=load_ready)
        await ports.settle()

        equal("arvalid", ports.get("axi_arvalid"), int(held is not None))
        if held is not None:
            equal("the request on AR", ports.many(PAYLOAD), held)
        free = held is None or ar_ready
        winner = next((source for source in SOURCES if asks[source]), None) if free else None
        grants = ports.many(f"{source}_grant" for source in SOURCES)
        equal("grants of fetch, load", grants, tuple(int(source == winner) for source in SOURCES))
        both += winner is not None and all(asks.values())

        came = ports.many(("fetch_valid", "load_valid"))
        equal("valids of fetch, load", came, (int(r_valid and rid == 0), int(r_valid and rid == 1)))
        equal("data", ports.get("data"), data)
        if r_valid:
            equal("rready", ports.get("axi_rready"), 1 if rid == 0 else load_ready)
            equal("load_last", ports.get("load_last"), last)

        if free:
            held = None
        if winner is not None:
            address, count = what[winner]
            size = (ARBITER_BITS // 8).bit_length() - 1
            held = (SOURCES.index(winner), address, count - 1, size, 1)
            granted[winner] += 1
        await ports.edge()
    equal("contested and uncontested grants that were met", min(both, *granted.values()) > 50, True)
