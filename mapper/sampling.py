"""Random machines for agreement runs: small, odd and always valid."""

from __future__ import annotations

import random

from .machine import ArraySpec, BufferSpec, BusSpec, Machine, PostSpec, QueueSpec

__all__ = ["random_machine"]


def random_machine(seed: int, pes: tuple[str, ...] = ("int8",)) -> Machine:
    """A valid machine that depends on the arguments alone: rows 1…16, cols 1…4, buffers from 512 bytes on.

    Args:
        seed: of everything that is drawn.
        pes: the PE kinds that its array serves, see `ArraySpec.pes`.
    """
    rng = random.Random(seed)
    while True:
        try:
            return _draw(rng, seed, pes)
        except ValueError:  # widths that don't go together: draw again
            continue


def _draw(rng: random.Random, seed: int, pes: tuple[str, ...]) -> Machine:
    rows = rng.choice((1, 2, 4, 8, 16))
    return Machine(
        name=f"random-{seed}",
        array=ArraySpec(
            rows=rows,
            cols=rng.choice((1, 2, 4)),
            act_word_bits=rng.choice((32, 64, 128, 256)),
            weight_word_bits=rng.choice((16, 32, 64, 128)),
            acc_depth=rng.choice((16, 32)),
            acc_bits=rng.choice((30, 32)),
            pes=pes,
        ),
        buffers=BufferSpec(
            activation_bytes=1 << rng.randint(9, 14),
            weight_bytes=1 << rng.randint(9, 15),
            output_bytes=1 << rng.randint(9, 14),
            # Thresholds take up to 85 lines of parameters where a requantiser takes one.
            param_channels=rng.choice((32, 256, 1024, 4096)),
            step_entries=random.Random(f"steps {seed}").choice((0, 64, 256, 1024)),
        ),
        post=PostSpec(lanes=rng.choice([n for n in (1, 2, 4, 8, 16) if n <= rows])),
        bus=BusSpec(
            data_bits=rng.choice((32, 64, 128)),
            max_burst=rng.choice((1, 2, 4, 16, 64)),
            read_outstanding=rng.randint(1, 6),
            write_outstanding=rng.randint(1, 6),
        ),
        queues=QueueSpec(
            commands=rng.randint(1, 8),
            fetch_commands=rng.choice((4, 8, 16)),
            fetch_burst=rng.choice((1, 2, 4)),
            row_descriptors=rng.randint(1, 8),
        ),
    )
