"""The event energy of a mapping: what each count that a mapping can change costs on a machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .isa import PostMode
from .machine import Machine
from .objective import EventPrices
from .pe import PeKind
from .shape import LayerShape

__all__ = ["price_events"]


def price_events(
    shape: LayerShape, machine: Machine, prices: EventPrices | None, lines: int
) -> NDArray[np.float64]:
    """Picojoules, as search_kernel.PRICE names them: the events are those of `sim.events.count_events`.

    Args:
        shape: the layer, with its PE kind and what POST does.
        machine: gives the widths.
        prices: of events; None makes everything free.
        lines: weight buffer lines that one accumulator tile of one group reads.
    """
    if prices is None:
        return np.zeros(9)
    array, kind, mode = machine.array, shape.pe, shape.mode
    accumulator = -(-array.acc_bits // 8)
    lanes = array.lanes(kind)
    counted = kind in (PeKind.TERNARY, PeKind.BINARY)
    product = {
        "multiply": prices.multiply,
        "negate": prices.negate,
        "ternary": prices.ternary,
        "xnor": prices.xnor,
    }[kind.product]
    update = lanes * product + (1 if counted else lanes) * prices.add
    update += 2 * accumulator * prices.accumulators
    issue = array.rows * array.cols * update
    issue += array.cols * 2 * machine.act_word_bytes * prices.activation_buffer
    searched = shape.levels if mode is PostMode.THRESHOLDS else 0
    taken = accumulator * prices.accumulators + prices.output_buffer / (
        shape.summed * shape.pool_y * shape.pool_x
    )
    if searched:
        taken += 3 * searched * prices.compare
    else:
        sums = {PostMode.ADD: 1 / 2, PostMode.PLANES: 1 / shape.summed}.get(mode, 0.0)
        taken += (1 + sums) * prices.post
    read = machine.post.lanes * taken
    read += max(searched, 1) * machine.param_line_bits // 8 * prices.param_buffer
    pixels = (shape.OY // shape.pool_y) * (shape.OX // shape.pool_x)
    written = shape.out_bytes(shape.K) * pixels
    return np.array(
        [
            issue,
            lines * (machine.weight_line_bits // 8) * prices.weight_buffer,
            read,
            prices.activation_buffer,
            prices.weight_buffer,
            prices.param_buffer,
            2 * machine.output_word_bytes * prices.output_buffer,
            prices.dram,
            written * prices.dram,
        ]
    )
