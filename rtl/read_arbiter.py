"""READ ARBITER: command fetch and LOAD share the AXI4 read channels."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from .axi import ADDRESS_BITS, axi4_read

__all__ = ["ReadArbiter"]

FETCH_ID = 0
LOAD_ID = 1


class ReadArbiter(Component):
    """One AR register, fetch before LOAD; granted at t, `arvalid` from t + 1; one request a cycle.

    R beats go to fetch (ID 0, always taken) or to LOAD (ID 1, when `load_ready`).

    Args:
        data_bits: width of the bus.

    Ports:
        fetch_*, load_*: request, address (bytes, aligned), beats, grant; then valid and last of beats.
    """

    def __init__(self, *, data_bits: int) -> None:
        self.data_bits = data_bits
        super().__init__(
            {
                "axi": Out(axi4_read(data_bits)),
                **{
                    f"{source}_{name}": flow
                    for source in ("fetch", "load")
                    for name, flow in (
                        ("request", In(1)),
                        ("address", In(ADDRESS_BITS)),
                        ("beats", In(9)),
                        ("grant", Out(1)),
                        ("valid", Out(1)),
                    )
                },
                "load_ready": In(1),
                "load_last": Out(1),
                "data": Out(data_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        free = Signal()
        m.d.comb += [
            free.eq(~axi.arvalid | axi.arready),
            self.fetch_grant.eq(free & self.fetch_request),
            self.load_grant.eq(free & self.load_request & ~self.fetch_request),
            axi.arsize.eq((self.data_bits // 8).bit_length() - 1),
            axi.arburst.eq(1),  # INCR
        ]
        with m.If(free):
            m.d.sync += [
                axi.arvalid.eq(self.fetch_request | self.load_request),
                axi.arid.eq(Mux(self.fetch_request, FETCH_ID, LOAD_ID)),
                axi.araddr.eq(Mux(self.fetch_request, self.fetch_address, self.load_address)),
                axi.arlen.eq(Mux(self.fetch_request, self.fetch_beats, self.load_beats) - 1),
            ]
        for_fetch = axi.rid == FETCH_ID
        m.d.comb += [
            axi.rready.eq(for_fetch | self.load_ready),
            self.fetch_valid.eq(axi.rvalid & for_fetch),
            self.load_valid.eq(axi.rvalid & ~for_fetch),
            self.load_last.eq(axi.rlast),
            self.data.eq(axi.rdata),
        ]
        return m
