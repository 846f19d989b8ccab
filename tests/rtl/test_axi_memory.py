"""axi_memory.sv against a second, naive statement of docs/architecture.md's memory rules.

The file is two things: pytest runs the tests, and cocotb, inside the simulator, the coroutines that
drive random traffic and record it cycle by cycle.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest
from bitwright.mapper.machine import MemoryTiming
from bitwright.rtl.cocotb_run import run_cocotb
from bitwright.rtl.memory_image import read_dump, write_image
from bitwright.rtl.runner import BENCH_FOLDER, timing_inputs
from bitwright.rtl.verilate import Main, verilate
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

BUS_BYTES = 8
WORDS = 2048
SEED = 20240607
MEMORIES = [
    MemoryTiming(read_latency=1, write_latency=1),
    MemoryTiming(read_latency=20, write_latency=8, stall_rate=100, stall_mask=7, seed=5),
    MemoryTiming(read_latency=3, write_latency=2, beat_interval=3, stall_rate=40, seed=99),
    MemoryTiming(
        read_latency=7, write_latency=30, beat_interval=2, stall_rate=255, stall_mask=3, seed=1 << 31
    ),
]
INPUT_LIST = """
rst read_latency write_latency beat_interval stall_rate stall_mask seed load load_index dump
dump_index dump_first dump_last awid awaddr awlen awsize awburst awvalid wdata wstrb wlast
wvalid bready arid araddr arlen arsize arburst arvalid rready
"""
OUTPUT_LIST = """
arready rvalid rid rdata rlast rresp awready wready bvalid bid bresp ar_count r_count aw_count
w_count b_count write_bytes protocol_error
"""
INPUTS, OUTPUTS = INPUT_LIST.split(), OUTPUT_LIST.split()

READ = {"arvalid": 1, "araddr": 64, "arlen": 0, "arsize": 3, "arburst": 1}
WRITE = {"awvalid": 1, "awaddr": 64, "awlen": 0, "awsize": 3, "awburst": 1}
DATA = {"wvalid": 1, "wstrb": 255, "wlast": 1}
OFF = {"arvalid": 0, "awvalid": 0, "wvalid": 0}
BROKEN_RULES: dict[str, list[dict[str, int]]] = {
    "AR: valid fell before ready": [{**READ, "stall_rate": 255}, OFF],
    "AR: payload changed while waiting": [{**READ, "stall_rate": 255}, {"araddr": 128}],
    "AR: 2 beats from 0x00000ff8 cross a 4 KiB boundary": [{**READ, "araddr": 0xFF8, "arlen": 1}],
    "AR: size 2 is not the bus width's 3": [{**READ, "arsize": 2}],
    "AR: burst type 0 is not INCR": [{**READ, "arburst": 0}],
    "AR: 0x00004000 lies beyond the memory's 2048 words": [{**READ, "araddr": WORDS * 8}],
    "AW: valid fell before ready": [{**WRITE, "stall_rate": 255}, OFF],
    "AW: payload changed while waiting": [{**WRITE, "stall_rate": 255}, {"awlen": 3}],
    "AW: 16 beats from 0x00000f88 cross": [{**WRITE, "awaddr": 0xF88, "awlen": 15}],
    "W: valid fell before ready": [DATA, OFF],
    "W: payload changed while waiting": [DATA, {"wdata": 1}],
    "W: last comes too early": [{**WRITE, "awlen": 1}, {**OFF, **DATA}],
    "W: last is missing": [WRITE, {**OFF, **DATA, "wlast": 0}],
    "W: strobes below the burst's first byte": [{**WRITE, "awaddr": 68}, {**OFF, **DATA}],
}
FINE_TRAFFIC = [WRITE, {**OFF, **DATA}, {**OFF, **READ, "araddr": 0xFF8}]


# ---- inside the simulator ------------------------------------------------------------------------


async def _reset(dut: Any, memory: MemoryTiming, image: int) -> None:
    for name in INPUTS:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for name, value in timing_inputs(memory).items():
        getattr(dut, name).value = value
    await FallingEdge(dut.clk)
    dut.load.value = 1
    dut.load_index.value = image
    await FallingEdge(dut.clk)
    dut.load.value = 0
    await FallingEdge(dut.clk)
    dut.rst.value = 0


def _write_beats(bursts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**beat, "burst": index, "last": number == len(burst["beats"]) - 1}
        for index, burst in enumerate(bursts)
        for number, beat in enumerate(burst["beats"])
    ]


async def _traffic(dut: Any, plan: dict[str, Any]) -> list[dict[str, int]]:
    """A record a cycle: what was driven and what came back."""
    reads, writes = list(plan["reads"]), list(plan["writes"])
    beats = _write_beats(writes)
    r_left = sum(burst["len"] + 1 for burst in reads)
    b_left, taken_bursts = len(writes), 0
    waits = {"ar": reads[0]["gap"], "aw": writes[0]["gap"], "w": beats[0]["gap"]}
    trace: list[dict[str, int]] = []
    while reads or beats or r_left or b_left:
        drive: dict[str, int] = {}
        drive["arvalid"] = int(bool(reads) and waits["ar"] == 0)
        if reads:
            drive |= {"araddr": reads[0]["address"], "arlen": reads[0]["len"]}
            drive |= {"arid": reads[0]["id"], "arsize": 3, "arburst": 1}
        drive["awvalid"] = int(bool(writes) and waits["aw"] == 0)
        if writes:
            drive |= {"awaddr": writes[0]["address"], "awlen": len(writes[0]["beats"]) - 1}
            drive |= {"awid": writes[0]["id"], "awsize": 3, "awburst": 1}
        # Every other burst's data may outrun its address.
        ahead = bool(beats) and (taken_bursts > beats[0]["burst"] or beats[0]["burst"] % 2 == 1)
        drive["wvalid"] = int(ahead and waits["w"] == 0)
        if beats:
            drive |= {"wdata": beats[0]["data"], "wstrb": beats[0]["strobes"]}
            drive["wlast"] = int(beats[0]["last"])
        drive["rready"] = plan["rready"][len(trace) % len(plan["rready"])]
        drive["bready"] = plan["bready"][len(trace) % len(plan["bready"])]
        for name, value in drive.items():
            getattr(dut, name).value = value
        await ReadOnly()
        record = drive | {name: int(getattr(dut, name).value) for name in OUTPUTS}
        trace.append(record)
        for channel in ("ar", "aw", "w"):
            waits[channel] = max(0, waits[channel] - 1)
        if record["arvalid"] and record["arready"]:
            del reads[0]
            waits["ar"] = reads[0]["gap"] if reads else 0
        if record["awvalid"] and record["awready"]:
            del writes[0]
            taken_bursts += 1
            waits["aw"] = writes[0]["gap"] if writes else 0
        if record["wvalid"] and record["wready"]:
            del beats[0]
            waits["w"] = beats[0]["gap"] if beats else 0
        r_left -= record["rvalid"] & record["rready"]
        b_left -= record["bvalid"] & record["bready"]
        assert len(trace) < 20000, "the memory hangs"
        await FallingEdge(dut.clk)
    return trace


@cocotb.test()
async def drive_traffic(dut: Any) -> None:
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    plans = json.loads(Path("plans.json").read_text())
    traces = []
    for index, (plan, memory) in enumerate(zip(plans, MEMORIES, strict=True)):
        await _reset(dut, memory, index)
        traces.append(await _traffic(dut, plan))
        dut.arvalid.value = dut.awvalid.value = dut.wvalid.value = 0
        dut.dump_index.value = index
        dut.dump_last.value = WORDS - 1
        dut.dump.value = 1
        await FallingEdge(dut.clk)
        traces[-1].append({name: int(getattr(dut, name).value) for name in OUTPUTS})
    Path("traces.json").write_text(json.dumps(traces))


@cocotb.test()
async def break_rules(dut: Any) -> None:
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    flags = []
    for pokes in [*BROKEN_RULES.values(), FINE_TRAFFIC]:
        stall_rate = pokes[0].get("stall_rate", 0)
        await _reset(dut, MemoryTiming(stall_rate=stall_rate, stall_mask=0), 0)
        for poke in [*pokes, OFF]:
            for name, value in poke.items():
                getattr(dut, name).value = value
            await FallingEdge(dut.clk)
        flags.append(int(dut.protocol_error.value))
    Path("flags.json").write_text(json.dumps(flags))


# ---- plans and the oracle ------------------------------------------------------------------------


def _bounded_burst(rng: random.Random) -> tuple[int, int]:
    """Word-aligned address and beats of a burst within one page."""
    word = rng.randrange(WORDS)
    page_left = 512 - word % 512
    return word * BUS_BYTES, min(rng.choice([1, 1, 2, 4, 16, 40]), page_left)


def _plan(rng: random.Random) -> dict[str, Any]:
    reads, writes = [], []
    for _ in range(40):
        address, beats = _bounded_burst(rng)
        gap = rng.choice([0, 0, 1, 9])
        reads.append({"address": address, "len": beats - 1, "id": rng.randrange(2), "gap": gap})
    for _ in range(25):
        address, count = _bounded_burst(rng)
        beats = [
            {
                "data": rng.getrandbits(64),
                "strobes": rng.choice([255, 255, rng.getrandbits(8)]),
                "gap": rng.choice([0, 0, 0, 1, 5]),
            }
            for _ in range(count)
        ]
        gap = rng.choice([0, 1, 20])
        writes.append({"address": address, "id": rng.randrange(2), "gap": gap, "beats": beats})
    return {
        "reads": reads,
        "writes": writes,
        "rready": [int(rng.random() < 0.7) for _ in range(997)],
        "bready": [int(rng.random() < 0.5) for _ in range(991)],
    }


def _stall(memory: MemoryTiming, channel: int, index: int) -> int:
    wrap = 0xFFFF_FFFF
    x = memory.seed ^ (index * 0x9E3779B1 & wrap) ^ (channel * 0x85EBCA6B & wrap)
    x ^= x >> 16
    x = x * 0x7FEB352D & wrap
    x ^= x >> 15
    x = x * 0x846CA68B & wrap
    x ^= x >> 16
    return 1 + ((x >> 8) & memory.stall_mask) if (x & 255) < memory.stall_rate else 0


def _address_handshakes(
    memory: MemoryTiming, channel: int, trace: list[dict[str, int]], valid: str
) -> list[int]:
    handshakes: list[int] = []
    cycle = 0
    while cycle < len(trace):
        if trace[cycle][valid]:
            cycle += _stall(memory, channel, len(handshakes))
            handshakes.append(cycle)
        cycle += 1
    return handshakes


def _oracle(
    memory: MemoryTiming, plan: dict[str, Any], trace: list[dict[str, int]], image: bytes
) -> dict[str, Any]:
    """Handshake cycles, beats and final contents; only the driven side of `trace` is looked at."""
    ar = _address_handshakes(memory, 0, trace, "arvalid")
    aw = _address_handshakes(memory, 2, trace, "awvalid")

    def gap(channel: int, index: int) -> int:
        return _stall(memory, channel, index) + (memory.beat_interval - 1 if index else 0)

    def first_ready(cycle: int, ready: str) -> int:
        while not trace[cycle][ready]:
            cycle += 1
        return cycle

    w: list[int] = []
    b: list[int] = []
    beats = _write_beats(plan["writes"])
    cycle = 0
    for index, beat in enumerate(beats):
        cycle = max(cycle, aw[beat["burst"]] + 1)
        while not trace[cycle]["wvalid"]:
            cycle += 1
        cycle += gap(3, index)
        w.append(cycle)
        if beat["last"]:
            earliest = cycle + memory.write_latency
            b.append(first_ready(max(earliest, b[-1] + 1 if b else 0), "bready"))
        cycle += 1

    contents = bytearray(image)
    pending = list(zip(w, beats, strict=True))
    numbers = [n for burst in plan["writes"] for n in range(len(burst["beats"]))]

    def write_until(limit: int) -> None:
        while pending and pending[0][0] < limit:
            _, beat = pending.pop(0)
            start = plan["writes"][beat["burst"]]["address"] + numbers.pop(0) * BUS_BYTES
            for lane in range(BUS_BYTES):
                if beat["strobes"] >> lane & 1:
                    contents[start + lane] = beat["data"] >> (8 * lane) & 255

    presented: list[int] = []
    r: list[tuple[int, int, int, int]] = []
    for number, burst in enumerate(plan["reads"]):
        for beat_number in range(burst["len"] + 1):
            earliest = r[-1][0] + 1 if r else 0
            if beat_number == 0:
                earliest = max(earliest, ar[number] + memory.read_latency)
            presented.append(earliest + gap(1, len(r)))
            handshake = first_ready(presented[-1], "rready")
            write_until(handshake)
            start = burst["address"] + beat_number * BUS_BYTES
            data = int.from_bytes(contents[start : start + BUS_BYTES], "little")
            r.append((handshake, data, burst["id"], int(beat_number == burst["len"])))
    write_until(1 << 60)
    return {"ar": ar, "aw": aw, "w": w, "b": b, "presented": presented, "r": r, "end": contents}


def _handshakes(trace: list[dict[str, int]], channel: str) -> list[int]:
    return [t for t, c in enumerate(trace) if c[f"{channel}valid"] and c[f"{channel}ready"]]


def _observed(trace: list[dict[str, int]]) -> dict[str, Any]:
    presented = [
        t
        for t, c in enumerate(trace)
        if c["rvalid"] and (t == 0 or not trace[t - 1]["rvalid"] or trace[t - 1]["rready"])
    ]
    r = [(t, c["rdata"], c["rid"], c["rlast"]) for t, c in enumerate(trace) if c["rvalid"] & c["rready"]]
    named = {channel: _handshakes(trace, channel) for channel in ("ar", "aw", "w", "b")}
    return named | {"presented": presented, "r": r}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("axi_memory")
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    plans = [_plan(rng) for _ in MEMORIES]
    images = [rng.randbytes(WORDS * BUS_BYTES) for _ in MEMORIES]
    for index, image in enumerate(images):
        data = np.frombuffer(image, dtype=np.uint8)
        write_image(folder / f"image_{index}.hex", data, 0, BUS_BYTES)
    (folder / "plans.json").write_text(json.dumps(plans))
    ports = "".join(
        f'public_flat_rw -module "axi_memory" -var "{name}"\n' for name in ("clk", *INPUTS, *OUTPUTS)
    )
    executable = verilate(
        {
            "axi_memory.sv": (BENCH_FOLDER / "axi_memory.sv").read_text(),
            "ports.vlt": f"`verilator_config\n{ports}",
        },
        top="axi_memory",
        main=Main.COCOTB,
        parameters={"DATA_BITS": 8 * BUS_BYTES, "MEM_WORDS": WORDS},
    )
    log = run_cocotb(
        executable,
        top="axi_memory",
        module="test_axi_memory",
        folder=folder,
        tests=2,
        python_path=[str(Path(__file__).parent)],
    )
    return {
        "plans": plans,
        "images": images,
        "traces": json.loads((folder / "traces.json").read_text()),
        "dumps": [read_dump(folder / f"dump_{i}.hex", BUS_BYTES) for i in range(len(MEMORIES))],
        "flags": json.loads((folder / "flags.json").read_text()),
        "log": log,
    }


@pytest.mark.parametrize("index", range(len(MEMORIES)))
def test_every_handshake_comes_in_the_cycle_that_the_rules_foretell(ran: dict[str, Any], index: int) -> None:
    *trace, _ = ran["traces"][index]
    expected = _oracle(MEMORIES[index], ran["plans"][index], trace, ran["images"][index])
    del expected["end"]
    assert _observed(trace) == expected


@pytest.mark.parametrize("index", range(len(MEMORIES)))
def test_contents_after_strobed_writes_equal_the_oracles(ran: dict[str, Any], index: int) -> None:
    *trace, _ = ran["traces"][index]
    expected = _oracle(MEMORIES[index], ran["plans"][index], trace, ran["images"][index])
    assert ran["dumps"][index] == bytes(expected["end"])


@pytest.mark.parametrize("index", range(len(MEMORIES)))
def test_counters_equal_a_count_of_the_trace(ran: dict[str, Any], index: int) -> None:
    *trace, last = ran["traces"][index]
    expected = {
        f"{channel}_count": sum(c[f"{channel}valid"] & c[f"{channel}ready"] for c in trace)
        for channel in ("ar", "r", "aw", "w", "b")
    }
    expected["write_bytes"] = sum(c["wstrb"].bit_count() for c in trace if c["wvalid"] and c["wready"])
    expected["protocol_error"] = 0
    assert {name: last[name] for name in expected} == expected


def test_responses_are_okay_and_b_returns_the_ids_in_order(ran: dict[str, Any]) -> None:
    for plan, (*trace, _) in zip(ran["plans"], ran["traces"], strict=True):
        assert {c["rresp"] for c in trace} | {c["bresp"] for c in trace} == {0}
        ids = [c["bid"] for c in trace if c["bvalid"] and c["bready"]]
        assert ids == [burst["id"] for burst in plan["writes"]]


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_a_broken_rule_is_named(ran: dict[str, Any], rule: str) -> None:
    flag = ran["flags"][list(BROKEN_RULES).index(rule)]
    assert (flag, f": {rule}" in ran["log"]) == (1, True)


def test_traffic_within_the_rules_raises_no_flag(ran: dict[str, Any]) -> None:
    assert ran["flags"][-1] == 0
