"""Loop counters whose end is known from a register."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["Countdown", "Countup"]


class Countdown:
    """Counts down to the last turn of a loop; `last` is a register, so nothing waits for a comparison.

    The register is the complement of the turns left, this one among them, and counts up: so to load it takes
    no adder. Not a component: its statements are added where a state machine loads or steps it.
    """

    def __init__(self, width: int, *, name: str) -> None:
        self._complement = Signal(width, name=f"{name}_complement")
        self._ones = (1 << width) - 1
        self.last = Signal(name=f"{name}_last")
        """This is the last turn."""

    @property
    def before_last(self) -> Value:
        """Whether the turn after this one is the last."""
        return self._complement == 2 ^ self._ones

    def load(self, m: Module, turns: Value) -> None:
        """Begin a loop of `turns` (at least 1) in the next cycle."""
        m.d.sync += [self._complement.eq(turns ^ self._ones), self.last.eq(turns == 1)]

    def step(self, m: Module) -> None:
        """Go on to the next turn in the next cycle."""
        m.d.sync += [self._complement.eq(self._complement + 1), self.last.eq(self.before_last)]


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
