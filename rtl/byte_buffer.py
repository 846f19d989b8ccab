"""A buffer that is read and written at any byte."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["ByteBuffer"]


class ByteBuffer(Component):
    """Byte-addressed memory, one read (latency 3) and one write port (visible after 2), each 1 a cycle.

    Even and odd words lie in two banks, so that an access at any byte touches each bank at most once.
    Addresses wrap at `size_bytes`.

    Args:
        size_bytes: capacity, a power of two, at least two words.
        word_bytes: width of a bank, a power of two.
        write_bytes, read_bytes: width of the ports, at most a word.

    Ports:
        write: `w_en`, `w_addr`, `w_data`, `w_mask` (a bit a byte).
        read: `r_addr` is taken in every cycle; `r_data` is registered.
    """

    def __init__(self, *, size_bytes: int, word_bytes: int, write_bytes: int, read_bytes: int) -> None:
        for name, value in (("write_bytes", write_bytes), ("read_bytes", read_bytes)):
            if not 1 <= value <= word_bytes:
                raise ValueError(f"{name} must be from 1 to {word_bytes}, not {value}")
        if size_bytes & (size_bytes - 1) or size_bytes < 2 * word_bytes:
            raise ValueError(f"size_bytes must be a power of two from {2 * word_bytes} on, not {size_bytes}")
        self.size_bytes = size_bytes
        self.word_bytes = word_bytes
        self.write_bytes = write_bytes
        self.read_bytes = read_bytes
        address_bits = (size_bytes - 1).bit_length()
        super().__init__(
            {
                "w_en": In(1),
                "w_addr": In(address_bits),
                "w_data": In(8 * write_bytes),
                "w_mask": In(write_bytes),
                "r_addr": In(address_bits),
                "r_data": Out(8 * read_bytes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = self.word_bytes
        shift = word.bit_length() - 1
        depth = self.size_bytes // (2 * word)
        # A byte that is written is never read in the same cycle: tokens order them (`mapper/hazards.py`). So
        # nothing has to keep the old byte for such a read; other bytes of the word are enabled by themselves.
        kept = {"init": [], "attrs": {"no_rw_check": 1}}
        m.submodules.even = even = Memory(shape=8 * word, depth=depth, **kept)
        m.submodules.odd = odd = Memory(shape=8 * word, depth=depth, **kept)

        # Write: rotate once, registered. Lanes a port's width apart take the same byte, each under its own
        # mask: whether the write covers it, and whether as a byte of the next word, in the other bank.
        offset = self.w_addr[:shift]
        turn = offset[: (self.write_bytes - 1).bit_length()]
        rotated = Signal(8 * self.write_bytes)
        mask = Signal(self.write_bytes)
        covered, beyond = Signal(word), Signal(word)
        index = Signal(len(self.w_addr) - shift)
        m.d.sync += [
            rotated.eq(_rotate_up(self.w_data, turn, 8)),
            mask.eq(_rotate_up(self.w_mask, turn, 1)),
            covered.eq(
                Cat(self.w_en & ((lane - offset)[:shift] < self.write_bytes) for lane in range(word))
                if self.write_bytes < word
                else self.w_en.replicate(word)
            ),
            beyond.eq(Cat(offset > lane for lane in range(word))),
            index.eq(self.w_addr[shift:]),
        ]
        copies = word // self.write_bytes
        for bank, here in ((even, ~index[0]), (odd, index[0])):
            port = bank.write_port(granularity=8)
            line = (index + 1)[1:] if bank is even else index[1:]
            m.d.comb += [
                port.addr.eq(line[: len(port.addr)]),
                port.data.eq(rotated.replicate(copies)),
                port.en.eq(mask.replicate(copies) & covered & (beyond ^ here.replicate(word))),
            ]

        # Read: both banks, then of each byte lane the bank that has it, then rotate. A block RAM's data come
        # late in the cycle, so that no more than the choice of a bank comes before the next register.
        read_index = self.r_addr[shift:]
        read_offset = self.r_addr[:shift] if shift else 0
        words = []
        for bank in (even, odd):
            port = bank.read_port()
            line = (read_index + 1)[1:] if bank is even else read_index[1:]
            m.d.comb += [port.addr.eq(line[: len(port.addr)]), port.en.eq(1)]
            words.append(port.data)
        in_odd = Signal(word)
        offsets = [Signal(shift or 1, name=f"offset_{stage}") for stage in (1, 2)]
        lanes = Signal(8 * word)
        m.d.sync += [
            # Lanes below the offset belong to the next word, which lies in the other bank.
            in_odd.eq(Cat(read_index[0] ^ (read_offset > lane) for lane in range(word))),
            offsets[0].eq(read_offset),
            offsets[1].eq(offsets[0]),
            self.r_data.eq(_rotate_bytes(lanes, offsets[1])),
        ]
        for lane in range(word):
            low, high = (data.word_select(lane, 8) for data in words)
            m.d.sync += lanes.word_select(lane, 8).eq(Mux(in_odd[lane], high, low))
        return m


def _rotate_bytes(word: Value, count: Signal) -> Value:
    """`word` with its byte `count` at the low end; longest ways first, so that a narrow read needs few."""
    for stage in reversed(range(len(count))):
        step = (8 << stage) % len(word)
        word = Mux(count[stage], word.rotate_right(step), word)
    return word


def _rotate_up(word: Value, count: Value, size: int) -> Value:
    """`word` with its lowest place, of `size` bits, at place `count`."""
    for stage in range(len(count)):
        word = Mux(count[stage], word.rotate_left(size << stage), word)
    return word
