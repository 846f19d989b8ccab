"""The layer, machine and mapping of ../shared/reference/timeloop_eyeriss256.md."""

from bitwright.mapper.factor_space import FactorSpace
from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.problem import OPERANDS, Problem


def _file(name: str, operand: str, entries: int, pj: float) -> Level:
    return Level(
        name=name, operands=(operand,), size_bits=16 * entries, word_bits=16, read_pj=pj, write_pj=pj,
        buffering="shadow", sliding=True,
    )  # fmt: skip


EYERISS256 = AbstractMachine(
    name="eyeriss256",
    levels=(
        _file("outputs", "O", 16, 0.98),
        _file("weights", "W", 192, 0.99),
        _file("inputs", "I", 12, 0.98),
        Level(
            name="buffer", operands=("I", "O"), size_bits=65536 * 16, word_bits=16, read_pj=7.41,
            write_pj=7.41, buffering="shadow", sliding=True,
        ),
        Level(name="dram", operands=OPERANDS, word_bits=16, read_pj=200.0, write_pj=200.0),
    ),
    axes=(
        Axis(name="rows", size=16, below="buffer", loops=("FY", "C", "K")),
        Axis(name="columns", size=16, below="buffer", loops=("OY", "K")),
    ),
    pes=(PeMode(name="mac", weight_bits=16, input_bits=16, mac_pj=1.0),),
    drains_cost=False,
)  # fmt: skip

LAYER = Problem(
    name="layer", K=256, C=256, OY=56, OX=56, FY=3, FX=3,
    weight_bits=16, input_bits=16, output_bits=16, partial_bits=16,
)  # fmt: skip

NEST = (
    {"dram": "OY7 K2 C32", "buffer": "K2 OX56", "weights": "FX3 C4", "outputs": "K16"},
    {"columns": "K2 OY8", "rows": "K2 C2 FY3"},
)
"""Its best mapping; its P, Q, R, S are OX, OY, FX, FY."""

SPACE = FactorSpace(
    places={
        "OX": ("buffer",),
        "FX": ("weights",),
        "FY": ("rows",),
        "OY": ("columns", "dram"),
        "K": ("outputs", "rows", "columns", "buffer", "dram"),
        "C": ("weights", "rows", "dram"),
    },
    orders={"dram": ("OY", "K", "C"), "buffer": ("K", "OX"), "weights": ("FX", "C")},
)
"""Its space: 8 ways to split OY, 495 for K and 45 for C, 178,200 together."""
