"""A row of bytes as AXI4 bursts."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value

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
        self.address = Signal(ADDRESS_BITS)
        """First byte of this burst, aligned to the bus."""
        self.beats = Signal(range(max_burst + 1), name="burst_beats")
        """Beats of this burst."""
        self.last = Signal(name="last_burst")
        """Whether this burst ends the row."""
        # The row's end, seen from the last multiple of the longest burst: multiples up to it, whether it is
        # one itself, and the beats of the burst that ends there.
        self._ahead = Signal(max(2, run_bits + 1 - self.span), name="bursts_ahead")
        self._whole = Signal(name="ends_whole")
        self._final = Signal.like(self.beats, name="final_beats")

    def load(self, m: Module, address: Value, run: Value) -> None:
        """Begin, in the next cycle, with the first burst of `run` bytes from `address` on."""
        end = (address[: self.span] + run)[: self.span + len(self._ahead)]
        ahead, rest = end[self.span :], end[: self.span]
        whole = rest == 0
        last = (ahead == 0) | ((ahead == 1) & whole)
        # Of a row of one burst, the low bits tell all.
        single = (address[: self.shift] + run[: self.span + 1] + ((1 << self.shift) - 1)) >> self.shift
        room = self.max_burst - address[self.shift : self.span]
        final = rest[self.shift :] + (rest[: self.shift] != 0)
        m.d.sync += [
            self.address.eq(address[self.shift :] << self.shift),
            self.beats.eq(Mux(last, single, room)),
            self.last.eq(last),
            self._ahead.eq(ahead),
            self._whole.eq(whole),
            self._final.eq(Mux(whole, self.max_burst, final)),
        ]

    def step(self, m: Module) -> None:
        """Go on, in the next cycle, to the burst after this one, which is not the last."""
        last = (self._ahead == 1) | ((self._ahead == 2) & self._whole)
        m.d.sync += [
            self.address.eq((self.address[self.span :] + 1) << self.span),
            self.beats.eq(Mux(last, self._final, self.max_burst)),
            self.last.eq(last),
            self._ahead.eq(self._ahead - 1),
        ]
