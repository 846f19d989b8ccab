"""A row of bytes as AXI4 bursts."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value

from .axi import ADDRESS_BITS

__all__ = ["BurstCutter"]


class BurstCutter:
    """Cuts a row into bursts that end at multiples of the longest burst, so none crosses a 4 KiB page.

    Not a component: its statements are added where a state machine loads or steps it. Everything that a
    request needs comes from registers.

    Args:
        max_burst: beats, a power of two.
        bus_bytes: bytes of a beat; max_burst · bus_bytes is at most 4096.
        run_bits: of a row's bytes.
    """

    def __init__(self, *, max_burst: int, bus_bytes: int, run_bits: int) -> None:
        self.max_burst = max_burst
        self.shift = bus_bytes.bit_length() - 1
        self.span = self.shift + max_burst.bit_length() - 1
        self.left = Signal(max(1, run_bits - self.shift + 1))
        """Beats of the row from this burst on."""
        self.address = Signal(ADDRESS_BITS)
        """First byte of this burst, aligned to the bus."""
        self.room = Signal(range(max_burst + 1))
        """Beats to the next multiple of the longest burst."""
        self.last = Signal(name="last_burst")
        """Whether this burst ends the row."""
        self.beats = Signal.like(self.room, name="burst_beats")
        """Beats of this burst."""

    def load(self, m: Module, address: Value, run: Value) -> None:
        """Begin, in the next cycle, with the first burst of `run` bytes from `address` on."""
        offset = address[: self.shift]
        left = (offset + run + ((1 << self.shift) - 1)) >> self.shift
        room = (self.max_burst - address[self.shift : self.span])[: len(self.room)]
        m.d.sync += self.address.eq(address[self.shift :] << self.shift)
        self._begin(m, left, room, run <= (1 << self.span) - address[: self.span])

    def step(self, m: Module) -> None:
        """Go on, in the next cycle, to the burst after this one, which is not the last."""
        left = (self.left - self.room)[: len(self.left)]
        m.d.sync += self.address.eq((self.address[self.span :] + 1) << self.span)
        room = Const(self.max_burst, len(self.room))
        self._begin(m, left, room, self.left <= self.room + self.max_burst)

    def _begin(self, m: Module, left: Value, room: Value, fits: Value) -> None:
        """The registers of a burst; `fits` is left <= room, without waiting for `left`."""
        m.d.sync += [
            self.left.eq(left),
            self.room.eq(room),
            self.last.eq(fits),
            self.beats.eq(Mux(fits, left[: len(room)], room)),
        ]
