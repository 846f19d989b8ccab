"""How much faster the cycle model is than the RTL: one network on each preset, cycles a second.

Run it with `make bench`. The RTL runs in Verilator behind a C++ main, without Python: the fastest
form that there is. Neither the Verilator build nor the kernels' compilation is counted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, preset_names
from bitwright.models.zoo import random_input, resnet8_stack
from bitwright.rtl.runner import RtlCase, run_cpp
from bitwright.sim.cycle import simulate

REPEATS = 5


def compare(name: str) -> bool:
    """Whether model and RTL took as many cycles; prints how fast each was."""
    machine = load_machine(name)
    network = resnet8_stack()
    program = map_network(network, machine)

    model = simulate(program)  # compiles
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        model = simulate(program)
        seconds.append(time.perf_counter() - started)
    model_rate = model.cycles / min(seconds)

    case = RtlCase(program=program, x=random_input(network, 0)[0], memory=machine.memory)
    runs = [run_cpp(machine, case) for _ in range(2)]
    rtl_rate = runs[0].cycles / min(run.seconds for run in runs)

    print(f"{network.name} on {machine.name}, {model.cycles} cycles")
    print(f"  cycle model   {model_rate / 1e6:8.2f} M cycles/s")
    print(f"  Verilator C++ {rtl_rate / 1e6:8.2f} M cycles/s")
    print(f"  ratio         {model_rate / rtl_rate:8.1f}", flush=True)
    if model.cycles != runs[0].cycles:
        print(f"{Path(__file__).name}: RTL took {runs[0].cycles} cycles", file=sys.stderr)
    return bool(model.cycles == runs[0].cycles)


def main() -> int:
    agree = [compare(name) for name in sys.argv[1:] or preset_names()]
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
