"""Energy of DRAM commands against hand arithmetic from the part's currents."""

from __future__ import annotations

import pytest
from bitwright.sim.dram import run_trace
from bitwright.sim.dram_energy import dram_energy, dram_prices, dram_time
from bitwright.sim.dram_part import load_dram_part
from bitwright.sim.energy_table import load_energy_table


def test_commands_cost_what_their_currents_do_above_standby() -> None:
    # DDR4-2400, eight devices, 1.2 V, 0.83 ns: 7.968 pJ for a mA and cycle. ACT and PRE: 48 · 56 − 43 · 39 −
    # 34 · 17 = 433; RD (135 − 43) · 4 = 368; WR (123 − 43) · 4 = 320; REF (250 − 43) · 420 = 86940.
    unit = 1.2 * 0.83 * 8
    rows = dram_prices(load_dram_part("DDR4-2400"), load_energy_table())
    found = {name: row.value_pj for name, row in rows.items()}
    charges = {"activate": 433, "read": 368, "write": 320, "refresh": 86940, "open": 43, "closed": 34}
    assert found == pytest.approx({name: charge * unit for name, charge in charges.items()})
    assert {row.status for row in rows.values()} == {"derived"}


def test_the_time_of_a_core_run_is_refreshes_and_standby_apart_from_its_events() -> None:
    # Two ranks over 1000 cycles, 300 of them with an open row; three refreshes.
    part, table = load_dram_part("DDR4-2400"), load_energy_table()
    row = dram_time(part, table, {"refresh": 3, "open_cycles": 300}, 1000)
    assert row is not None
    assert row.value_pj == pytest.approx((3 * 86940 + 300 * 43 + 1700 * 34) * 1.2 * 0.83 * 8)
    assert (row.per, row.status) == ("run", "derived")
    assert dram_time(load_dram_part("HBM2"), table, {"refresh": 3, "open_cycles": 300}, 1000) is None


def test_a_row_miss_costs_an_activate_more_than_a_hit() -> None:
    part, table = load_dram_part("DDR4-2400"), load_energy_table()
    rows = dram_prices(part, table)
    hit, miss = (run_trace(part, [0, second], refresh=False) for second in (1 << 6, 1 << 18))
    commands = ("activate", "read")
    costs = [sum(dram_energy(run, table).energy_pj[name] for name in commands) for run in (hit, miss)]
    assert costs[0] == pytest.approx(rows["activate"].value_pj + 2 * rows["read"].value_pj)
    assert costs[1] - costs[0] == pytest.approx(rows["activate"].value_pj)


def test_each_ranks_cycles_are_with_or_without_an_open_row() -> None:
    # The row is opened in 1 and still open when the read is answered in 40; the other rank has none.
    part = load_dram_part("DDR4-2400")
    run = run_trace(part, [0], refresh=False)
    assert (run.cycles, run.open_cycles) == (40, 39)
    rows = dram_prices(part, load_energy_table())
    energy = dram_energy(run, load_energy_table()).energy_pj
    assert energy["open"] == pytest.approx(39 * rows["open"].value_pj)
    assert energy["closed"] == pytest.approx((2 * 40 - 39) * rows["closed"].value_pj)


def test_a_part_without_currents_is_priced_by_the_bit_and_marked() -> None:
    # LPDDR4: 128 bytes a burst at 8 pJ a bit.
    part, table = load_dram_part("LPDDR4-2400"), load_energy_table()
    energy = dram_energy(run_trace(part, [0, 128, 1 << 20]), table)
    assert energy.total_pj == pytest.approx(3 * 1024 * 8)
    assert "no currents" in energy.rows["access"].source


def test_a_part_of_a_protocol_without_a_row_is_refused_unless_given() -> None:
    part = load_dram_part("LPDDR4-2400", changes={"protocol": "DDR4"})
    with pytest.raises(ValueError, match=r"no energy row 'dram_DDR4'.*or give energy.dram_DDR4"):
        dram_prices(part, load_energy_table())
    row = dram_prices(part, load_energy_table({"dram_DDR4": 10}))["access"]
    assert (row.value_pj, row.status) == (10240, "assumed")
