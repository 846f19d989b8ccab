"""How many accesses a second the DRAM model serves on one core, in a closed loop and through its queues.

    python benchmarks/dram_speed.py [accesses]

The goal is 5,000,000 closed-loop accesses a second.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from bitwright.sim.dram import run_trace
from bitwright.sim.dram_part import load_dram_part

GOAL = 5_000_000
REPEATS = 3


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    part = load_dram_part("DDR4-2400")
    rng = np.random.default_rng(5)
    burst = part.burst_bytes
    traces = {
        "sequential": np.arange(count, dtype=np.int64) * burst,
        "random": rng.integers(0, (4 << 30) // burst, count) * burst,
    }
    for name, trace in traces.items():
        for limit in (1, None):
            run_trace(part, trace[:1000], outstanding=limit)  # compiles
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                run = run_trace(part, trace, outstanding=limit)
                seconds.append(time.perf_counter() - start)
            rate = count / min(seconds)
            loop = "closed" if limit else "queued"
            ratio = f", {rate / GOAL:.2f} × the goal" if limit else ""
            cycles = run.cycles / count
            print(f"{name:10} {loop:6} {rate / 1e6:.2f} M accesses/s{ratio}, {cycles:.1f} cycles each")


if __name__ == "__main__":
    main()
