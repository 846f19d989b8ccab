"""How the verbs choose a core machine's mappings: the mapper's search, the cycle model as its judge."""

from __future__ import annotations

from ..mapper.judge import Judge
from ..mapper.lower import lower_plan
from ..mapper.machine import Machine
from ..mapper.objective import Objective
from ..mapper.plan import NetworkPlan, plan_network
from ..mapper.program import Program
from ..models.network import Network

__all__ = ["choose_plan", "map_for", "parse_objective"]


def parse_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return Objective(name)
    except ValueError:
        raise ValueError(f"--objective must be {', '.join(Objective)}, not {name!r}") from None


def _judge(machine: Machine, objective: Objective) -> Judge | None:
    """What the cycle model makes of a program by the objective; None where nothing is estimated."""
    from ..sim.cycle import simulate
    from ..sim.timing import time_program

    def cycles(program: Program) -> float:
        return float(time_program(program, machine.memory).cycles)

    def priced(program: Program) -> float:
        result = simulate(program)
        energy = sum(result.energy_pj.values())
        return energy * result.cycles if objective is Objective.EDP else energy

    if objective is Objective.BYTES:
        return None  # the mapper counts them
    return cycles if objective is Objective.LATENCY else priced


def choose_plan(network: Network, machine: Machine, objective: Objective) -> NetworkPlan:
    """The mapping of every layer; the cycle model decides among each layer's best few.

    Raises:
        MappingError: a layer can't run on this machine; names the layer.
        ValueError: the energy table has no row for the machine's node or DRAM part.
    """
    from ..sim.energy import event_prices

    prices = event_prices(machine) if objective in (Objective.ENERGY, Objective.EDP) else None
    return plan_network(network, machine, objective, prices, _judge(machine, objective))


def map_for(network: Network, machine: Machine, objective: Objective = Objective.LATENCY) -> Program:
    """The checked program of a network by an objective; errors as `choose_plan`'s."""
    return lower_plan(network, machine, choose_plan(network, machine, objective))
