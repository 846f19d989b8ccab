"""How long planning takes: VGG-16 in int8 on the larger presets, tiles of every layer chosen by search.

Run it with `make bench`. Shapes come from zoo:vgg16, as if each layer's operands were int8; a convolution
and the max pool behind it are one core layer. Planning runs on one core; its CPU time counts, the best of
three runs, so that kernels are compiled before. The goal is one second a machine.
"""

from __future__ import annotations

import sys
import time

from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.objective import Objective
from bitwright.mapper.plan import plan_layers
from bitwright.mapper.shape import LayerShape
from bitwright.models.architectures import architecture
from bitwright.models.graph.graph import Graph, Node
from bitwright.sim.energy import event_prices

GOAL_SECONDS = 1.0
REPEATS = 3


def _pool_after(graph: Graph, node: Node) -> int:
    """Side of the max pool that follows a layer and its ReLU; 1 for none."""
    for _ in range(2):
        (user,) = graph.consumers(node.outputs[0]) or (node,)
        if user.op == "MaxPool":
            return int(user.attributes["kernel_shape"][0])
        node = user
    return 1


def vgg_shapes() -> list[LayerShape]:
    """The core layers of VGG-16 at 224 × 224."""
    graph = architecture("vgg16")
    shapes = []
    for node in graph.nodes:
        if node.op == "Conv":
            _, channels, height, width = graph.values[node.inputs[0]].shape
            _, features, rows, columns = graph.values[node.outputs[0]].shape
            taps = node.attributes["kernel_shape"]
            pads, pool = node.attributes["pads"], _pool_after(graph, node)
            shapes.append(
                LayerShape(
                    name=node.name, K=features, C=channels, H=height, W=width, FY=taps[0], FX=taps[1],
                    OY=rows, OX=columns, pad_top=pads[0], pad_left=pads[1], pool_y=pool, pool_x=pool,
                )
            )  # fmt: skip
        elif node.op in ("Gemm", "MatMul"):
            features, inputs = graph.values[node.outputs[0]].shape[-1], graph.values[node.inputs[0]].shape[-1]
            shapes.append(LayerShape(name=node.name, K=features, C=inputs, H=1, W=1))
    return shapes


def measure(name: str) -> bool:
    """Whether planning for latency kept to the goal; prints every objective's time."""
    machine, shapes = load_machine(name), vgg_shapes()
    prices = event_prices(machine)
    kept = True
    for objective in Objective:
        seconds = []
        for _ in range(REPEATS):
            started = time.process_time()
            ranking = plan_layers(shapes, machine, objective, prices)
            seconds.append(time.process_time() - started)
        mappings = ranking.mappings
        priced, cycles = sum(m.evaluated for m in mappings), sum(m.cycles for m in mappings)
        print(
            f"VGG-16 on {name}, {objective}: {min(seconds):.3f} s, {GOAL_SECONDS / min(seconds):.1f} times "
            f"the goal's speed; {priced} candidates of the last split of buffers, {cycles} cycles estimated, "
            f"{sum(m.optimal for m in mappings)} of {len(mappings)} layers optimal",
            flush=True,
        )
        kept &= min(seconds) <= GOAL_SECONDS
    return kept


def main() -> int:
    kept = [measure(name) for name in sys.argv[1:] or ("core-medium", "core-large")]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
