"""The energy table: what an operation or an access costs at a process node, each row with its source.

The published points stand in energy.csv. Between their nodes, and between their sizes of memories, a value
follows the power law through its two neighbours (derived); outside there is none, unless one is given.
These are figures of a chip. They say nothing of an FPGA and are never combined with its clock, LUTs or
power.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

__all__ = ["EnergyRow", "EnergyTable", "energy_title", "load_energy_table", "sram_access"]

_OWN_ROWS = {
    # item: base row, bits of its adder, bits that the item takes, status, why. No table has these.
    "negate": (
        "add_int8", 8, 8, "assumed",
        "a ternary or binary weight keeps, negates or drops an activation: as an int8 addition",
    ),
    "ternary": (
        "add_int8", 8, 4, "assumed",
        "two gates and two counter bits (non-zero, negative), each as a bit of an int8 addition",
    ),
    "xnor": (
        "add_int8", 8, 2, "assumed",
        "a gate and a bit of the population count, each as a bit of an int8 addition",
    ),
    "compare": ("add_int32", 32, 32, "derived", "a comparison is a subtraction: as an int32 addition"),
    "leak_sram_bit": (
        "leak_bit", 1, 1, "assumed",
        "a memory cell as a register's: no more than that, no figure of its own",
    ),
}  # fmt: skip

_ACCESS_BITS = 64
_NODE_NM = 45
"""The node of most published points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRow:
    """One energy, with where it is from."""

    item: str
    node_nm: int | None
    """Process node; None for a DRAM part."""
    value_pj: float
    per: str
    status: str
    """`cited`, `derived` (from cited rows by a rule in `source`) or `assumed`."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """Rows of one node by item; `sram_N` is 64 bits of N bytes of memory, `dram_PART` a bit of a part."""

    node_nm: int
    rows: Mapping[str, EnergyRow]
    nodes_nm: tuple[int, ...]
    """Nodes that the table has points of."""

    def __getitem__(self, item: str) -> EnergyRow:
        try:
            return self.rows[item]
        except KeyError:
            kind = item.partition("_")[0]
            known = sorted(name for name in self.rows if name.startswith(f"{kind}_"))
            if not known and not self.nodes_nm[0] <= self.node_nm <= self.nodes_nm[-1]:
                raise ValueError(
                    f"node_nm must be from {self.nodes_nm[0]} to {self.nodes_nm[-1]}, the nodes of the "
                    f"energy table, not {self.node_nm}: or give energy.{item} in picojoules"
                ) from None
            raise ValueError(
                f"no energy row {item!r}; rows of that kind: {', '.join(known) or 'none'}; "
                f"or give energy.{item}"
            ) from None


def energy_title(node_nm: int) -> str:
    """What energies of this node are called, wherever they are shown."""
    return f"event energy at {node_nm} nm"


def _points() -> dict[str, list[EnergyRow]]:
    """The rows of energy.csv by item, smallest node first."""
    text = (resources.files("bitwright.sim") / "energy.csv").read_text(encoding="utf-8")
    points: dict[str, list[EnergyRow]] = {}
    for line in csv.DictReader(text.splitlines()):
        row = EnergyRow(
            item=line["item"],
            node_nm=int(line["node_nm"]) if line["node_nm"] else None,
            value_pj=float(line["value_pj"]),
            per=line["per"],
            status=line["status"],
            source=line["source"],
        )
        points.setdefault(row.item, []).append(row)
    for rows in points.values():
        rows.sort(key=lambda row: row.node_nm or 0)
    return points


def _power_law(x: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """The value at x of the power law through two points (x, value)."""
    slope = math.log(high[1] / low[1]) / math.log(high[0] / low[0])
    return float(low[1] * (x / low[0]) ** slope)


def _at_node(rows: list[EnergyRow], node_nm: int) -> EnergyRow | None:
    """An item's row at a node; None outside its points."""
    if rows[0].node_nm is None:
        return rows[0]
    if rows[0].item == "leak_bit" and rows[0].node_nm != node_nm:
        source = f"as at {rows[0].node_nm} nm ({rows[0].source})"
        return dataclasses.replace(rows[0], node_nm=node_nm, status="assumed", source=source)
    for row in rows:
        if row.node_nm == node_nm:
            return row
    for low, high in itertools.pairwise(rows):
        below, above = low.node_nm or 0, high.node_nm or 0
        if below < node_nm < above:
            return dataclasses.replace(
                low,
                node_nm=node_nm,
                value_pj=_power_law(node_nm, (below, low.value_pj), (above, high.value_pj)),
                status="assumed" if "assumed" in (low.status, high.status) else "derived",
                source=f"power law between {below} nm ({low.source}) and {above} nm ({high.source})",
            )
    return None


def load_energy_table(
    overrides: Mapping[str, float] | None = None, *, node_nm: int = _NODE_NM
) -> EnergyTable:
    """The table that ships, energy.csv and what follows from it, with `overrides` (item: pJ) for rows.

    An override may bring a new item, `sram_N` or `dram_PART`; its row is marked assumed. At a node beyond
    the table's there are the rows of DRAM parts and overrides alone.

    Raises:
        ValueError: an override is no positive number, or its item is of no known kind.
    """
    points = _points()
    rows = {item: row for item, found in points.items() if (row := _at_node(found, node_nm)) is not None}
    given = dict(overrides or {})
    for item, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise ValueError(f"energy.{item} must be a number of picojoules ≥ 0, not {value!r}")
        if item not in _OWN_ROWS:
            rows[item] = _override(item, float(value), points, node_nm)
    for item, (base, base_bits, bits, status, source) in _OWN_ROWS.items():
        if item in given:
            per = points[base][0].per
            rows[item] = EnergyRow(
                item=item,
                node_nm=node_nm,
                value_pj=float(given[item]),
                per=per,
                status="assumed",
                source="override",
            )
        elif base in rows:
            row = rows[base]
            rows[item] = dataclasses.replace(
                row,
                item=item,
                value_pj=row.value_pj * bits / base_bits,
                status="assumed" if row.status == "assumed" else status,
                source=source,
            )
    nodes = {row.node_nm for found in points.values() for row in found if row.node_nm is not None}
    return EnergyTable(node_nm=node_nm, rows=MappingProxyType(rows), nodes_nm=tuple(sorted(nodes)))


def _override(item: str, value: float, points: Mapping[str, list[EnergyRow]], node_nm: int) -> EnergyRow:
    """The row of a value that the user gives."""
    kind, _, name = item.partition("_")
    sized = kind == "sram" and name.isdecimal() and int(name) > 0
    if item in points:
        per = points[item][0].per
    elif sized or (kind == "dram" and name):
        per = f"{_ACCESS_BITS}-bit access" if sized else "bit"
    else:
        allowed = ", ".join(sorted({*points, *_OWN_ROWS}))
        raise ValueError(
            f"energy.{item} is no item of the energy table; allowed: {allowed}, sram_<bytes>, dram_<part>"
        )
    return EnergyRow(
        item=item,
        node_nm=None if kind == "dram" else node_nm,
        value_pj=value,
        per=per,
        status="assumed",
        source="override",
    )


def sram_access(table: EnergyTable, capacity_bytes: int, width_bits: int) -> EnergyRow:
    """The energy of one access of `width_bits` to a memory of `capacity_bytes`.

    Between the table's sizes the energy follows the power law through its two neighbours (derived). Below
    the smallest size it falls with the square root of the capacity (assumed). It is linear in the width.

    Raises:
        ValueError: the memory is larger than any of the table, or there is none at the table's node.
    """
    sizes = sorted(
        (int(name.removeprefix("sram_")), row) for name, row in table.rows.items() if name.startswith("sram_")
    )
    if not sizes or capacity_bytes > sizes[-1][0]:
        if not sizes:
            return table[f"sram_{capacity_bytes}"]  # which says why there is none
        raise ValueError(
            f"the energy table ends at a memory of {sizes[-1][0]} bytes; for one of {capacity_bytes} bytes "
            f"give energy.sram_{capacity_bytes}, the picojoules of an access of {_ACCESS_BITS} bits"
        )
    exact = dict(sizes).get(capacity_bytes)
    if exact is not None:
        base, status, rule = exact.value_pj, exact.status, exact.source
    elif capacity_bytes < sizes[0][0]:
        base = sizes[0][1].value_pj * math.sqrt(capacity_bytes / sizes[0][0])
        status = "assumed"
        rule = f"{sizes[0][1].item} scaled by the square root of the capacity"
    else:
        above = next(i for i, (size, _) in enumerate(sizes) if size > capacity_bytes)
        (small, low), (large, high) = sizes[above - 1], sizes[above]
        base = _power_law(capacity_bytes, (small, low.value_pj), (large, high.value_pj))
        status = "assumed" if "assumed" in (low.status, high.status) else "derived"
        rule = f"power law through {low.item} and {high.item}"
    if width_bits != _ACCESS_BITS:
        status = "derived" if status == "cited" else status
        rule += f", linear in the width from {_ACCESS_BITS} bits"
    return EnergyRow(
        item=f"sram_{capacity_bytes}",
        node_nm=table.node_nm,
        value_pj=base * width_bits / _ACCESS_BITS,
        per=f"{width_bits}-bit access",
        status=status,
        source=rule,
    )
