"""Loop counters whose end is known from a register."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["Countdown", "Countup"]


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


class Countup:
    """Counts up from 0 where the turn's number is needed too; else as `Countdown`."""

    def __init__(self, width: int, *, name: str) -> None:
        self.turn = Signal(width, name=name)
        """This turn's number."""
        self.last = Signal(name=f"{name}_last")
        """This is the last turn."""

    def load(self, m: Module, turns: ValueLike) -> None:
        """Begin a loop of `turns` (at least 1) in the next cycle."""
        m.d.sync += [self.turn.eq(0), self.last.eq(Value.cast(turns) == 1)]

    def step(self, m: Module, turns: ValueLike) -> None:
        """Go on to the next of the `turns` in the next cycle."""
        m.d.sync += [self.turn.eq(self.turn + 1), self.last.eq(self.turn + 2 == turns)]
