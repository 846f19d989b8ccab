"""DRAM parts: their files, the sizes that follow, and what is refused."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from bitwright.sim.dram_part import dram_part_names, load_dram_part


def test_every_figure_that_ships_has_a_unit_and_an_origin() -> None:
    text = (resources.files("bitwright.sim") / "dram_parts.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) > 100
    for row in rows:
        assert row["unit"] and row["source"]
        assert row["status"] in ("cited", "assumed")


def test_parts_that_ship_have_the_reference_timings(shared_reference: Path) -> None:
    path = shared_reference / "dram" / "timings.csv"
    assert dram_part_names(path) == dram_part_names()
    for name in dram_part_names(path):
        given, shipped = load_dram_part(name, path), load_dram_part(name)
        assert given == replace(shipped, currents=None, tppd=given.tppd)


def test_ranks_bursts_and_rows_follow_from_devices_and_bus() -> None:
    # DDR4: 8 devices of 8 bits; a row of 1024 columns is 8 KiB; 16 banks of 65536 rows: 8 GiB a rank.
    # HBM2: its 64 columns are of two transfers: 2 KiB rows; 16 × 32768 rows make the whole 1 GiB.
    # LPDDR4: bursts of 16 transfers of 8 bytes; 8 banks of 65536 rows of 8 KiB: 4 GiB a rank.
    found = {
        name: (part.ranks, part.burst_bytes, part.row_bytes, part.devices_per_rank)
        for name in dram_part_names()
        for part in [load_dram_part(name)]
    }
    assert found == {
        "DDR3-1600": (2, 64, 16384, 8),
        "DDR4-2400": (2, 64, 8192, 8),
        "DDR4-3200": (2, 64, 8192, 8),
        "HBM2": (1, 64, 2048, 1),
        "LPDDR4-2400": (2, 128, 8192, 4),
    }


def test_an_address_is_split_from_the_right_end_of_the_mapping() -> None:
    part = load_dram_part("DDR4-2400")
    assert part.field_positions() == {
        "co": (6, 7), "bg": (13, 2), "ba": (15, 2), "ra": (17, 1), "ch": (18, 0), "ro": (18, 16),
    }  # fmt: skip
    assert part.field_positions("cobgbarachro")["ro"] == (6, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tRAS": 10}, r"DDR4-2400.tRAS must be at least tRCD \(17\), not 10: a row must stay open"),
        ({"tCK": 8.3e-10}, r"tCK must be from 0.05 to 100 \(nanoseconds\), not 8.3e-10"),
        ({"tCK": "fast"}, "tCK must be a number, not 'fast'"),
        ({"rows": 1000}, "rows must be a power of two, not 1000"),
        ({"rows": 1 << 40}, r"channel_size must be a power of two of ranks"),
        ({"channel_size": 1 << 60}, r"below 2\^62 bytes"),
        ({"tRFC": 0}, "tRFC must be from 1 to"),
        ({"tREFI": 100}, r"tREFI must be at least tRFC \(420\), not 100"),
        ({"tCCD_L": 3}, r"tCCD_L must be at least tCCD_S \(4\), not 3"),
        ({"CWL": 40}, "CWL must be below"),
        ({"protocol": "RDRAM"}, "protocol must be DDR3, DDR4, LPDDR, LPDDR3, LPDDR4, HBM, HBM2, not 'RDRAM'"),
        ({"address_mapping": "rorababgcoco"}, "address_mapping must have each of"),
        ({"device_width": 128}, "bus_width must be a multiple of device_width"),
        ({"tXYZ": 1}, "unknown parameter DDR4-2400.tXYZ; allowed: AL, BL"),
        ({"IDD4R": 1}, r"IDD4R must be at least IDD3N \(43 mA\)"),
        ({"CL": "17.5"}, "CL must be a whole number, not '17.5'"),
    ],
)
def test_an_impossible_part_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dram_part("DDR4-2400", changes=changes)


def test_an_unknown_part_names_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="unknown DRAM part 'DDR9'; known: DDR3-1600, DDR4-2400"):
        load_dram_part("DDR9")


def test_a_part_of_a_users_file_that_lacks_a_row_says_which(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    path.write_text("part,parameter,value\nMINE,protocol,DDR4\nMINE,rows,1024\n", encoding="utf-8")
    with pytest.raises(ValueError, match="MINE lacks bankgroups, banks_per_group, columns"):
        load_dram_part("MINE", path)


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has columns part, parameter, value"):
        load_dram_part("MINE", path)
