"""A loop counter whose end is known from a register."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value

__all__ = ["Countdown"]


class Countdown:
    """Counts down to the last turn of a loop; `last` is a register, so nothing waits for a comparison.

    Not a component: its statements are added where a state machine loads or steps it.
    """

    def __init__(self, width: int, *, name: str) -> None:
        self.left = Signal(width, name=f"{name}_left")
        """Turns after this one."""
        self.last = Signal(name=f"{name}_last")
        """This is the last turn."""

    def load(self, m: Module, turns: Value) -> None:
        """Begin a loop of `turns` (at least 1) in the next cycle."""
        m.d.sync += [self.left.eq(turns - 1), self.last.eq(turns == 1)]

    def step(self, m: Module) -> None:
        """Go on to the next turn in the next cycle."""
        m.d.sync += [self.left.eq(self.left - 1), self.last.eq(self.left == 1)]
