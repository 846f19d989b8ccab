"""The processing element: lanes for every kind that the machine serves, and accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from .bit_lanes import BitLanes
from .integer_lanes import IntegerLanes
from .lane_weights import multiplying_lanes

__all__ = ["PE_BITS", "ProcessingElement", "act_bits", "paired", "weight_bits"]

PE_BITS = max(PeKind).bit_length()


def act_bits(machine: Machine) -> int:
    """Bits of a PE's activation operand: the widest lane set of its kinds."""
    return 8 * max(machine.array.lane_bytes(kind) for kind in machine.array.kinds)


def weight_bits(machine: Machine) -> int:
    """Bits of a PE's weight operand: the widest lane set of its kinds."""
    array = machine.array
    return max(array.lanes(kind) * kind.weight_bits for kind in array.kinds)


def paired(machine: Machine) -> bool:
    """Whether two rows' PEs get their products from one `PairedProducts`."""
    return machine.array.multiplier == "pair" and multiplying_lanes(machine.array) > 0


class ProcessingElement(Component):
    """Dot product of a lane set into an accumulator file, latency 7, one dot product a cycle.

    Operands at t, their `acc_*` controls at t + 4; a drain at t + 7 reads the accumulator. Two accumulator
    banks: the array adds to `acc_bank` while POST reads the other. Only the lanes that the machine's kinds
    need are built: `IntegerLanes` for int8 activations, `BitLanes` for ternary and binary ones.

    To add takes four cycles: the address, the accumulator read, the sum, its write. An accumulator that comes
    again in the next two cycles is taken from the sum.

    Args:
        leaf: vendor form of the cells that it uses, see `popcount.LEAVES`.

    Ports:
        pe: PeKind, constant while values are in flight.
        act: values of the kind's activation format, lane 0 in the low bits; zero bits beyond a run.
        weight: values of the kind's weight format, lane 0 in the low bits; zero bits beyond a run, and for
            VECTOR beyond lane 0.
        products: as of `IntegerLanes`.
        valid: lanes within the run.
        acc_en, acc_fresh, acc_bank, acc_index: for the operands of four cycles ago; fresh starts at zero.
        drain_en, drain_load, drain_bank, drain_index: two cycles later an accumulator is in `chain_out`, else
            what was in `chain_in` the cycle before; nothing moves while `drain_en` is low.
    """

    CELL = "bw_pe"
    """Name of the module that `rtl/verilog.py` emits once and the array instantiates."""
    CONTROLS_AFTER = IntegerLanes.LATENCY - 1
    """Cycles from the operands to their `acc_*`."""
    DRAINED_AFTER = 3
    """Cycles from `acc_*` to the first drain that reads the accumulator."""

    def __init__(self, *, machine: Machine, leaf: str = "behavioural") -> None:
        array = machine.array
        self.machine = machine
        self.leaf = leaf
        self.lanes = max(array.lanes(kind) for kind in array.kinds)
        index = range(array.acc_depth)
        super().__init__(
            {
                "pe": In(PE_BITS),
                "act": In(act_bits(machine)),
                "weight": In(weight_bits(machine)),
                **({"products": In(16 * multiplying_lanes(array))} if paired(machine) else {}),
                "valid": In(range(self.lanes + 1)),
                "acc_en": In(1),
                "acc_fresh": In(1),
                "acc_bank": In(1),
                "acc_index": In(index),
                "drain_en": In(1),
                "drain_load": In(1),
                "drain_bank": In(1),
                "drain_index": In(index),
                "chain_in": In(signed(array.acc_bits)),
                "chain_out": Out(signed(array.acc_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        array = self.machine.array
        dot = self._dot(m)
        total = Signal(dot.shape())
        m.d.sync += total.eq(dot)

        # Of the values that are read, added and written in this cycle.
        keys = [Signal(1 + len(self.acc_index), name=f"key_{stage}") for stage in ("read", "add", "write")]
        enables = [Signal(name=f"enable_{stage}") for stage in ("read", "add", "write")]
        key = Cat(self.acc_index, self.acc_bank)
        m.d.sync += [later.eq(now) for later, now in zip(keys, [key, *keys], strict=False)]
        m.d.sync += [later.eq(now) for later, now in zip(enables, [self.acc_en, *enables], strict=False)]
        fresh, again, from_sum, from_write = (
            Signal(name=name) for name in ("fresh", "again", "from_sum", "from_write")
        )
        m.d.sync += [
            fresh.eq(self.acc_fresh),
            again.eq((key == keys[0]) & enables[0] & ~self.acc_fresh),
            from_sum.eq(again),
            from_write.eq((key == keys[1]) & enables[1]),
        ]

        held, result = (
            Signal(signed(array.acc_bits), name=name, reset_less=True) for name in ("held", "sum")
        )
        reads = []
        for number in range(2):
            bank = Memory(shape=signed(array.acc_bits), depth=array.acc_depth, init=[])
            m.submodules[f"bank_{number}"] = bank
            write = bank.write_port()
            read = bank.read_port(domain="comb")
            adding = self.acc_en & (self.acc_bank == number)
            address = Signal(len(self.acc_index), name=f"address_{number}")
            m.d.sync += address.eq(Mux(adding, self.acc_index, self.drain_index))
            m.d.comb += [
                read.addr.eq(address),
                write.addr.eq(keys[2]),
                write.en.eq(enables[2] & (keys[2][-1] == number)),
                write.data.eq(result),
            ]
            reads.append(read.data)
        of_bank = Mux(keys[0][-1], reads[1], reads[0])
        m.d.sync += [
            held.eq(Mux(fresh, 0, Mux(from_write, result, of_bank))),
            result.eq(self._sum(m, total, from_sum, result, held)),
        ]

        drain_en, drain_load, drain_bank = (
            Signal(name=name) for name in ("moving", "loading", "loaded_bank")
        )
        m.d.sync += [
            drain_en.eq(self.drain_en),
            drain_load.eq(self.drain_load),
            drain_bank.eq(self.drain_bank),
        ]
        with m.If(drain_en):
            drained = Mux(drain_bank, reads[1], reads[0])
            m.d.sync += self.chain_out.eq(Mux(drain_load, drained, self.chain_in))
        return m

    def _sum(self, m: Module, total: Value, again: Value, result: Value, held: Value) -> Value:
        """`total` added to the last sum or to the accumulator that was read: ECP5 chooses in the adder."""
        if self.leaf != "ecp5":
            return total + Mux(again, result, held)
        wide, s = Signal.like(held, name="addend"), Signal.like(held, name="added")
        m.d.comb += wide.eq(total)
        m.submodules.adder = Instance(
            "bw_accumulate",
            p_WIDTH=len(held),
            i_a=wide,
            i_again=again,
            i_b=result,
            i_c=held,
            o_s=s,
        )
        return s

    def _dot(self, m: Module) -> Value:
        """The dot product of the operands of five cycles ago."""
        array = self.machine.array
        bit_kinds = {kind: array.lanes(kind) for kind in array.kinds if kind.act_bits < 8}
        dots: list[Value] = []
        if len(bit_kinds) < len(array.kinds):
            m.submodules.integer = integer = IntegerLanes(array=array, pe_bits=PE_BITS)
            m.d.comb += [
                integer.pe.eq(self.pe),
                integer.act.eq(self.act),
                integer.weight.eq(self.weight),
            ]
            if integer.paired:
                m.d.comb += integer.products.eq(self.products)
            dots.append(integer.dot)
        if bit_kinds:
            m.submodules.bits = bits = BitLanes(lanes=bit_kinds, leaf=self.leaf)
            m.d.comb += [
                bits.binary.eq(self.pe == PeKind.BINARY),
                bits.act.eq(self.act),
                bits.weight.eq(self.weight),
                bits.valid.eq(self.valid),
            ]
            dots.append(bits.dot)
        if len(dots) == 1:
            return dots[0]
        integer_dot, bits_dot = dots
        return Mux(self.pe.matches(*(kind.value for kind in bit_kinds)), bits_dot, integer_dot)
