"""The published compressions of three networks, run here from trained weights; exit 1 where one is missed.

python benchmarks/headline.py --shared ../shared/data [--only lenet5]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bitwright.models.architectures import architecture, load_weights
from bitwright.models.compress.compression import Compressed, compress
from bitwright.models.compress.datasets import load_dataset
from bitwright.models.compress.recipe import load_recipe

HERE = Path(__file__).parent / "headline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a run is to reach."""

    ratio: float
    """Of float32 bytes to payload bytes."""
    error: float | None
    """Greatest test error, 0…1; None is the uncompressed network's."""
    parameters: float = 0.0
    """Of weights and biases before to those kept; 0 asks for none."""


RUNS = {
    "lenet5": ("lenet5", "models/dns_lenet/lenet5_original.npz", "mnist.npz", [
        Goal(ratio=39.0, error=None), Goal(ratio=200.0, error=0.010),
        Goal(ratio=0.0, error=0.010, parameters=100.0),
    ]),
    "lenet300": ("lenet300", "models/dns_lenet/lenet300100_original.npz", "mnist.npz", [
        Goal(ratio=40.0, error=None),
    ]),
    "resnet20": ("resnet20", "models/resnet_cifar10/resnet20.npz", "cifar10_10k_2k.npz", [
        Goal(ratio=12.0, error=1.0 - 0.9005),
    ]),
}  # fmt: skip
"""By recipe: network, its trained weights, data, goals. 90.05 % is a point below ResNet-20's 91.05 %."""


def kept_parameters(done: Compressed) -> int:
    """Weights that are kept, and biases."""
    model = done.subject.model
    biases = sum(0 if (bias := model.bias(layer.name)) is None else bias.numel() for layer in model.layers)
    return sum(layer.kept for layer in done.passes[-1].layers) + biases


def run(name: str, shared: Path, folder: Path) -> bool:
    """Whether a run reaches all its goals; prints what it reaches."""
    network, weights, data_file, goals = RUNS[name]
    recipe = load_recipe(HERE / f"{name}.toml")
    graph = load_weights(architecture(network), shared / weights)
    data = load_dataset(str(shared / data_file), recipe.data_options, seed=recipe.seed)
    began = time.perf_counter()
    last = [0.0]

    def watch(number: int, kind: str, what: str, part: float) -> None:
        if time.perf_counter() - last[0] > 20:
            last[0] = time.perf_counter()
            sys.stderr.write(f"  {name}: {kind}: {what}, {part:.0%}\n")

    done = compress(graph, recipe, data, folder=folder / name, watch=watch)
    ratio = done.original_bytes / done.payload_bytes
    parameters = done.original_bytes / 4 / kept_parameters(done)
    print(
        f"{name}: {done.original_bytes} bytes of float32 to {done.payload_bytes}, {ratio:.1f} times; "
        f"parameters {parameters:.1f} times fewer; test error {1 - done.original_accuracy:.2%} to "
        f"{1 - done.accuracy:.2%}; {time.perf_counter() - began:.0f} s"
    )
    reached = True
    for goal in goals:
        most = 1 - done.original_accuracy if goal.error is None else goal.error
        fine = ratio >= goal.ratio and parameters >= goal.parameters and 1 - done.accuracy <= most + 1e-9
        wanted = f"{goal.parameters:g} times fewer parameters" if goal.parameters else f"{goal.ratio:g} times"
        print(f"  {'reached' if fine else 'MISSED'}: {wanted} at an error of at most {most:.2%}")
        reached &= fine
    return reached


def main() -> int:
    """0 if every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("build/headline"), help="states between passes")
    parser.add_argument("--only", action="append", choices=sorted(RUNS))
    given = parser.parse_args()
    if not given.shared.is_dir():
        print(f"skipped: the trained networks and data aren't there: {given.shared}")
        return 0
    results = [run(name, given.shared, given.folder) for name in given.only or RUNS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
