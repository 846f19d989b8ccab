"""How many input rows output and filter rows take together: strides, dilation, and what windows share."""

from __future__ import annotations

import math

__all__ = ["window_values"]


def window_values(outputs: int, taps: int, stride: int, dilation: int) -> int:
    """Distinct values of stride·i + dilation·j for i < outputs, j < taps.

    With both divided by their common divisor, (i, j) and (i + dilation, j − stride) are the same value, and
    no others are, so of the outputs · taps pairs (outputs − dilation)⁺ · (taps − stride)⁺ come again.
    """
    common = math.gcd(stride, dilation)
    return outputs * taps - max(0, outputs - dilation // common) * max(0, taps - stride // common)
