"""Simulation of programs, imported as `bitwright.sim`: what comes out, when, and at what energy.

    from bitwright.sim.cycle import simulate            # cycles, bytes, event energy: a Result
    from bitwright.sim.functional import run_functional  # the output's bytes

What is named here needs numpy alone; `.cycle` and `.functional` import Numba.
"""

from .energy_table import EnergyRow, EnergyTable, load_energy_table
from .result import LayerResult, Moved, Result, load_result

__all__ = [
    "EnergyRow",
    "EnergyTable",
    "LayerResult",
    "Moved",
    "Result",
    "load_energy_table",
    "load_result",
]
