"""How fast the stepped systolic mode is, and in how much memory, beside SCALE-Sim 3.0.0's measured figures.

Run it with `make bench` or `python benchmarks/systolic_speed.py`. Every cycle's port addresses and counts are
made, on a 32 × 32 array, for layers of ResNet-18's sizes; compilation isn't counted. The second figure adds
the DRAM traffic that buffers of 1 MiB each would miss. SCALE-Sim: about 4,200 cycles a second in 1.3 GB
(../shared/reference/README.md).
"""

from __future__ import annotations

import resource
import sys
import time

from bitwright.models.topology import TopologyLayer
from bitwright.sim.systolic import Dataflow, SystolicArray, closed_form
from bitwright.sim.systolic_run import Buffers, run_stepped
from bitwright.sim.systolic_steps import step_layer

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


def main() -> int:
    fast = True
    buffers = Buffers(ifmap_bytes=1 << 20, filter_bytes=1 << 20, ofmap_bytes=1 << 20)
    for dataflow in Dataflow:
        array = SystolicArray(rows=32, cols=32, dataflow=dataflow)
        cycles = sum(closed_form(layer, array).cycles for layer in layers())
        best = [float("inf"), float("inf")]
        for _ in range(REPEATS + 1):  # the first one compiles
            started = time.perf_counter()
            stepped = sum(block.counts.shape[0] for layer in layers() for block in step_layer(layer, array))
            best[0] = min(best[0], time.perf_counter() - started)
            started = time.perf_counter()
            for layer in layers():
                run_stepped(layer, array, buffers=buffers)
            best[1] = min(best[1], time.perf_counter() - started)
        rates = [cycles / seconds for seconds in best]
        print(
            f"{dataflow.value}: {cycles} cycles, {rates[0] / 1e6:.2f} M cycles/s, "
            f"{rates[0] / SCALESIM_CYCLES_A_SECOND:.0f} × SCALE-Sim; with DRAM traffic "
            f"{rates[1] / 1e6:.2f} M cycles/s",
            flush=True,
        )
        fast = fast and stepped == cycles and rates[0] >= 1000 * SCALESIM_CYCLES_A_SECOND
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"resident: {resident:.0f} MiB at most, SCALE-Sim's {SCALESIM_MIB / resident:.1f} times as much")
    return 0 if fast and resident < 150 else 1


if __name__ == "__main__":
    sys.exit(main())
