"""CONTROL: the AXI4-Lite registers through which a host starts and watches the core."""

from __future__ import annotations

import enum

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

from .axi import ADDRESS_BITS, PAGE_BYTES, axi_lite

__all__ = ["Control", "Register"]


class Register(enum.IntEnum):
    """Byte addresses of the 32-bit registers."""

    CONTROL = 0x00
    """Write bit 0: start (ignored while busy)."""
    STATUS = 0x04
    """Bit 0 busy, bit 1 done, bit 2 error; bits 31…8 the number of the bad command."""
    BASE = 0x08
    """Address of the program; the low 12 bits read as zero."""
    LENGTH = 0x0C
    """Commands in the program."""
    CYCLES_LO = 0x10
    CYCLES_HI = 0x14
    IDENTITY = 0x18
    """First 32 bits of the machine's digest."""


class Control(Component):
    """Registers; a start write that handshakes in cycle 0 raises `start` in cycle 1, for one cycle.

    The cycle counter holds t in cycle t; CYCLES takes it at each B handshake (`write_response`), so after
    the run it is the cycle of the last one.

    Args:
        identity: value of the IDENTITY register.
    """

    def __init__(self, *, identity: int) -> None:
        self.identity = identity
        super().__init__(
            {
                "bus": In(axi_lite()),
                "start": Out(1),
                "base": Out(ADDRESS_BITS),
                "length": Out(24),
                "idle": In(1),
                "error": In(1),
                "error_command": In(24),
                "write_response": In(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        busy = Signal()
        # Both begin with a start, so they need no reset of their own.
        count, cycles = (Signal(48, name=name, reset_less=True) for name in ("count", "cycles"))

        starting = Signal()
        with m.If(busy):
            m.d.sync += count.eq(count + 1)
            with m.If(self.write_response):
                m.d.sync += cycles.eq(count)
            with m.If(self.idle & ~self.start):
                m.d.sync += [busy.eq(0), self.done.eq(1)]
        # Above all else, so that synthesis takes it for a reset of the counters.
        m.d.sync += self.start.eq(starting)
        with m.If(starting):
            m.d.sync += [busy.eq(1), self.done.eq(0), count.eq(1), cycles.eq(0)]

        # Writes: address and data are taken together.
        take = Signal()
        m.d.comb += [
            take.eq(bus.awvalid & bus.wvalid & ~bus.bvalid),
            bus.awready.eq(take),
            bus.wready.eq(take),
            bus.bresp.eq(0),
        ]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(take):
            m.d.sync += bus.bvalid.eq(1)
            with m.Switch(bus.awaddr[2:]):
                with m.Case(Register.CONTROL >> 2):
                    m.d.comb += starting.eq(bus.wdata[0] & ~busy)
                with m.Case(Register.BASE >> 2):
                    page = PAGE_BYTES.bit_length() - 1
                    m.d.sync += self.base.eq(bus.wdata[page:] << page)
                with m.Case(Register.LENGTH >> 2):
                    m.d.sync += self.length.eq(bus.wdata)

        m.d.comb += [bus.arready.eq(~bus.rvalid), bus.rresp.eq(0)]
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += bus.rvalid.eq(1)
            with m.Switch(bus.araddr[2:]):
                with m.Case(Register.STATUS >> 2):
                    m.d.sync += bus.rdata.eq(
                        busy | (self.done << 1) | (self.error << 2) | (self.error_command << 8)
                    )
                with m.Case(Register.BASE >> 2):
                    m.d.sync += bus.rdata.eq(self.base)
                with m.Case(Register.LENGTH >> 2):
                    m.d.sync += bus.rdata.eq(self.length)
                with m.Case(Register.CYCLES_LO >> 2):
                    m.d.sync += bus.rdata.eq(cycles[:32])
                with m.Case(Register.CYCLES_HI >> 2):
                    m.d.sync += bus.rdata.eq(cycles[32:])
                with m.Case(Register.IDENTITY >> 2):
                    m.d.sync += bus.rdata.eq(self.identity)
                with m.Default():
                    m.d.sync += bus.rdata.eq(0)
        return m
