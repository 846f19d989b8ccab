"""Event energy: what operations and accesses cost at a process node, each row with its source.

These are figures of a chip at 45 nm. They say nothing of an FPGA and are never combined with its
clock, LUTs or power.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from ..mapper.machine import Machine
from ..mapper.pe import PeKind

__all__ = [
    "COMPONENTS",
    "ENERGY_TITLE",
    "PRODUCTS",
    "EnergyRow",
    "EnergyTable",
    "load_energy_table",
    "prices",
    "sram_access",
]

ENERGY_TITLE = "event energy at 45 nm"

COMPONENTS = (
    "multiply",
    "negate",
    "ternary",
    "xnor",
    "add",
    "post",
    "compare",
    "activation_buffer",
    "weight_buffer",
    "param_buffer",
    "output_buffer",
    "accumulators",
    "dram",
)
"""What energy is laid to. Counts are products for `multiply`, `negate`, `ternary` and `xnor`, numbers
rescaled for `post`, comparisons with a threshold for `compare`, bytes read and written for memories. `add`
counts products, too, but lane sets where `ternary` or `xnor` has counted the products of one already."""

PRODUCTS: Mapping[str, tuple[PeKind, ...]] = MappingProxyType(
    {name: tuple(kind for kind in PeKind if kind.product == name) for name in COMPONENTS[:4]}
)
"""The components that are products, and of which PE kinds."""

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
}  # fmt: skip

_ACCESS_BITS = 64
_NODE_NM = 45


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
    """Rows by item; `sram_N` is an access of 64 bits to N bytes, `dram_PART` a bit of that part."""

    rows: Mapping[str, EnergyRow]

    def __getitem__(self, item: str) -> EnergyRow:
        try:
            return self.rows[item]
        except KeyError:
            kind = item.partition("_")[0]
            known = sorted(name for name in self.rows if name.startswith(f"{kind}_"))
            raise ValueError(
                f"no energy row {item!r}; rows of that kind: {', '.join(known) or 'none'}"
            ) from None


def load_energy_table(overrides: Mapping[str, float] | None = None) -> EnergyTable:
    """The table that ships, energy.csv and what follows from it, with `overrides` (item: pJ) for rows.

    An override may bring a new item, `sram_N` or `dram_PART`; its row is marked assumed.

    Raises:
        ValueError: an override is no positive number, or its item is of no known kind.
    """
    text = (resources.files("bitwright.sim") / "energy.csv").read_text(encoding="utf-8")
    rows: dict[str, EnergyRow] = {}
    for line in csv.DictReader(text.splitlines()):
        rows[line["item"]] = EnergyRow(
            item=line["item"],
            node_nm=int(line["node_nm"]) if line["node_nm"] else None,
            value_pj=float(line["value_pj"]),
            per=line["per"],
            status=line["status"],
            source=line["source"],
        )
    given = dict(overrides or {})
    for item, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise ValueError(f"energy.{item} must be a number of picojoules ≥ 0, not {value!r}")
        kind, _, name = item.partition("_")
        sized = kind == "sram" and name.isdecimal() and int(name) > 0
        if item in _OWN_ROWS:
            continue
        if item in rows:
            row = dataclasses.replace(rows[item], value_pj=float(value), status="assumed", source="override")
        elif sized or (kind == "dram" and name):
            row = EnergyRow(
                item=item,
                node_nm=_NODE_NM if sized else None,
                value_pj=float(value),
                per="64-bit access" if sized else "bit",
                status="assumed",
                source="override",
            )
        else:
            allowed = ", ".join(sorted({*rows, *_OWN_ROWS}))
            raise ValueError(
                f"energy.{item} is no item of the energy table; allowed: {allowed}, sram_<bytes>, dram_<part>"
            )
        rows[item] = row
    for item, (base, adder_bits, bits, status, source) in _OWN_ROWS.items():
        row = rows[base]
        rows[item] = dataclasses.replace(
            row,
            item=item,
            value_pj=float(given[item]) if item in given else row.value_pj * bits / adder_bits,
            status="assumed" if item in given or row.status == "assumed" else status,
            source="override" if item in given else source,
        )
    return EnergyTable(rows=MappingProxyType(rows))


def sram_access(table: EnergyTable, capacity_bytes: int, width_bits: int) -> EnergyRow:
    """The energy of one access of `width_bits` to a memory of `capacity_bytes`.

    Between the table's sizes the energy follows the power law through its two neighbours, linear in
    the logarithms (derived). Below the smallest size it falls with the square root of the capacity,
    above the largest it goes on with the last law (both assumed). It is linear in the width.
    """
    sizes = sorted(
        (int(name.removeprefix("sram_")), row) for name, row in table.rows.items() if name.startswith("sram_")
    )
    exact = dict(sizes).get(capacity_bytes)
    if exact is not None:
        base, status, rule = exact.value_pj, exact.status, exact.source
    elif capacity_bytes < sizes[0][0]:
        base = sizes[0][1].value_pj * math.sqrt(capacity_bytes / sizes[0][0])
        status = "assumed"
        rule = f"{sizes[0][1].item} scaled by the square root of the capacity"
    else:
        above = next((i for i, (size, _) in enumerate(sizes) if size > capacity_bytes), None)
        top = len(sizes) - 1 if above is None else above
        (small, low), (large, high) = sizes[top - 1], sizes[top]
        slope = math.log(high.value_pj / low.value_pj) / math.log(large / small)
        base = low.value_pj * (capacity_bytes / small) ** slope
        assumed = above is None or "assumed" in (low.status, high.status)
        status = "assumed" if assumed else "derived"
        rule = f"power law through {low.item} and {high.item}"
    if width_bits != _ACCESS_BITS:
        status = "derived" if status == "cited" else status
        rule += f", linear in the width from {_ACCESS_BITS} bits"
    return EnergyRow(
        item=f"sram_{capacity_bytes}",
        node_nm=_NODE_NM,
        value_pj=base * width_bits / _ACCESS_BITS,
        per=f"{width_bits}-bit access",
        status=status,
        source=rule,
    )


def _sum(item: str, per: str, parts: list[tuple[int, EnergyRow]]) -> EnergyRow:
    """Several events as one row."""
    assumed = any(row.status == "assumed" for _, row in parts)
    return EnergyRow(
        item=item,
        node_nm=_NODE_NM,
        value_pj=sum(count * row.value_pj for count, row in parts),
        per=per,
        status="assumed" if assumed else "derived",
        source=" + ".join(f"{count} × {row.item}" for count, row in parts),
    )


def prices(machine: Machine, table: EnergyTable) -> dict[str, EnergyRow]:
    """For each of COMPONENTS the energy of one event: a product, a rescaled number, or a byte.

    A product of int8 weights costs a multiplication and an int32 addition, one of ternary or binary
    weights on int8 activations a negation in place of the multiplication; where activations are
    ternary or binary, too, a product is counted and each count costs an int32 addition. A number
    that POST rescales costs an int32 multiplication and two int32 additions (bias, zero point).
    Accumulators are a register file a PE.

    Raises:
        ValueError: the table has no rows for the machine's node or its DRAM part.
    """
    if machine.node_nm != _NODE_NM:
        raise ValueError(f"node_nm must be {_NODE_NM}, the node of the energy table, not {machine.node_nm}")
    file_bytes = 2 * machine.array.acc_depth * machine.array.acc_bits // 8
    capacities = {
        "activation_buffer": machine.buffers.activation_bytes,
        "weight_buffer": machine.buffers.weight_bytes,
        "param_buffer": machine.buffers.param_channels * 16,
        "output_buffer": machine.buffers.output_bytes,
        "accumulators": file_bytes,
    }
    found = {
        "multiply": table["mul_int8"],
        "negate": table["negate"],
        "ternary": table["ternary"],
        "xnor": table["xnor"],
        "add": table["add_int32"],
        "post": _sum("post", "result", [(1, table["mul_int32"]), (2, table["add_int32"])]),
        "compare": table["compare"],
    }
    for name, capacity in capacities.items():
        found[name] = sram_access(table, capacity, 8)
    bit = table[f"dram_{machine.dram_part}"]
    found["dram"] = dataclasses.replace(bit, value_pj=bit.value_pj * 8, per="byte")
    return {name: found[name] for name in COMPONENTS}
