"""How fast the stepped systolic mode is, and in how much memory, beside SCALE-Sim 3.0.0's measured figures.

Run it with `make bench` or `python benchmarks/systolic_speed.py`. Every cycle's port addresses and counts
are made and totalled, on a 32 × 32 array, for a layer of each of ResNet-18's stages; times are the
processor's, so that other work on the machine doesn't count. SCALE-Sim: about 4,200 cycles a second in 1.3 GB
(../shared/reference/README.md). Then the same with the DRAM traffic that buffers of 1 MiB each would miss.
"""

from __future__ import annotations

import resource
import sys
import time

from bitwright.models.topology import TopologyLayer
from bitwright.sim.systolic import Dataflow, SystolicArray, closed_form
from bitwright.sim.systolic_run import Buffers, run_stepped

SCALESIM_CYCLES_A_SECOND, SCALESIM_MIB = 4200, 1300
REPEATS = 3


def layers() -> list[TopologyLayer]:
    """One layer of each of ResNet-18's stages, padding counted in."""
    sizes = ((230, 7, 3, 64, 2), (58, 3, 64, 64, 1), (30, 3, 128, 128, 1), (16, 3, 256, 256, 1))
    return [
        TopologyLayer(
            name=f"stage{number}",
            ifmap_h=side,
            ifmap_w=side,
            filter_h=kernel,
            filter_w=kernel,
            channels=channels,
            filters=filters,
            stride_h=stride,
            stride_w=stride,
        )
        for number, (side, kernel, channels, filters, stride) in enumerate(sizes, 1)
    ]


def rate(array: SystolicArray, buffers: Buffers | None) -> float:
    """Cycles a second, the best of some runs; refuses to go on where cycles differ from the closed form."""
    cycles = sum(closed_form(layer, array).cycles for layer in layers())
    best = float("inf")
    for _ in range(REPEATS):
        started = time.process_time()
        stepped = sum(run_stepped(layer, array, buffers=buffers).cycles for layer in layers())
        best = min(best, time.process_time() - started)
        if stepped != cycles:
            sys.exit(f"{array.dataflow.value}: {stepped} cycles, the closed form says {cycles}")
    return cycles / best


def main() -> int:
    arrays = [SystolicArray(rows=32, cols=32, dataflow=dataflow) for dataflow in Dataflow]
    rates = [rate(array, None) for array in arrays]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for array, found in zip(arrays, rates, strict=True):
        ratio = found / SCALESIM_CYCLES_A_SECOND
        print(f"{array.dataflow.value}: {found / 1e6:5.2f} M cycles/s, {ratio:.0f} × SCALE-Sim")
    print(f"resident: {resident:.0f} MiB at most, SCALE-Sim's {SCALESIM_MIB / resident:.0f} times as much")
    buffers = Buffers(ifmap_bytes=1 << 20, filter_bytes=1 << 20, ofmap_bytes=1 << 20)
    for array in arrays:
        print(f"{array.dataflow.value} with DRAM traffic: {rate(array, buffers) / 1e6:5.2f} M cycles/s")
    with_traffic = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"resident with DRAM traffic, whose kernel is compiled: {with_traffic:.0f} MiB at most")
    return 0 if min(rates) >= 1000 * SCALESIM_CYCLES_A_SECOND and resident < 150 else 1


if __name__ == "__main__":
    sys.exit(main())
