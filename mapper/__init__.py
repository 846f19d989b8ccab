"""From a network and a machine to a checked program: description, mapping, lowering, static checks.

Imported as `bitwright.mapper`:

    from bitwright.mapper import load_machine, map_network
    program = map_network(network, load_machine("core-small"))
"""

from .check import check_program
from .listing import list_program
from .lower import map_network
from .machine import Machine, MemoryTiming
from .machine_file import load_machine, override_machine, preset_names
from .mapping import Mapping, MappingError
from .objective import EventPrices, Objective
from .plan import NetworkPlan, plan_network
from .program import Program, ProgramError, Region
from .tensors import pack_input, unpack_output

__all__ = [
    "EventPrices",
    "Machine",
    "Mapping",
    "MappingError",
    "MemoryTiming",
    "NetworkPlan",
    "Objective",
    "Program",
    "ProgramError",
    "Region",
    "check_program",
    "list_program",
    "load_machine",
    "map_network",
    "override_machine",
    "pack_input",
    "plan_network",
    "preset_names",
    "unpack_output",
]
