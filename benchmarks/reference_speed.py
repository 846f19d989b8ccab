"""How many images a second the integer reference runs: ResNet-8, 32 × 32 pixels. Run it with `make bench`."""

from __future__ import annotations

import time

from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, resnet8_stack

IMAGES = 400
REPEATS = 3


def main() -> None:
    """Prints the best of some runs, in images a second of wall clock and of processor time."""
    network = resnet8_stack()
    x = random_input(network, 0, IMAGES)
    wall, busy = [], []
    for _ in range(REPEATS):
        started, used = time.perf_counter(), time.process_time()
        run_reference(network, x)
        wall.append(time.perf_counter() - started)
        busy.append(time.process_time() - used)
    rates = f"{IMAGES / min(wall):.0f} images a second, {IMAGES / min(busy):.0f} a processor second"
    print(f"{network.name}: {rates}")


if __name__ == "__main__":
    main()
