"""The input window of an output tile: which input bytes a tile needs and how they lie in a bank.

A tile's window is dense in the bank: `count` rows of `count` pixels of `channels` bytes. Positions
outside the image are filled with the zero point; positions that strides skip are not held at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Axis", "Copy", "Fill", "Window", "axis_window", "bank_step", "held"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a window: `before` filled, then `valid` copied, then `after` filled positions."""

    start: int
    """Input index of the first copied position."""
    step: int
    """Input positions from one held position to the next."""
    before: int
    valid: int
    after: int

    @property
    def count(self) -> int:
        """Positions held in the bank."""
        return self.before + self.valid + self.after


def bank_step(stride: int, dilation: int, taps: int) -> int:
    """Input positions from one that any output needs to the next: the others need not be held."""
    return math.gcd(stride, dilation if taps > 1 else 0)


def held(outputs: int, stride: int, dilation: int, taps: int, step: int) -> int:
    """Bank positions under the windows of `outputs` neighbouring output pixels."""
    return ((outputs - 1) * stride + (taps - 1) * dilation) // step + 1


def axis_window(*, first: int, needed: int, nominal: int, step: int, size: int) -> Axis:
    """The axis whose position 0 is input index `first`, of which `needed` positions are used.

    Args:
        first: input index of position 0; negative in the padding.
        needed: positions that valid outputs use.
        nominal: positions that the bank holds, at least `needed`; those past `needed` are filled.
        step: input positions from one to the next.
        size: input positions that exist.
    """
    before = min(max(-(first // step), 0), needed)
    end = min(max(-((first - size) // step), before), needed)
    return Axis(first + before * step, step, before, end - before, nominal - end)


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes to copy: planes × rows × run from an offset in the tensor to an offset in the bank."""

    src: int
    src_row: int
    src_plane: int
    dst: int
    dst_row: int
    dst_plane: int
    run: int
    rows: int
    planes: int


@dataclass(frozen=True, slots=True)
class Fill:
    """Bytes of zero point: `rows` runs in the bank."""

    dst: int
    dst_row: int
    run: int
    rows: int


@dataclass(frozen=True, slots=True)
class Window:
    """What one bank holds for one tile and one range of input channels."""

    y: Axis
    x: Axis
    first_channel: int
    channels: int
    row_bytes: int
    """Bytes of an input row in memory."""
    pixel_bytes: int
    """Bytes of an input pixel in memory."""

    @property
    def pitch(self) -> int:
        """Bytes from a row to the next in the bank."""
        return self.x.count * self.channels

    @property
    def size(self) -> int:
        """Bytes held in the bank."""
        return self.y.count * self.pitch

    @property
    def _empty(self) -> bool:
        return not self.y.valid or not self.x.valid

    def copies(self) -> list[Copy]:
        """The bytes that come from memory, as one 3-D copy; none if the window is all padding."""
        if self._empty:
            return []
        y, x, pitch = self.y, self.x, self.pitch
        src = y.start * self.row_bytes + x.start * self.pixel_bytes + self.first_channel
        dst = y.before * pitch + x.before * self.channels
        row_step = y.step * self.row_bytes
        if self.channels == self.pixel_bytes and x.step == 1:
            run = x.valid * self.channels
            if run == pitch and run == row_step:  # whole rows: one run in memory and in the bank
                return [Copy(src, 0, 0, dst, 0, 0, run * y.valid, 1, 1)]
            return [Copy(src, row_step, 0, dst, pitch, 0, run, y.valid, 1)]
        pixel_step = x.step * self.pixel_bytes
        if x.valid == 1:
            return [Copy(src, row_step, 0, dst, pitch, 0, self.channels, y.valid, 1)]
        return [
            Copy(
                src, pixel_step, row_step, dst, self.channels, pitch, self.channels, x.valid,
                y.valid,
            )
        ]  # fmt: skip

    def fills(self) -> list[Fill]:
        """The padding, a row's right end and the next row's left start in one run."""
        y, x, pitch = self.y, self.x, self.pitch
        if self._empty:
            return [Fill(0, 0, self.size, 1)]
        left, right = x.before * self.channels, x.after * self.channels
        head = y.before * pitch + left
        tail = right + y.after * pitch
        fills = []
        if head:
            fills.append(Fill(0, 0, head, 1))
        if left + right and y.valid > 1:
            middle = y.before * pitch + pitch - right
            fills.append(Fill(middle, pitch, left + right, y.valid - 1))
        if tail:
            fills.append(Fill(self.size - tail, 0, tail, 1))
        return fills
