"""The same network on every machine that ships: cycles, traffic and where the time goes.

Run it with `.venv/bin/python examples/compare_machines.py`.
"""

from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, preset_names
from bitwright.models.zoo import resnet8_stack
from bitwright.sim.cycle import simulate


def main() -> None:
    network = resnet8_stack()
    for name in preset_names():
        machine = load_machine(name)
        result = simulate(map_network(network, machine))
        moved = result.read_bytes + result.write_bytes
        print(
            f"{name:12} {result.cycles:9} cycles  {moved:9} DRAM bytes  array busy {result.utilization:.0%}"
        )


if __name__ == "__main__":
    main()
