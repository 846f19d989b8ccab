"""Which core for a ResNet-8? Sweeps core machines in three weight formats and keeps what no other beats.

Run it with `.venv/bin/python examples/size_a_core.py`; `--small` is a glimpse, `-o FILE` the plot's place.
Area is estimated: one PE is synthesised for xc7, its LUTs taken rows × columns times, the rest left out.
"""

import argparse
import functools
import itertools
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.mapping import MappingError
from bitwright.models.zoo import resnet8_stack
from bitwright.rtl.cost import synthesise_unit
from bitwright.rtl.pe import ProcessingElement
from bitwright.sim.cycle import simulate
from matplotlib import pyplot

Design = namedtuple("Design", "milliseconds microjoules luts name")
FORMATS = ("int8", "ternary", "binary")
SMALL = {"array.rows": (4, 8)}
WHOLE = {
    "array.rows": (4, 8, 16),
    "array.cols": (1, 2, 4),
    "array.act_word_bits": (128, 256),
    "array.weight_word_bits": (32, 64),
    "buffers.activation_bytes": (16384, 65536),
    "bus.data_bits": (64, 128),
}


def design(weights, settings):
    pes = ["int8"] if weights == "int8" else ["int8", f"{weights}_int8"]
    machine = override_machine(load_machine("core-small"), [*settings, f"array.pes={pes}"])
    try:
        result = simulate(map_network(resnet8_stack(weights=weights), machine))
    except MappingError:
        return None  # it does not fit
    pe = synthesise_unit(ProcessingElement(machine=machine), "xc7", tries=False)  # kept by content
    luts = pe.lut * machine.array.rows * machine.array.cols
    name = " ".join([weights, *(setting.partition(".")[2] for setting in settings)])
    return Design(1e3 * result.cycles / machine.clock_hz, result.total_energy_pj / 1e6, luts, name)


def beats(other, one):
    return other[:3] != one[:3] and all(a <= b for a, b in zip(other[:3], one[:3], strict=True))


def main():
    parser = argparse.ArgumentParser(description="Sweep core machines for a ResNet-8.")
    parser.add_argument("--small", action="store_true", help="two cores")
    parser.add_argument("-o", "--output", default="size_a_core.svg", help="the plot")
    given = parser.parse_args()
    keys = SMALL if given.small else WHOLE
    cores = [[f"{k}={v}" for k, v in zip(keys, vs, strict=True)] for vs in itertools.product(*keys.values())]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # one process a CPU
        tried = [pool.map(functools.partial(design, form), cores) for form in FORMATS]
        designs = sorted(one for form in tried for one in form if one is not None)
    best = [one for one in designs if not any(beats(other, one) for other in designs)]
    print(f"{len(designs)} designs, {len(best)} of them beaten by none; LUTs are an estimate")
    for one in best:
        print(f"{one.milliseconds:8.3f} ms {one.microjoules:8.1f} µJ {one.luts:8} LUT6  {one.name}")

    pyplot.scatter([d.luts for d in designs], [d.milliseconds for d in designs], s=9, c="lightgrey")
    pyplot.scatter([d.luts for d in best], [d.milliseconds for d in best], c=[d.microjoules for d in best])
    pyplot.colorbar(label="event energy, µJ an image")
    pyplot.gca().set(xlabel="LUT6 of the PEs (estimated)", ylabel="ms an image")
    pyplot.savefig(given.output)


if __name__ == "__main__":
    main()
