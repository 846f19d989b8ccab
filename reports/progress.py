"""Progress on stderr: what is going on, and how long each phase took."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Phases", "say", "show_compilation"]


def say(line: str) -> None:
    """Nothing; writes one line of progress to stderr."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()


class _Said(logging.Handler):
    """Writes what the library tells as lines of progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Nothing; writes the record's line to stderr."""
        say(record.getMessage())


def show_compilation() -> None:
    """Nothing; from now on kernels that are compiled for the first time are announced on stderr."""
    logger = logging.getLogger("bitwright.models.jit")
    if not any(isinstance(handler, _Said) for handler in logger.handlers):
        logger.addHandler(_Said())
    logger.setLevel(logging.INFO)
    logger.propagate = False


class Phases:
    """The phases of a longer job, each announced on stderr when it starts, timed when it ends."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.done: list[dict[str, Any]] = []
        """`name`, `seconds` and `note` of each finished phase."""

    @contextmanager
    def phase(self, name: str, note: str = "") -> Iterator[None]:
        """Runs its block as the phase `name`; `note` says what a reader should know of its time."""
        start = time.perf_counter()
        sys.stderr.write(f"[{start - self._started:6.1f} s] {name}\n")
        sys.stderr.flush()
        yield
        self.done.append({"name": name, "seconds": time.perf_counter() - start, "note": note})

    def elapsed(self) -> float:
        """Seconds since the first phase could have started."""
        return time.perf_counter() - self._started
