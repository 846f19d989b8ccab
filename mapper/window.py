"""The input window of an output tile: which input bytes a tile needs and how they lie in a bank.

A tile's window is dense in the bank: `count` rows of `count` pixels of `size_x` bytes. Positions
outside the image are filled; positions that strides skip are not held at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .shape import Place

__all__ = ["Axis", "Copy", "Fill", "Window", "axis_window", "bank_step"]


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
    """Bytes of padding: `rows` runs in the bank."""

    dst: int
    dst_row: int
    run: int
    rows: int


@dataclass(frozen=True, slots=True)
class Window:
    """What one bank holds for one tile and one range of input channels."""

    y: Axis
    x: Axis
    skip: int
    """Bytes of a pixel before those that are held."""
    size_x: int
    """Bytes held of a pixel."""
    width: int
    """Pixels of an input row in memory."""
    places: tuple[Place, ...]
    """The tensor; two of them give rows in turn."""

    @property
    def pitch(self) -> int:
        """Bytes from a row to the next in the bank."""
        return self.x.count * self.size_x

    @property
    def size(self) -> int:
        """Bytes held in the bank."""
        return self.y.count * self.pitch

    @property
    def _empty(self) -> bool:
        return not self.y.valid or not self.x.valid

    def copies(self) -> list[Copy]:
        """The bytes that come from memory, a 3-D copy for each tensor; none if all is padding."""
        if self._empty:
            return []
        return [self._copy(operand) for operand in range(len(self.places))]

    def _copy(self, operand: int) -> Copy:
        y, x, pitch, turns, place = self.y, self.x, self.pitch, len(self.places), self.places[operand]
        assert turns == 1 or (y.step == 1 and y.start % turns == y.valid % turns == y.before == 0)
        rows, bank_row = y.valid // turns, turns * pitch
        src = place.offset + self.skip + (y.start // turns * self.width + x.start) * place.pitch
        dst = (y.before + operand) * pitch + x.before * self.size_x
        row_step = y.step * self.width * place.pitch
        if self.size_x == place.pitch and x.step == 1:
            run = x.valid * self.size_x
            if run == bank_row and run == row_step:  # whole rows: one run in memory and in the bank
                return Copy(src, 0, 0, dst, 0, 0, run * rows, 1, 1)
            return Copy(src, row_step, 0, dst, bank_row, 0, run, rows, 1)
        if x.valid == 1:
            return Copy(src, row_step, 0, dst, bank_row, 0, self.size_x, rows, 1)
        pixel_step = x.step * place.pitch
        return Copy(src, pixel_step, row_step, dst, self.size_x, bank_row, self.size_x, x.valid, rows)

    def fills(self) -> list[Fill]:
        """The padding, a row's right end and the next row's left start in one run."""
        y, x, pitch = self.y, self.x, self.pitch
        if self._empty:
            return [Fill(0, 0, self.size, 1)]
        left, right = x.before * self.size_x, x.after * self.size_x
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
