"""Numbers as people read them: bytes, energy, time, counts, with the unit that suits their size."""

from __future__ import annotations

__all__ = ["amount", "energy", "percent", "rate", "seconds", "size"]

_NARROW = "\N{NO-BREAK SPACE}"


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for limit, unit in steps:
        if abs(value) >= limit:
            return f"{value / limit:.4g}{_NARROW}{unit}"
    limit, unit = steps[-1]
    return f"{value / limit:.3g}{_NARROW}{unit}"


def size(count: float) -> str:
    """Bytes in B, KiB or MiB."""
    return _scaled(count, ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")))


def energy(picojoules: float) -> str:
    """Energy in pJ, nJ, µJ or mJ."""
    return _scaled(picojoules, ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1, "pJ")))


def seconds(value: float) -> str:
    """Time in s, ms, µs or ns."""
    return _scaled(value, ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")))


def rate(bytes_per_second: float) -> str:
    """A bandwidth in GB/s, MB/s or kB/s (powers of ten, as bandwidths are given)."""
    return _scaled(bytes_per_second, ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1, "B/s")))


def amount(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}".replace(",", _NARROW)


def percent(part: float) -> str:
    """A fraction of one as a percentage."""
    return f"{part:.1%}"
