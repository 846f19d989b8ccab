"""ARRAY: rows × cols PEs, the operands' gearbox, and the chains that results leave by."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, ResetSignal, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from .axi import clog2_shape
from .lane_weights import multiplying_lanes
from .paired_products import PairedProducts
from .pe import PE_BITS, ProcessingElement, act_bits, paired, weight_bits

__all__ = ["ProcessingArray"]


class ProcessingArray(Component):
    """All PEs in step: `array_latency` (10) cycles from an issue to its accumulators, one issue a cycle.

    An issue at t puts addresses on the buffers; activations come back at t + 3, the weight line at t + 1:
    it is registered, then its set `weight_set`; `acc_*` and `weight_set` are given at t and delayed here.
    Activation bits beyond a run are zero. VECTOR gives row r byte r of the word, unmasked, as its lane 0.

    Results leave by one chain a POST lane: a load at u brings every PE's accumulator into its chain register,
    column 0 and row group 0 at the head; each cycle without load shifts by one. Heads at u + 2. While
    `drain_en` is low, nothing moves.

    Ports:
        act_<c>: activation word of column c, at t + 3.
        weight_line: at t + 1.
        pe, tail: of GEOMETRY: the PE kind, and the valid lanes of a run's last lane set.
        last_set, weight_set, acc_en, acc_fresh, acc_bank, acc_index: of the issue, at t.
        drain_en, drain_load, drain_bank, drain_index: at u.
        heads: `post.lanes` accumulators at u + 2, lane 0 low.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        array = machine.array
        self.lanes = max(array.lanes(kind) for kind in array.kinds)
        self.sets = max(array.sets_per_word(kind) for kind in array.kinds)
        index = range(array.acc_depth)
        super().__init__(
            {
                **{f"act_{c}": In(array.act_word_bits) for c in range(array.cols)},
                "weight_line": In(machine.weight_line_bits),
                "pe": In(4),
                "tail": In(9),
                "last_set": In(1),
                "weight_set": In(clog2_shape(self.sets)),
                "acc_en": In(1),
                "acc_fresh": In(1),
                "acc_bank": In(1),
                "acc_index": In(index),
                "drain_en": In(1),
                "drain_load": In(1),
                "drain_bank": In(1),
                "drain_index": In(index),
                "heads": Out(machine.post.lanes * array.acc_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, array = self.machine, self.machine.array

        def delayed(signal: Signal, cycles: int, name: str) -> Signal:
            for number in range(cycles):
                stage = Signal(signal.shape(), name=f"{name}_{number + 1}")
                m.d.sync += stage.eq(signal)
                signal = stage
            return signal

        # The gearbox: lane sets of a weight word one after another.
        line = delayed(self.weight_line, 1, "weight_line")
        weight_set = delayed(self.weight_set, 2, "weight_set")
        weights = []
        for row in range(array.rows):
            word = line.word_select(row, array.weight_word_bits)
            held = Signal(weight_bits(machine), name=f"weight_{row}")
            with m.Switch(self.pe):
                for kind in array.kinds:
                    width = array.lanes(kind) * kind.weight_bits
                    several = array.sets_per_word(kind) > 1
                    with m.Case(kind.value):
                        m.d.sync += held.eq(word.word_select(weight_set, width) if several else word)
            weights.append(held)

        # Lanes beyond a run read as zero bits.
        to_operands = machine.timing.buffer_read_latency
        last_set = [delayed(self.last_set, n, f"last_set_{n}") for n in (1, to_operands - 1)]
        chosen = Signal(range(self.lanes + 1))
        valid = delayed(chosen, to_operands - 2, "valid")
        mask = Signal(act_bits(machine))
        lanes_of_kind, within = Signal.like(chosen), Signal.like(mask)
        m.d.comb += within.eq(self._within(m))
        with m.Switch(self.pe):
            for kind in array.kinds:
                with m.Case(kind.value):
                    m.d.sync += lanes_of_kind.eq(array.lanes(kind))
        m.d.sync += [
            # `tail` may change two cycles after a command's last issue; `within` comes two later than that.
            chosen.eq(Mux(last_set[0], self.tail, lanes_of_kind)),
            mask.eq(Mux(last_set[1], within, ~0)),
        ]
        lane_wise = Signal()
        m.d.sync += lane_wise.eq(self.pe == PeKind.VECTOR)

        def operand(col: int, row: int) -> Value:
            word: Value = getattr(self, f"act_{col}")
            masked = word[: len(mask)] & mask
            if PeKind.VECTOR not in array.kinds:
                return masked
            return Cat(Mux(lane_wise, word.word_select(row, 8), masked[:8]), masked[8:])

        to_sum = to_operands + ProcessingElement.CONTROLS_AFTER
        assert machine.timing.array_latency == to_sum + ProcessingElement.DRAINED_AFTER
        controls = {
            name: delayed(getattr(self, name), to_sum, name)
            for name in ("acc_en", "acc_fresh", "acc_bank", "acc_index")
        }
        # One PE is one module of the Verilog, instantiated: elaborating each would take minutes at 32 × 32.
        count = array.cols * array.rows
        chain = [Signal(signed(array.acc_bits), name=f"chain_{n}") for n in range(count)]
        lanes = machine.post.lanes
        for col in range(array.cols):
            products = self._paired_products(m, col, operand, weights) if paired(machine) else []
            for row in range(array.rows):
                number = col * array.rows + row
                behind = number + lanes
                m.submodules[f"pe_{col}_{row}"] = Instance(
                    ProcessingElement.CELL,
                    i_clk=ClockSignal(),
                    i_rst=ResetSignal(),
                    i_pe=self.pe[:PE_BITS],
                    i_act=operand(col, row),
                    i_weight=weights[row],
                    i_valid=valid,
                    i_drain_en=self.drain_en,
                    i_drain_load=self.drain_load,
                    i_drain_bank=self.drain_bank,
                    i_drain_index=self.drain_index,
                    i_chain_in=chain[behind] if behind < count else 0,
                    o_chain_out=chain[number],
                    **{f"i_{name}": signal for name, signal in controls.items()},
                    **({"i_products": products[row]} if products else {}),
                )
        for lane in range(lanes):
            m.d.comb += self.heads.word_select(lane, array.acc_bits).eq(chain[lane])
        return m

    def _paired_products(
        self, m: Module, col: int, operand: Callable[[int, int], Value], weights: list[Signal]
    ) -> list[Signal]:
        """The int8 products of each row of a column, two rows from one cell."""
        products = [
            Signal(16 * multiplying_lanes(self.machine.array), name=f"products_{col}_{row}")
            for row in range(self.machine.array.rows)
        ]
        for low in range(0, len(products), 2):
            high = low + 1
            m.submodules[f"products_{col}_{low}"] = Instance(
                PairedProducts.CELL,
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                i_pe=self.pe[:PE_BITS],
                i_act_low=operand(col, low),
                i_act_high=operand(col, high),
                i_weight_low=weights[low],
                i_weight_high=weights[high],
                o_products_low=products[low],
                o_products_high=products[high],
            )
        return products

    def _within(self, m: Module) -> Value:
        """Bits of the activation operand that lie within a run's last lane set, registered.

        A thermometer of the set's valid bits, in units of the narrowest activation: its high part against
        each block of 16 units, its low part against the place in a block.
        """
        array = self.machine.array
        unit = min(kind.act_bits for kind in array.kinds)
        count = act_bits(self.machine) // unit
        ends = Signal(range(count + 1))
        with m.Switch(self.pe):
            for kind in array.kinds:
                with m.Case(kind.value):
                    m.d.sync += ends.eq(self.tail << (kind.act_bits // unit - 1).bit_length())
        low, high = ends[:4], ends[4:]
        below = [low > place for place in range(min(16, count))]
        units = [(high > n // 16) | ((high == n // 16) & below[n % 16]) for n in range(count)]
        within = Signal(act_bits(self.machine))
        m.d.sync += within.eq(Cat(bit.replicate(unit) for bit in units))
        return within
