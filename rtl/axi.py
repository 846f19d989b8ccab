"""AXI signatures of the core: the AXI4 master port, the AXI4-Lite control port."""

from __future__ import annotations

from amaranth.hdl import Shape, unsigned
from amaranth.lib.wiring import In, Out, Signature

__all__ = [
    "ADDRESS_BITS",
    "PAGE_BYTES",
    "axi4_read",
    "axi4_write",
    "axi_lite",
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


def clog2_shape(count: int) -> Shape:
    """Shape of an index into `count` things (at least one bit)."""
    return unsigned(max(1, (count - 1).bit_length()))
