"""Energy of a DRAM channel's commands and time, from a part's currents or, where it has none, by the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from .dram import DramRun
from .dram_part import DramPart
from .energy_table import EnergyRow, EnergyTable

__all__ = ["DramEnergy", "dram_byte", "dram_energy", "dram_prices", "dram_time"]

_RULE = "Micron TN-41-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class DramEnergy:
    """Where a run's energy went, and the price of one event of each kind."""

    energy_pj: Mapping[str, float]
    """By the items of `rows`."""
    rows: Mapping[str, EnergyRow]

    @property
    def total_pj(self) -> float:
        """All of it."""
        return sum(self.energy_pj.values())


def dram_prices(part: DramPart, table: EnergyTable) -> dict[str, EnergyRow]:
    """What the events of a channel cost: with the part's currents those of commands and of time.

    `activate` has its precharge in it, so a row hit costs a `read` or `write`, a miss an `activate` on top.
    `open` and `closed` are a rank's cycle with and without an open row. Drivers and termination of the data
    bus are not in the currents. A part without currents has `access` alone, a burst's bits at the price of
    the energy table's row for the protocol.

    Raises:
        ValueError: the part has neither currents nor a row in the table.
    """
    c = part.currents
    if c is None:
        item = "dram_HBM2" if part.protocol == "HBM" else f"dram_{part.protocol}"
        bit = table[item]
        return {
            "access": EnergyRow(
                item="access",
                node_nm=None,
                value_pj=bit.value_pj * part.burst_bytes * 8,
                per="burst",
                status="assumed" if bit.status == "assumed" else "derived",
                source=f"{part.burst_bytes * 8} × {item}, whatever the row: {part.name} has no currents",
            )
        }
    trc = part.tras + part.trp
    scale = c.vdd * part.tck * part.devices_per_rank  # volts, mA and ns make pJ
    currents = {
        "activate": (
            c.idd0 * trc - c.idd3n * part.tras - c.idd2n * part.trp,
            "command",
            "IDD0 over tRC less standby",
        ),
        "read": ((c.idd4r - c.idd3n) * part.burst_cycles, "burst", "IDD4R less standby"),
        "write": ((c.idd4w - c.idd3n) * part.burst_cycles, "burst", "IDD4W less standby"),
        "refresh": ((c.idd5ab - c.idd3n) * part.trfc, "command", "IDD5AB over tRFC less standby"),
        "open": (c.idd3n, "cycle of a rank", "IDD3N"),
        "closed": (c.idd2n, "cycle of a rank", "IDD2N"),
    }
    return {
        name: EnergyRow(
            item=name,
            node_nm=None,
            value_pj=charge * scale,
            per=per,
            status="assumed" if c.assumed else "derived",
            source=f"{part.name}: {rule}, × VDD × tCK × {part.devices_per_rank} devices ({_RULE})",
        )
        for name, (charge, per, rule) in currents.items()
    }


def dram_energy(run: DramRun, table: EnergyTable) -> DramEnergy:
    """The energy of a run's commands and of its time.

    Raises:
        ValueError: see `dram_prices`.
    """
    rows = dram_prices(run.part, table)
    counts = {
        "activate": run.activates,
        "read": run.reads,
        "write": run.writes,
        "refresh": run.refreshes,
        "open": run.open_cycles,
        "closed": run.cycles * run.part.ranks - run.open_cycles,
        "access": run.reads + run.writes,
    }
    return DramEnergy(energy_pj={name: counts[name] * row.value_pj for name, row in rows.items()}, rows=rows)


def dram_byte(part: DramPart, table: EnergyTable, counts: Mapping[str, int], moved_bytes: int) -> EnergyRow:
    """What a byte at the port has cost on average in a run: its accesses' commands, not refreshes or standby.

    A row `dram_` and the part's name in the table, which a machine's file can bring, goes before.

    Args:
        counts: of the run, by dram_kernel.COUNTS.
        moved_bytes: bytes that the run read and wrote.

    Raises:
        ValueError: see `dram_prices`.
    """
    own = table.rows.get(f"dram_{part.name}")
    if own is not None:
        return dataclasses.replace(own, value_pj=own.value_pj * 8, per="byte")
    rows = dram_prices(part, table)
    names = {"act": "activate", "read": "read", "write": "write"}
    if "access" in rows:
        names = {"read": "access", "write": "access"}
    priced = {count: rows[name] for count, name in names.items()}
    total = sum(counts[count] * row.value_pj for count, row in priced.items())
    shown = " + ".join(
        f"{counts[count]} × {names[count]} {row.value_pj:.4g}" for count, row in priced.items()
    )
    return EnergyRow(
        item=f"dram_{part.name}",
        node_nm=None,
        value_pj=total / max(1, moved_bytes),
        per="byte",
        status="assumed" if any(row.status == "assumed" for row in rows.values()) else "derived",
        source=f"mean of this run: ({shown}) / {moved_bytes} bytes; {counts['hits']} accesses hit their row; "
        f"{counts['refresh']} refreshes and standby, which are paid for time, stand apart",
    )


def dram_time(part: DramPart, table: EnergyTable, counts: Mapping[str, int], cycles: int) -> EnergyRow | None:
    """What a part's refreshes and standby cost over a run: paid for time, kept apart from events.

    None for a part that is priced by the bit: it has no currents, or a price of its own in the table.

    Args:
        part: the part.
        table: with rows of parts.
        counts: of the run, by dram_kernel.COUNTS.
        cycles: of the part's clock that the run took.
    """
    rows = dram_prices(part, table)
    if f"dram_{part.name}" in table.rows or "access" in rows:
        return None
    shares = {
        "refresh": counts["refresh"],
        "open": counts["open_cycles"],
        "closed": max(0, cycles * part.ranks - counts["open_cycles"]),
    }
    return EnergyRow(
        item="dram_time",
        node_nm=None,
        value_pj=sum(count * rows[name].value_pj for name, count in shares.items()),
        per="run",
        status="assumed" if any(rows[name].status == "assumed" for name in shares) else "derived",
        source=f"{part.name}: {shares['refresh']} refreshes, {shares['open']} cycles of a rank with an open "
        f"row, {shares['closed']} without, of {part.ranks} ranks over {cycles} cycles of its clock ({_RULE})",
    )
