"""Population counts out of vendors' carry chains: which bits of which columns are added where.

Bits are kept in columns by weight. A level adds some bits of neighbouring columns in one carry chain (a row)
or seven bits of a column in one counter; levels follow until each column holds one bit. ECP5 chains take two
XOR lanes, or one ternary lane, a position (`bw_chain` in `rtl/vendor/`); Xilinx adds seven bits in two LUT6s
(`bw_count7`). Efficiency is bits removed for each LUT, after Kumm and Kappauf, "Advanced compressor tree
synthesis for FPGAs", IEEE Trans. Computers 67(8), 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

__all__ = ["Columns", "Lane", "compress"]

CHAIN_POSITIONS = 16
COUNTER_BITS = 6
"""Bits of a column from which on a counter of seven pays."""
"""Positions of a physical chain at most: timing analysis takes it for one carry path."""
PAIR, BOUNDARY, TRIT = range(3)
"""Kinds of a position of `bw_chain`."""


@dataclass(frozen=True)
class Lane:
    """Something that a column holds: bit a, the difference a ^ b, or a ternary lane of 2-bit a and b."""

    a: Value
    b: Value = field(default_factory=lambda: Const(0, 1))

    @property
    def trit(self) -> bool:
        """Whether it is 1 + a ternary product, worth up to two."""
        return len(self.a) == 2


Columns = list[list[Lane]]
"""Lanes of weight 1, 2, 4, …"""


@dataclass
class Row:
    """Neighbouring columns that one carry chain adds: a lane carried in, then one or two lanes a column."""

    column: int
    first: Lane | None
    pairs: list[tuple[Lane, ...]]


def compress(m: Module, columns: Columns, *, total: int, leaf: str, cuts: Sequence[int]) -> list[Value]:
    """Bits of the sum, lowest first: `columns` added up by vendor cells.

    Args:
        m: takes the cells, and a register of every bit that is left after each of the `cuts`.
        columns: are used up.
        total: the sum's largest value.
        leaf: `ecp5` or `xilinx`.
        cuts: after how many levels in all each register comes; what is left then is combinational.
    """
    bits = total.bit_length()
    level = 0
    for stage, cut in enumerate([*cuts, None]):
        while level != cut and any(len(c) > 1 or any(x.trit for x in c) for c in columns):
            columns = _level(m, columns, bits, leaf, level)
            level += 1
        if cut is not None:
            level = cut
            columns = _registered(m, columns, stage)
    return [column[0].a ^ column[0].b if column else Const(0, 1) for column in columns[:bits]]


def _registered(m: Module, columns: Columns, stage: int) -> Columns:
    """All lanes after a register."""

    def held(value: Value, name: str) -> Value:
        if isinstance(value, Const):
            return value
        register = Signal(len(value), name=name)
        m.d.sync += register.eq(value)
        return register

    return [
        [
            Lane(held(lane.a, f"a_{stage}_{weight}_{n}"), held(lane.b, f"b_{stage}_{weight}_{n}"))
            for n, lane in enumerate(column)
        ]
        for weight, column in enumerate(columns)
    ]


def _level(m: Module, columns: Columns, bits: int, leaf: str, level: int) -> Columns:
    """The columns after one level of adders."""
    columns = [list(column) for column in columns] + [[] for _ in range(bits - len(columns))]
    after: Columns = [[] for _ in range(bits + 1)]
    if leaf == "xilinx":
        name = f"level_{level}"
        if any(lane.trit or not isinstance(lane.b, Const) for lane in columns[0]):
            _xilinx_lanes(m, columns, after, name)
            return after[:bits]
        _xilinx_counters(m, columns, after, name)
    rows = _rows(columns, level=level)
    emit = _ecp5_chains if leaf == "ecp5" else _xilinx_rows
    emit(m, rows, after, f"level_{level}")
    for weight, column in enumerate(columns):
        after[weight] += column
    return after[:bits]


def _rows(columns: Columns, *, level: int) -> list[Row]:
    """Rows that take lanes out of `columns`, each as long as columns have two lanes to give.

    Columns of two lanes wait for the last level, where one row adds them all: a carry would follow anyway.
    """
    ending = not any(len(column) > 2 or any(x.trit for x in column) for column in columns)
    enough = 2 if ending else 3
    # A row that adds a ternary lane and carries in a bit is better used: a third of the lanes a level, so
    # that all but the first find bits.
    trits = sum(lane.trit for column in columns for lane in column)
    waiting = trits * (2 - level) // (3 - level) if level < 2 else 0
    rows = []
    for weight, column in enumerate(columns):
        while True:
            plain = [lane for lane in column if not lane.trit]
            whole = [lane for lane in column if lane.trit]
            if len(whole) > waiting:
                pair: tuple[Lane, ...] = (whole[0],)
                carried = plain[0] if plain else None
            elif len(plain) >= enough and not whole:
                pair = (plain[0], plain[1])
                carried = plain[2] if len(plain) > 2 else None
            else:
                break
            taken = [*pair, *([carried] if carried else [])]
            column[:] = [lane for lane in column if all(lane is not other for other in taken)]
            row = Row(weight, carried, [pair])
            for further in columns[weight + 1 :]:
                if len(further) < (1 if ending else 2):
                    break
                row.pairs.append(tuple(further[:2]))
                del further[:2]
            rows.append(row)
    return rows


def _ecp5_chains(m: Module, rows: list[Row], after: Columns, name: str) -> None:
    """Rows one after the other in few `bw_chain`: a position that ends one row begins the next."""
    zero = Const(0, 1)
    chains: list[list[Row]] = []
    room: list[int] = []
    for row in rows:
        positions = len(row.pairs) + 1
        number = next((n for n, left in enumerate(room) if left >= positions), len(chains))
        if number == len(chains):
            chains.append([])
            room.append(CHAIN_POSITIONS - 1)  # one ends the last row
        chains[number].append(row)
        room[number] -= positions
    for number, chain in enumerate(chains):
        operands: list[tuple[Value, Value, Value, Value]] = []
        kinds: list[int] = []
        weights: list[int] = []  # of each position's sum; the first position has none
        for row in chain:
            first = row.first or Lane(zero)
            operands.append((first.a, first.b, zero, zero))
            kinds.append(BOUNDARY)
            for pair in row.pairs:
                if pair[0].trit:
                    a, b = pair[0].a, pair[0].b
                    operands.append((a[1], b[1], a[0], b[0]))
                    kinds.append(TRIT)
                else:
                    low, high = pair[0], pair[1] if len(pair) > 1 else Lane(zero)
                    operands.append((low.a, low.b, high.a, high.b))
                    kinds.append(PAIR)
            weights += range(row.column, row.column + len(row.pairs) + 1)
        if weights[-1] < len(after) - 1:
            operands.append((zero, zero, zero, zero))
            kinds.append(BOUNDARY)
        else:
            weights.pop()  # the carry out of the last column is never set
        s = Signal(len(kinds), name=f"{name}_{number}")
        packed = sum(kind << (2 * place) for place, kind in enumerate(kinds))
        m.submodules[f"{name}_chain_{number}"] = Instance(
            "bw_chain",
            p_LENGTH=len(kinds),
            p_KINDS=Const(packed, 2 * len(kinds)),
            **{f"i_{port}": Cat(*(values[n] for values in operands)) for n, port in enumerate("abcd")},
            o_s=s,
        )
        for place, weight in enumerate(weights, start=1):
            after[weight].append(Lane(s[place]))


def _xilinx_rows(m: Module, rows: list[Row], after: Columns, name: str) -> None:
    for number, row in enumerate(rows):
        s = Signal(len(row.pairs) + 1, name=f"{name}_row_{number}")
        m.submodules[f"{name}_row_{number}"] = Instance(
            "bw_row",
            p_WIDTH=len(row.pairs),
            i_a=Cat(pair[0].a for pair in row.pairs),
            i_b=Cat(pair[1].a if len(pair) > 1 else Const(0, 1) for pair in row.pairs),
            i_carry=row.first.a if row.first else Const(0, 1),
            o_s=s,
        )
        _give(after, row.column, s)


def _xilinx_lanes(m: Module, columns: Columns, after: Columns, name: str) -> None:
    """The first level: three XOR lanes, or one ternary lane, a cell of two bits."""
    differ = [lane for lane in columns[0] if not lane.trit]
    for number, start in enumerate(range(0, len(differ), 3)):
        group = differ[start : start + 3]
        s = Signal(2, name=f"{name}_differ_{number}")
        m.submodules[f"{name}_differ_{number}"] = Instance(
            "bw_differ3",
            i_a=Cat(*(lane.a for lane in group), Const(0, 3 - len(group))),
            i_b=Cat(*(lane.b for lane in group), Const(0, 3 - len(group))),
            o_s=s,
        )
        _give(after, 0, s)
    for number, lane in enumerate(lane for lane in columns[0] if lane.trit):
        x = Signal(2, name=f"{name}_trit_{number}")
        m.submodules[f"{name}_trit_{number}"] = Instance("bw_trit", i_a=lane.a, i_b=lane.b, o_x=x)
        after[0] += [Lane(x[0]), Lane(x[1])]


def _xilinx_counters(m: Module, columns: Columns, after: Columns, name: str) -> None:
    """Sevens (and a six that is left) of a column."""
    for weight, column in enumerate(columns):
        number = 0
        while len(column) >= COUNTER_BITS:
            taken, column[:] = column[:7], column[7:]
            s = Signal(3, name=f"{name}_count_{weight}_{number}")
            m.submodules[f"{name}_count_{weight}_{number}"] = Instance(
                "bw_count7", i_x=Cat(*(lane.a for lane in taken), Const(0, 7 - len(taken))), o_s=s
            )
            _give(after, weight, s)
            number += 1


def _give(after: Columns, weight: int, bits: Value) -> None:
    """Append the bits of a sum to the columns from `weight` on."""
    for place, bit in enumerate(bits):
        if weight + place < len(after):
            after[weight + place].append(Lane(bit))
