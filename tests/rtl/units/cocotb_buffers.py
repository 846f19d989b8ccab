"""ByteBuffer, LineBuffer and ParamBuffer against a byte array that knows the ports' latencies."""

from __future__ import annotations

import random

from unit_machines import BYTE_BUFFERS, LINE_BUFFERS, PARAM_BUFFERS
from unit_stimulus import Ports, chance, equal, unit_test

CYCLES = 2500


@unit_test(*BYTE_BUFFERS)
async def byte_buffer_reads_what_was_written(ports: Ports, rng: random.Random, unit: str) -> None:
    """Latency 3, writes visible after 2, wrap and masks, in every pace."""
    spec = BYTE_BUFFERS[unit]
    size, width, read_width = spec["size_bytes"], spec["write_bytes"], spec["read_bytes"]
    memory = bytearray(size)
    late: list[tuple[int, int]] = []  # the write that the banks take in this cycle
    fetched = aligned = result = None  # words in the stages of the read
    await ports.reset(w_en=0, w_addr=0, w_data=0, w_mask=0, r_addr=0)
    for cycle in range(CYCLES):
        filling = cycle < size
        # First every byte once, as the contents before are not defined.
        write = 1 if filling else chance(rng, 0.6)
        address = cycle if filling else rng.choice([rng.randrange(size), size - 1, size - width])
        mask = 1 if filling else rng.choice([rng.getrandbits(width), (1 << width) - 1, 1 << (width - 1)])
        data = rng.getrandbits(8 * width)
        # Often at the bytes that are just being written.
        read_address = rng.choice([rng.randrange(size), address, (address - 1) % size, size - 1])
        ports.drive(w_en=write, w_addr=address, w_data=data, w_mask=mask, r_addr=read_address)
        await ports.settle()
        if result is not None:
            equal("r_data", ports.get("r_data"), result)
        result, aligned = aligned, fetched
        if not filling:
            word = bytes(memory[(read_address + i) % size] for i in range(read_width))
            fetched = int.from_bytes(word, "little")
        for where, value in late:
            memory[where] = value
        late = [
            ((address + i) % size, data >> (8 * i) & 255) for i in range(width) if write and mask >> i & 1
        ]
        await ports.edge()


@unit_test(*LINE_BUFFERS)
async def line_buffer_reads_what_was_written(ports: Ports, rng: random.Random, unit: str) -> None:
    """Latency 1, writes visible after 1, each unit of a line on its own, and held lines."""
    spec = LINE_BUFFERS[unit]
    lines, unit_bits = spec["lines"], spec["unit_bits"]
    units = spec["line_bits"] // unit_bits
    memory = [0] * lines
    result = None
    await ports.reset(w_en=0, w_line=0, w_unit=0, w_data=0, r_en=0, r_line=0)
    for cycle in range(CYCLES // 2):
        filling = cycle < lines * units
        write = 1 if filling else chance(rng, 0.6)
        line, part = divmod(cycle, units) if filling else (rng.randrange(lines), rng.randrange(units))
        data = rng.getrandbits(unit_bits)
        read = 0 if filling else chance(rng, (0.3, 1.0, 0.9)[cycle // 64 % 3])
        read_line = rng.choice([rng.randrange(lines), line, lines - 1])
        ports.drive(w_en=write, w_line=line, w_unit=part, w_data=data, r_en=read, r_line=read_line)
        await ports.settle()
        if result is not None:
            equal("r_data", ports.get("r_data"), result)
        if read:
            result = memory[read_line]
        if write:
            kept = memory[line] & ~(((1 << unit_bits) - 1) << (part * unit_bits))
            memory[line] = kept | data << (part * unit_bits)
        await ports.edge()


@unit_test(*PARAM_BUFFERS)
async def each_lane_reads_a_line_of_its_own(ports: Ports, rng: random.Random, unit: str) -> None:
    """Latency 2, units narrower and wider than a lane's 128 bits, lanes at different lines, held lines."""
    machine = PARAM_BUFFERS[unit]
    lines, lanes, unit_bits = machine.param_lines, machine.post.lanes, machine.bus.data_bits
    units = 128 * lanes // unit_bits
    memory = [0] * lines
    fetched = result = None
    readers = [f"r_line_{lane}" for lane in range(lanes)]
    await ports.reset(w_en=0, w_line=0, w_unit=0, w_data=0, r_en=0, **dict.fromkeys(readers, 0))
    for cycle in range(CYCLES // 2):
        filling = cycle < lines * units
        line, part = divmod(cycle, units) if filling else (rng.randrange(lines), rng.randrange(units))
        write, data = 1 if filling else chance(rng, 0.5), rng.getrandbits(unit_bits)
        read = 0 if filling else chance(rng, 0.7)
        wanted = [rng.choice([rng.randrange(lines), line]) for _ in range(lanes)]
        ports.drive(w_en=write, w_line=line, w_unit=part, w_data=data, r_en=read)
        ports.drive(**dict(zip(readers, wanted, strict=True)))
        await ports.settle()
        if result is not None:
            word = ports.get("r_data")
            equal("r_data", [word >> (128 * n) & ((1 << 128) - 1) for n in range(lanes)], result)
        result = fetched
        if read:
            fetched = [memory[at] >> (128 * n) & ((1 << 128) - 1) for n, at in enumerate(wanted)]
        if write:
            kept = memory[line] & ~(((1 << unit_bits) - 1) << (part * unit_bits))
            memory[line] = kept | data << (part * unit_bits)
        await ports.edge()
