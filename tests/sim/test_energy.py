"""Event energies against hand arithmetic from the table's cited rows."""

from __future__ import annotations

import dataclasses
import math

import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.program import Program
from bitwright.models.zoo import random_network
from bitwright.sim.cycle import simulate
from bitwright.sim.energy import leakage, prices
from bitwright.sim.energy_table import load_energy_table, sram_access

_OWN_ROWS = {"negate", "ternary", "xnor", "compare", "leak_sram_bit"}


def test_every_row_that_ships_is_cited_and_has_a_source() -> None:
    for row in load_energy_table().rows.values():
        assert row.status == "cited" or row.item in {*_OWN_ROWS, "leak_bit"}
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
        "leak_sram_bit": (pytest.approx(0.074), "assumed"),
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


def test_at_seven_nanometres_the_table_has_what_google_published() -> None:
    table = load_energy_table(node_nm=7)
    found = {item: table[item].value_pj for item in ("add_int8", "add_int32", "mul_int8", "mul_int32")}
    assert found == {"add_int8": 0.007, "add_int32": 0.03, "mul_int8": 0.07, "mul_int32": 1.48}
    assert [sram_access(table, size, 64).value_pj for size in (8192, 32768, 1048576)] == [7.5, 8.5, 14]


def test_between_nodes_the_logarithm_is_interpolated() -> None:
    # 16 nm lies ln(16/7) / ln(45/7) = 0.4443 of the way from 7 to 45: 0.07 · (0.2 / 0.07)^0.4443.
    row = load_energy_table(node_nm=16)["mul_int8"]
    share = math.log(16 / 7) / math.log(45 / 7)
    assert row.value_pj == pytest.approx(0.07 * (0.2 / 0.07) ** share)
    assert row.value_pj == pytest.approx(0.1116, abs=1e-4)
    # The row at 7 nm is assumed (quoted, not compared with its source), so what follows from it is, too.
    assert (row.status, row.node_nm) == ("assumed", 16)
    assert "Horowitz" in row.source and "Jouppi" in row.source


def test_a_grid_point_between_nodes_and_sizes_follows_both_laws() -> None:
    # 16 KB is half way between 8 and 32 KB: the root of both; each of these at 16 nm as above.
    share = math.log(16 / 7) / math.log(45 / 7)
    small, large = 7.5 * (10 / 7.5) ** share, 8.5 * (20 / 8.5) ** share
    row = sram_access(load_energy_table(node_nm=16), 16384, 64)
    assert row.value_pj == pytest.approx(math.sqrt(small * large))
    assert row.status == "assumed"


def test_a_memory_beyond_the_table_is_refused_unless_its_value_is_given() -> None:
    with pytest.raises(ValueError, match=r"ends at a memory of 1048576 bytes; .*give energy.sram_2097152"):
        sram_access(load_energy_table(), 2 << 20, 64)
    assert sram_access(load_energy_table({"sram_2097152": 150}), 2 << 20, 64).value_pj == 150


@pytest.mark.parametrize("node", [3, 90])
def test_a_node_beyond_the_table_is_refused(node: int) -> None:
    machine = override_machine(load_machine("core-small"), [f"node_nm={node}"])
    with pytest.raises(ValueError, match=rf"node_nm must be from 7 to 45, .*not {node}: or give energy\."):
        prices(machine, load_energy_table(node_nm=node))


def test_a_node_beyond_the_table_is_taken_where_every_value_is_given() -> None:
    machine = load_machine("core-small")
    given = {"add_int8": 0.01, "add_int32": 0.02, "mul_int8": 0.03, "mul_int32": 0.5, "sram_65536": 4.0}
    found = prices(machine, load_energy_table(given, node_nm=3))
    assert found["multiply"].value_pj == 0.03
    # 16 KB by the square root from 64 KB, a byte of eight: 4 / 2 / 8.
    assert found["activation_buffer"].value_pj == pytest.approx(0.25)
    assert {row.status for name, row in found.items() if name != "dram"} <= {"assumed", "derived"}


def _program() -> Program:
    return map_network(random_network(3, max_layers=2, max_image=8), load_machine("core-small"))


def test_a_machines_file_replaces_rows_and_a_call_replaces_the_machines() -> None:
    program = _program()
    machine = override_machine(program.machine, ["energy.mul_int8=0.5", "energy.dram_LPDDR4=1"])
    assert machine.digest() == program.machine.digest()  # prices do not shape the RTL
    priced = dataclasses.replace(program, machine=machine)
    rows = simulate(priced).energy_rows
    assert (rows["multiply"].value_pj, rows["dram"].value_pj) == (0.5, 8)
    assert rows["multiply"].status == "assumed"
    assert simulate(priced, energy={"mul_int8": 0.7}).energy_rows["multiply"].value_pj == 0.7


def test_an_item_that_a_machines_file_invents_is_refused() -> None:
    program = _program()
    machine = override_machine(program.machine, ["energy.mul_int3=1"])
    with pytest.raises(ValueError, match=r"energy.mul_int3 is no item of the energy table"):
        simulate(dataclasses.replace(program, machine=machine))


@pytest.mark.parametrize("value", ['"cheap"', "true", "-1"])
def test_a_price_that_is_none_is_refused(value: str) -> None:
    program = _program()
    with pytest.raises(ValueError, match=r"energy.add_int8 must be"):
        machine = override_machine(program.machine, [f"energy.add_int8={value}"])
        simulate(dataclasses.replace(program, machine=machine))


def test_leakage_is_paid_for_bits_and_time_and_kept_apart() -> None:
    # core-small at 100 MHz: 16 + 16 + 8 (parameters) + 8 KiB of cells; 4 PEs with 128 bytes of accumulators;
    # 0.074 pJ a bit and microsecond, 0.01 µs a cycle.
    row = leakage(load_machine("core-small"), load_energy_table())
    bits = 8 * (48 * 1024 + 4 * 128)
    assert row.value_pj == pytest.approx(bits * 0.074 * 0.01)
    assert row.status == "assumed"
