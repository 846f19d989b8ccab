"""DRAM: DRAMsim3's figures, hand-worked commands, and a controller that keeps only its history."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bitwright.sim.dram import mapping_table, new_channel, run_trace
from bitwright.sim.dram_kernel import serve
from bitwright.sim.dram_part import DramPart, dram_part_names, load_dram_part
from bitwright.sim.dram_scheduler import schedule

# Bits of an address on DDR4-2400, two ranks, mapping rochrababgco: 7 columns, 2 groups, 2 banks, 1 rank.
GROUP, BANK, RANK, ROW, COLUMN = 1 << 13, 1 << 15, 1 << 17, 1 << 18, 1 << 6


@pytest.fixture(scope="module")
def part() -> DramPart:
    return load_dram_part("DDR4-2400")


def test_dramsim3s_last_completions_are_met_in_every_row(part: DramPart, shared_reference: Path) -> None:
    # Rows with one outstanding must be within 1 cycle (0.5 % with refresh), unbounded ones within 10 %.
    with np.load(shared_reference / "dram" / "traces.npz") as file:
        traces = {name: file[name] for name in file.files}
    text = (shared_reference / "dram" / "dramsim3_ddr4_2400.csv").read_text(encoding="utf-8")
    differences = {}
    for row in csv.DictReader(text.splitlines()):
        run = run_trace(
            part,
            traces[row["trace"]],
            refresh=row["refresh"] == "on",
            outstanding=1 if row["outstanding"] == "1" else None,
        )
        key = (row["trace"], row["refresh"], row["outstanding"])
        differences[key] = run.cycles - int(row["last_read_cycle"])
    assert len(differences) == 10
    assert set(differences.values()) == {0}


def test_a_read_of_a_closed_row_takes_activate_column_and_data(part: DramPart) -> None:
    # Made in 0; ACT 1, RD 1 + tRCD 17 = 18, data to 18 + CL 17 + BL/2 4 = 39: answered in 40.
    run = run_trace(part, [0], refresh=False)
    assert run.answers.tolist() == [40]
    assert (run.activates, run.precharges, run.reads, run.row_hits) == (1, 0, 1, 0)


def test_row_hit_costs_a_command_latency_and_data(part: DramPart) -> None:
    # Made in 40; RD 41, data to 62, answered in 63.
    run = run_trace(part, [0, COLUMN], refresh=False)
    assert run.answers.tolist() == [40, 63]
    assert run.row_hits == 1


def test_row_conflict_costs_precharge_plus_activate(part: DramPart) -> None:
    # Made in 40; PRE 41 (ACT 1 + tRAS 39 is past), ACT 58, RD 75, data to 96.
    run = run_trace(part, [0, ROW], refresh=False)
    assert run.answers.tolist() == [40, 97]
    assert (run.activates, run.precharges) == (2, 1)


def test_a_read_after_a_write_waits_for_the_write_to_read_time(part: DramPart) -> None:
    # ACT 1, WR 18, data to 18 + CWL 12 + 4 = 34, answered in 35. The same bank group: RD at 34 + tWTR_L 9 =
    # 43, data to 64. Another group, opened from 36 on: ACT 36, RD 53.
    same = run_trace(part, [0, COLUMN], writes=[True, False], refresh=False)
    assert same.answers.tolist() == [35, 43 + 21 + 1]
    other = run_trace(part, [0, GROUP], writes=[True, False], refresh=False)
    assert other.answers.tolist() == [35, 53 + 21 + 1]


def test_an_open_row_of_another_group_waits_for_the_short_write_to_read_time(part: DramPart) -> None:
    # Group 1's row is open from 1 on (RD 18, answered in 40); the write to group 0: ACT 41, WR 58, data to
    # 74, answered in 75. The next read could come in 76, but for 74 + tWTR_S 3.
    run = run_trace(part, [GROUP, 0, GROUP + COLUMN], writes=[False, True, False], refresh=False)
    assert run.answers.tolist() == [40, 75, 77 + 21 + 1]


def test_a_written_row_is_closed_only_after_the_write_recovery(part: DramPart) -> None:
    # WR 18, data to 34, tWR 18: PRE 52 (and not 36), ACT 69, RD 86, data to 107.
    run = run_trace(part, [0, ROW], writes=[True, False], refresh=False)
    assert run.answers.tolist() == [35, 108]


def test_writes_to_one_bank_group_keep_the_long_column_time(part: DramPart) -> None:
    # Made in 0, 1, 2; ACT 1, WR 18, 24, 30 (tCCD_L 6); data 16 later, answered a cycle after that.
    run = run_trace(part, [0, COLUMN, 2 * COLUMN], writes=[True] * 3, outstanding=None, refresh=False)
    assert run.answers.tolist() == [35, 41, 47]


def test_a_write_after_a_read_waits_until_the_bus_has_turned(part: DramPart) -> None:
    # ACT 1, RD 18: its data end at 39; WR's begin CWL 12 later, a cycle apart: WR 39 + 1 − 12 = 28.
    run = run_trace(part, [0, COLUMN], writes=[False, True], outstanding=None, refresh=False)
    assert run.answers.tolist() == [40, 28 + 16 + 1]


def test_a_write_and_a_read_of_the_same_bytes_keep_their_order(part: DramPart) -> None:
    # The read is the queue's second; alone it could be read from 18 on.
    run = run_trace(part, [0, 0], writes=[True, False], outstanding=None, refresh=False)
    assert run.answers.tolist() == [35, 43 + 21 + 1]


def test_the_fifth_activate_of_a_rank_waits_for_the_window_of_four(part: DramPart) -> None:
    # ACT 1, 5, 9, 13 in four groups (tRRD_S 4), the fifth at 1 + tFAW 26 = 27, RD 44, data to 65.
    addresses = [0, GROUP, 2 * GROUP, 3 * GROUP, BANK]
    run = run_trace(part, addresses, outstanding=None, refresh=False)
    assert run.answers.tolist() == [40, 44, 48, 52, 66]


def test_banks_of_one_group_keep_the_long_activate_time(part: DramPart) -> None:
    run = run_trace(part, [0, BANK], outstanding=None, refresh=False)
    assert run.answers.tolist() == [40, 46]  # ACT 1 and 7 (tRRD_L 6)


def test_bursts_of_two_ranks_leave_a_cycle_between_them(part: DramPart) -> None:
    # ACT 1 and 2 (ranks don't concern each other); RD 18 and, 4 cycles of data and 1 to turn, 23.
    run = run_trace(part, [0, RANK], outstanding=None, refresh=False)
    assert run.answers.tolist() == [40, 23 + 21 + 1]


def test_a_closed_page_is_precharged_behind_each_access(part: DramPart) -> None:
    # The same row: RD 18, PRE at max(18 + tRTP 9, 1 + tRAS 39) = 40, ACT 57 (made in 40), RD 74, data to 95.
    run = run_trace(part, [0, COLUMN], refresh=False, page="closed")
    assert run.answers.tolist() == [40, 96]
    assert (run.activates, run.precharges, run.row_hits) == (2, 2, 0)


def test_a_refresh_closes_the_rows_of_its_rank(part: DramPart) -> None:
    # tREFI 9360, two ranks: the first falls due in 4679, for rank 0. Row hits are 23 cycles apart from 40 on:
    # the 203rd is read in 4664 and answered in 40 + 202 · 23 = 4686, before the 204th is made: PRE 4679, REF
    # tRP 17 later, ACT tRFC 420 later, RD 17, data 21.
    run = run_trace(part, [COLUMN * (i % 128) for i in range(204)])
    assert (run.refreshes, run.activates, run.precharges) == (1, 2, 1)
    assert set(np.diff(run.answers[:203]).tolist()) == {23}
    assert run.answers[202:].tolist() == [4686, 4679 + 17 + 420 + 17 + 21 + 1]


def test_a_rank_in_refresh_does_not_hold_up_the_other(part: DramPart) -> None:
    run = run_trace(part, [RANK + COLUMN * (i % 128) for i in range(204)])
    assert run.refreshes == 1
    assert set(np.diff(run.answers).tolist()) == {23}


@pytest.mark.parametrize("name", dram_part_names())
@pytest.mark.parametrize("limit", [1, 5, None])
def test_random_traces_equal_a_controller_that_keeps_only_its_history(
    name: str, limit: int | None, dram_twin: ModuleType
) -> None:
    part = load_dram_part(name)
    part = replace(part, trefi=300 * part.ranks, trfc=130)
    if part.protocol == "HBM":
        part = replace(part, protocol="DDR4", columns=2 * part.columns)  # the twin has one command bus
    rng = np.random.default_rng(17)
    rows = rng.integers(0, 3, 110)
    columns = rng.integers(0, 4, 110)
    places = rng.integers(0, part.ranks * part.bankgroups * part.banks_per_group, 110)
    fields = part.field_positions()
    where = rows << fields["ro"][0] | columns << fields["co"][0]
    low = min(fields[key][0] for key in ("ra", "bg", "ba"))
    addresses = where | places << low
    writes = rng.random(110) < 0.3
    for refresh in (False, True):
        run = run_trace(part, addresses, writes=writes, outstanding=limit, refresh=refresh)
        answers, commands = dram_twin.run(part, addresses.tolist(), writes.tolist(), limit or 0, refresh)
        assert run.answers.tolist() == answers
        kinds = [command.kind for command in commands]
        assert (run.activates, run.precharges) == (kinds.count("ACT"), kinds.count("PRE"))
        assert (run.reads, run.writes) == (kinds.count("RD"), kinds.count("WR"))
        assert not refresh or run.refreshes == kinds.count("REF") > 0


@pytest.mark.parametrize("name", ["DDR4-2400", "LPDDR4-2400"])
def test_accesses_served_in_order_keep_every_time_though_rows_are_opened_ahead(
    name: str, dram_twin: ModuleType
) -> None:
    part = load_dram_part(name)
    channel, table = new_channel(part, refresh=False), mapping_table(part)
    rng = np.random.default_rng(23)
    arrivals = np.cumsum(rng.integers(0, 9, 200)).tolist()
    spots = rng.integers(0, 64, 200) << part.field_positions()["bg"][0]  # banks of both ranks, and rows
    addresses = (spots | rng.integers(0, 3, 200) << part.field_positions()["ro"][0]).tolist()
    writes = (rng.random(200) < 0.3).tolist()
    bus = np.zeros(2, np.int64)
    answers = [
        serve(*channel.arrays, bus, table, address, write, made + 1)
        for made, address, write in zip(arrivals, addresses, writes, strict=True)
    ]
    assert answers == dram_twin.run_in_order(part, arrivals, addresses, writes)
    assert sum(made < done for done, made in zip(answers, arrivals[1:], strict=False)) > 100  # they overlap


def test_one_access_at_a_time_is_the_same_through_either_kernel(part: DramPart) -> None:
    rng = np.random.default_rng(3)
    addresses = rng.integers(0, 1 << 22, 3000) & ~63
    writes = (rng.random(3000) < 0.4).astype(np.uint8)
    run = run_trace(part, addresses, writes=writes)
    channel, answers = new_channel(part), np.zeros(3000, np.int64)
    schedule(*channel.arrays, mapping_table(part), addresses, writes, 1, 32, 8, answers)
    assert np.array_equal(answers, run.answers)


@pytest.mark.parametrize("outstanding", [1, None])
def test_the_compiled_kernel_computes_what_its_python_does(part: DramPart, outstanding: int | None) -> None:
    rng = np.random.default_rng(9)
    addresses = rng.integers(0, 1 << 21, 250) & ~63
    writes = rng.random(250) < 0.3
    runs = [
        run_trace(part, addresses, writes=writes, outstanding=outstanding, compiled=compiled)
        for compiled in (True, False)
    ]
    assert np.array_equal(runs[0].answers, runs[1].answers)
    assert [run.open_cycles for run in runs] == [runs[0].open_cycles] * 2


def test_hbm_gives_a_row_and_a_column_command_in_one_cycle() -> None:
    # Mapping rorabgbachco: bank is bits 11, 12. One group's four banks are activated in 1, 7, 13, 19
    # (tRRD_L 6), the first one's columns read in 15, 17, 19 (tCCD_L 2): in 19 there are two commands. Answers
    # come 17 later (CL 14, 2 of data, 1), the others' reads tRCD 14 after their activates.
    addresses = [0, 1 << 11, 2 << 11, 3 << 11, 1 << 6, 2 << 6]
    run = run_trace(load_dram_part("HBM2"), addresses, outstanding=None, refresh=False)
    assert run.answers.tolist() == [32, 38, 44, 50, 34, 36]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"addresses": []}, "addresses must be whole numbers"),
        ({"addresses": [0.5]}, "addresses must be whole numbers"),
        ({"addresses": [-64]}, "addresses must be from 0 to"),
        ({"addresses": [1 << 62]}, "addresses must be from 0 to"),
        ({"addresses": [0], "writes": [True, False]}, "writes must have the shape of addresses"),
        ({"addresses": [0], "outstanding": 0}, "outstanding must be at least 1, or None"),
        ({"addresses": [0], "page": "shut"}, "page must be open or closed, not 'shut'"),
        ({"addresses": [0], "mapping": "rochrababg"}, "address_mapping must have each of"),
    ],
)
def test_a_wrong_trace_is_refused(part: DramPart, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_trace(part, **arguments)
