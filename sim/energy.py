"""Event energy of core machines: what their operations, accesses and idle bits cost, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from ..mapper.machine import Machine
from ..mapper.objective import EventPrices
from ..mapper.pe import PeKind
from .energy_table import EnergyRow, EnergyTable, load_energy_table, sram_access

__all__ = ["COMPONENTS", "PRODUCTS", "event_prices", "leakage", "prices"]

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


def _capacities(machine: Machine) -> dict[str, int]:
    """Bytes of each of the machine's memories; of the accumulators those of one PE, two banks."""
    return {
        "activation_buffer": machine.buffers.activation_bytes,
        "weight_buffer": machine.buffers.weight_bytes,
        "param_buffer": machine.buffers.param_channels * 16,
        "output_buffer": machine.buffers.output_bytes,
        "accumulators": 2 * machine.array.acc_depth * machine.array.acc_bits // 8,
    }


def _sum(item: str, per: str, parts: list[tuple[int, EnergyRow]]) -> EnergyRow:
    """Several events as one row."""
    assumed = any(row.status == "assumed" for _, row in parts)
    return EnergyRow(
        item=item,
        node_nm=parts[0][1].node_nm,
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
        ValueError: the table has no rows for its node, the machine's memories or its DRAM part.
    """
    found = {
        "multiply": table["mul_int8"],
        "negate": table["negate"],
        "ternary": table["ternary"],
        "xnor": table["xnor"],
        "add": table["add_int32"],
        "post": _sum("post", "result", [(1, table["mul_int32"]), (2, table["add_int32"])]),
        "compare": table["compare"],
    }
    for name, capacity in _capacities(machine).items():
        found[name] = sram_access(table, capacity, 8)
    bit = table[f"dram_{machine.dram_part}"]
    found["dram"] = dataclasses.replace(bit, value_pj=bit.value_pj * 8, per="byte")
    return {name: found[name] for name in COMPONENTS}


def leakage(machine: Machine, table: EnergyTable) -> EnergyRow:
    """What all memory and accumulator bits of the machine leak in one of its clock's cycles.

    It is paid for time, not for events, and is kept apart from their energy.

    Raises:
        ValueError: the table has no rows of leakage.
    """
    capacities = _capacities(machine)
    array = machine.array
    registers = capacities.pop("accumulators") * 8 * array.rows * array.cols
    activation = capacities.pop("activation_buffer") * array.cols  # a bank a column
    cells = 8 * (activation + sum(capacities.values()))
    cell, register = table["leak_sram_bit"], table["leak_bit"]
    microseconds = 1e6 / machine.clock_hz
    return EnergyRow(
        item="leakage",
        node_nm=table.node_nm,
        value_pj=(cells * cell.value_pj + registers * register.value_pj) * microseconds,
        per="cycle",
        status="assumed",
        source=f"{cells} × leak_sram_bit ({cell.source}) + {registers} × leak_bit ({register.source}), at "
        f"{machine.clock_hz / 1e6:g} MHz; logic is left out",
    )


def event_prices(machine: Machine) -> EventPrices:
    """What the mapper needs to choose by energy: the prices of `prices` in its own type.

    Raises:
        ValueError: as `prices`.
    """
    rows = prices(machine, load_energy_table(dict(machine.energy), node_nm=machine.node_nm))
    return EventPrices(**{name: rows[name].value_pj for name in COMPONENTS})
