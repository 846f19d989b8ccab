"""SIGTERM as an exception, so that drafts, scratch folders and tools' processes are cleared away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "terminable"]


class Terminated(BaseException):
    """The process was told to end; nothing but a clean-up should catch it."""


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # the clean-up isn't to be broken off
    raise Terminated


@contextmanager
def terminable() -> Iterator[None]:
    """Runs its block with SIGTERM raising `Terminated` in it; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
