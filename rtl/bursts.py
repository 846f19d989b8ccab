"""A row of bytes as AXI4 bursts."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value

from .axi import ADDRESS_BITS

__all__ = ["BurstCutter"]


class BurstCutter:
    """Cuts a row into bursts that end at multiples of the longest burst, so none crosses a 4 KiB page.

    Not a component: its statements are added where a state machine loads or steps it. Everything that a
    request needs comes from registers and one short comparison.

    Args:
        max_burst: beats, a power of two.
        bus_bytes: bytes of a beat; max_burst · bus_bytes is at most 4096.
    """

    def __init__(self, *, max_burst: int, bus_bytes: int) -> None:
        self.max_burst = max_burst
        self.shift = bus_bytes.bit_length() - 1
        self.span = self.shift + max_burst.bit_length() - 1
        self.left = Signal(21)
        """Beats of the row from this burst on."""
        self.address = Signal(ADDRESS_BITS)
        """First byte of this burst, aligned to the bus."""
        self.room = Signal(range(max_burst + 1))
        """Beats to the next multiple of the longest burst."""

    @property
    def last(self) -> Value:
        """Whether this burst ends the row."""
        return self.left <= self.room

    @property
    def beats(self) -> Value:
        """Beats of this burst."""
        return Mux(self.last, self.left[: len(self.room)], self.room)

    def load(self, m: Module, address: Value, run: Value) -> None:
        """Begin, in the next cycle, with the first burst of `run` bytes from `address` on."""
        offset = address[: self.shift]
        m.d.sync += [
            self.left.eq((offset + run + ((1 << self.shift) - 1)) >> self.shift),
            self.address.eq(address[self.shift :] << self.shift),
            self.room.eq(self.max_burst - address[self.shift : self.span]),
        ]

    def step(self, m: Module) -> None:
        """Go on, in the next cycle, to the burst after this one, which is not the last."""
        m.d.sync += [
            self.left.eq(self.left - self.room),
            self.address.eq((self.address[self.span :] + 1) << self.span),
            self.room.eq(self.max_burst),
        ]
