"""Event energies against hand arithmetic from the table's cited rows."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
from bitwright.mapper.machine import load_machine, override_machine
from bitwright.sim.energy import load_energy_table, prices, sram_access

_OWN_ROWS = {"negate", "ternary", "xnor", "compare"}


def test_every_row_that_ships_is_cited_and_has_a_source() -> None:
    for row in load_energy_table().rows.values():
        assert row.status == "cited" or row.item in _OWN_ROWS
        assert row.source
        assert row.value_pj > 0
        assert row.node_nm == 45 or row.item.startswith("dram_")


def test_rows_that_no_table_has_follow_from_cited_ones_and_are_marked() -> None:
    # Horowitz: an int8 addition 0.03 pJ, so 0.00375 a bit; an int32 addition 0.1 pJ.
    rows = load_energy_table().rows
    found = {name: (row.value_pj, row.status) for name, row in rows.items() if name in _OWN_ROWS}
    assert found == {
        "negate": (pytest.approx(0.03), "assumed"),
        "ternary": (pytest.approx(4 * 0.00375), "assumed"),
        "xnor": (pytest.approx(2 * 0.00375), "assumed"),
        "compare": (pytest.approx(0.1), "derived"),
    }


def test_a_row_follows_the_override_of_its_base_unless_it_has_its_own() -> None:
    table = load_energy_table({"add_int8": 0.08, "xnor": 0.5, "add_int32": 0.4})
    assert table["ternary"].value_pj == pytest.approx(4 * 0.01)
    assert (table["xnor"].value_pj, table["xnor"].source) == (0.5, "override")
    assert (table["compare"].value_pj, table["compare"].status) == (0.4, "assumed")


def test_a_size_of_the_table_costs_what_the_table_says() -> None:
    table = load_energy_table()
    found = [sram_access(table, size, 64) for size in (8192, 32768, 1048576)]
    assert [row.value_pj for row in found] == [10, 20, 100]
    assert {row.status for row in found} == {"cited"}


def test_between_sizes_the_logarithm_is_interpolated() -> None:
    # 8 KB: 10 pJ, 32 KB: 20 pJ; 16 KB is half way in the logarithm: 10 · sqrt(2).
    row = sram_access(load_energy_table(), 16384, 64)
    assert row.value_pj == pytest.approx(10 * math.sqrt(2))
    assert row.status == "derived"


def test_below_eight_kilobytes_the_value_is_assumed_and_falls_with_the_square_root() -> None:
    row = sram_access(load_energy_table(), 2048, 64)  # a quarter of the size, half the energy
    assert row.value_pj == pytest.approx(5)
    assert row.status == "assumed"
    assert "square root" in row.source


def test_energy_is_linear_in_the_width() -> None:
    row = sram_access(load_energy_table(), 32768, 256)
    assert row.value_pj == pytest.approx(80)
    assert row.status == "derived"


def test_prices_of_core_small_are_those_of_hand_arithmetic() -> None:
    machine = load_machine("core-small")
    found = {name: row.value_pj for name, row in prices(machine, load_energy_table()).items()}
    assert found == pytest.approx(
        {
            "multiply": 0.2,
            "negate": 0.03,
            "ternary": 0.015,
            "xnor": 0.0075,
            "add": 0.1,
            "post": 3.1 + 2 * 0.1,
            "compare": 0.1,
            "activation_buffer": 10 * math.sqrt(2) / 8,  # 16 KB, a byte
            "weight_buffer": 10 * math.sqrt(2) / 8,
            "param_buffer": 10 / 8,  # 512 channels of 16 bytes: 8 KB
            "output_buffer": 10 / 8,
            "accumulators": 10 * math.sqrt(128 / 8192) / 8,  # 2 banks of 16 words of 4 bytes
            "dram": 8 * 8,  # LPDDR4, 8 bits
        }
    )


def test_an_override_takes_the_place_of_a_row_and_is_marked_assumed() -> None:
    table = load_energy_table({"mul_int8": 0.5, "dram_MINE": 3.0, "sram_4096": 7})
    assert table["mul_int8"].value_pj == 0.5
    assert table["mul_int8"].status == "assumed"
    assert table["dram_MINE"].value_pj == 3.0
    assert sram_access(table, 4096, 64).value_pj == 7


@pytest.mark.parametrize(
    ("item", "value", "message"),
    [
        ("mul_int8", -1, r"energy.mul_int8 must be a number of picojoules ≥ 0, not -1"),
        ("mul_int8", float("nan"), "must be a number of picojoules"),
        ("mul_int3", 1, "energy.mul_int3 is no item of the energy table"),
        ("sram_big", 1, "energy.sram_big is no item"),
    ],
)
def test_a_wrong_override_is_refused(item: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_energy_table({item: value})


def test_an_unknown_dram_part_names_those_that_are_known() -> None:
    machine = override_machine(load_machine("core-small"), ["dram_part=RDRAM"])
    with pytest.raises(ValueError, match=r"no energy row 'dram_RDRAM'.*dram_LPDDR4"):
        prices(machine, load_energy_table())


def test_another_node_is_refused(builder: ModuleType) -> None:
    machine = override_machine(load_machine("core-small"), ["node_nm=7"])
    with pytest.raises(ValueError, match="node_nm must be 45"):
        prices(machine, load_energy_table())
