"""AXI signatures of the core: the AXI4 master port, the AXI4-Lite control port, burst arithmetic."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib.wiring import In, Out, Signature

__all__ = [
    "ADDRESS_BITS",
    "PAGE_BYTES",
    "axi4_read",
    "axi4_write",
    "axi_lite",
    "beats_touched",
    "burst_beats",
    "clog2_shape",
]

ADDRESS_BITS = 32
PAGE_BYTES = 4096
"""No AXI4 burst crosses a boundary of this size (IHI 0022H, A3.4.1)."""


def axi4_read(data_bits: int) -> Signature:
    """Read channels of an AXI4 master: AR out, R in. One ID bit."""
    return Signature(
        {
            "arid": Out(1),
            "araddr": Out(ADDRESS_BITS),
            "arlen": Out(8),
            "arsize": Out(3),
            "arburst": Out(2),
            "arvalid": Out(1),
            "arready": In(1),
            "rid": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi4_write(data_bits: int) -> Signature:
    """Write channels of an AXI4 master: AW and W out, B in. One ID bit."""
    return Signature(
        {
            "awid": Out(1),
            "awaddr": Out(ADDRESS_BITS),
            "awlen": Out(8),
            "awsize": Out(3),
            "awburst": Out(2),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def axi_lite() -> Signature:
    """An AXI4-Lite subordinate of 8 address and 32 data bits, as its manager sees it."""
    return Signature(
        {
            "awvalid": Out(1),
            "awready": In(1),
            "awaddr": Out(8),
            "wvalid": Out(1),
            "wready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "bvalid": In(1),
            "bready": Out(1),
            "bresp": In(2),
            "arvalid": Out(1),
            "arready": In(1),
            "araddr": Out(8),
            "rvalid": In(1),
            "rready": Out(1),
            "rdata": In(32),
            "rresp": In(2),
        }
    )


def beats_touched(address: Value, run: Value, bus_bytes: int) -> Value:
    """Aligned beats that `run` bytes from `address` on touch."""
    shift = bus_bytes.bit_length() - 1
    offset = address[:shift]
    return (offset + run + (bus_bytes - 1)) >> shift


def burst_beats(m: Module, *, address: Value, beats_left: Value, max_burst: int, bus_bytes: int) -> Signal:
    """Beats of the next burst: what is left, the longest burst, or up to the page boundary.

    Args:
        address: byte address of the next beat, aligned to the bus.
        beats_left: beats that the row still needs, at least 1.
    """
    shift = bus_bytes.bit_length() - 1
    page_beats = PAGE_BYTES // bus_bytes
    to_boundary = Signal(range(page_beats + 1))
    m.d.comb += to_boundary.eq(Const(page_beats, to_boundary.shape()) - address[shift:12])
    capped = Signal(range(max_burst + 1))
    m.d.comb += capped.eq(Mux(to_boundary < max_burst, to_boundary, max_burst))
    beats = Signal(range(max_burst + 1))
    m.d.comb += beats.eq(Mux(beats_left < capped, beats_left, capped))
    return beats


def clog2_shape(count: int) -> Shape:
    """Shape of an index into `count` things (at least one bit)."""
    return unsigned(max(1, (count - 1).bit_length()))
