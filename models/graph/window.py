"""Where the windows of convolutions and pools lie: ONNX's arithmetic of kernels, strides and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .attributes import choice, flag, integers
from .graph import MAX_ELEMENTS, Node

__all__ = ["Window", "window_of"]

_AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A sliding window; each field has one entry a spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    """Padding before the first value."""
    ends: tuple[int, ...]
    """Padding after the last value, as the file says."""
    out: tuple[int, ...]
    """Windows along the axis."""
    spatial: tuple[int, ...]
    """Values along the axis, without padding."""

    @property
    def overhang(self) -> tuple[int, ...]:
        """By how much the last window reaches beyond the padding: above 0 with ceil_mode only."""
        return tuple(
            max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - begin - size - end)
            for out, stride, kernel, dilation, begin, size, end in zip(
                self.out,
                self.strides,
                self.kernel,
                self.dilations,
                self.begins,
                self.spatial,
                self.ends,
                strict=True,
            )
        )


def window_of(node: Node, spatial: Sequence[int], kernel: Sequence[int] | None = None) -> Window:
    """The window of a Conv or pool over `spatial` sizes; `kernel` is the weights', where there are any.

    Raises:
        ValueError: an attribute of the wrong length or sign, a kernel that differs from the weights', or
            no window fits.
    """
    rank = len(spatial)
    sides = integers(node, "kernel_shape", kernel)
    if kernel is not None and sides != tuple(kernel):
        raise ValueError(f"kernel_shape {sides} differs from its weights', {tuple(kernel)}")
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    pads = integers(node, "pads", (0,) * (2 * rank))
    for key, got, length, low in (
        ("kernel_shape", sides, rank, 1),
        ("strides", strides, rank, 1),
        ("dilations", dilations, rank, 1),
        ("pads", pads, 2 * rank, 0),
    ):
        if len(got) != length or any(not low <= n < 1 << 31 for n in got):
            raise ValueError(f"{key} must be {length} integers from {low} to 2^31, not {got!s:.60}")
    auto = choice(node, "auto_pad", "NOTSET", _AUTO)
    ceil = flag(node, "ceil_mode")
    begins, ends, out = list(pads[:rank]), list(pads[rank:]), []
    for i, size in enumerate(spatial):
        reach = (sides[i] - 1) * dilations[i] + 1
        if auto.startswith("SAME"):
            count = -(-size // strides[i])
            total = max(0, (count - 1) * strides[i] + reach - size)
            small = total // 2
            begins[i], ends[i] = (small, total - small) if auto == "SAME_UPPER" else (total - small, small)
        elif auto == "VALID":
            begins[i] = ends[i] = 0
        room = size + begins[i] + ends[i] - reach
        if room < 0:
            raise ValueError(
                f"a window of {reach} doesn't fit {size} values with {begins[i]} + {ends[i]} of padding"
            )
        count = room // strides[i] + 1
        if ceil and room % strides[i] and count * strides[i] < size + begins[i]:
            # a window that would begin in the padding at the end doesn't exist
            count += 1
        out.append(count)
    window = Window(
        kernel=sides,
        strides=strides,
        dilations=dilations,
        begins=tuple(begins),
        ends=tuple(ends),
        out=tuple(out),
        spatial=tuple(spatial),
    )
    if math.prod(n + b + e for n, b, e in zip(spatial, begins, ends, strict=True)) > MAX_ELEMENTS:
        raise ValueError(f"its padding makes more than 2^28 values of {tuple(spatial)}")
    return window
