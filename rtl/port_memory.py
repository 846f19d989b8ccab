"""A bench's memory that lies outside of it: named pipes, and a thread that answers them.

The object that answers knows the memory's timing; the bench knows only when it may go on. `rtl` brings
no such object: whoever compares with a model hands in the model's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

__all__ = ["PortMemory", "answering"]

_STOP = "stop\n"


class PortMemory(Protocol):
    """What answers a memory port; cycles are the bench's clock and never go back."""

    def read(self, cycle: int, address: int, beats: int) -> list[int]:
        """The first cycle in which each beat may come of a burst whose address was taken in `cycle`."""

    def write(self, cycle: int, address: int, beats: int) -> int:
        """The first cycle in which a burst may be answered whose last data were taken in `cycle`."""


@contextmanager
def answering(folder: Path, memories: Mapping[int, PortMemory]) -> Iterator[None]:
    """Nothing; answers the bench that runs in `folder` as long as the context lasts.

    Args:
        memories: by the number of the case.

    Raises:
        Exception: whatever a memory raised, at the end of the context; the bench has then given up.
    """
    paths = folder / "port_requests", folder / "port_answers"
    for path in paths:
        os.mkfifo(path)
    # Open for both ways, so that neither end waits for the other to be there.
    handles = [os.open(path, os.O_RDWR) for path in paths]
    faults: list[BaseException] = []

    def serve() -> None:
        with os.fdopen(os.dup(handles[0]), "r", encoding="ascii") as lines:
            for line in lines:
                if line == _STOP:
                    return
                try:
                    answer = _answer(memories, line)
                except BaseException as fault:
                    faults.append(fault)
                    answer = "failed"
                os.write(handles[1], f"{answer}\n".encode())

    thread = threading.Thread(target=serve, name="port-memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(handles[0], _STOP.encode())
        thread.join()
        for handle in handles:
            os.close(handle)
        if faults:
            raise faults[0]


def _answer(memories: Mapping[int, PortMemory], line: str) -> str:
    kind, *numbers = line.split()
    which, cycle, address, beats = map(int, numbers)
    memory = memories[which]
    if kind == "R":
        return " ".join(map(str, memory.read(cycle, address, beats)))
    return str(memory.write(cycle, address, beats))
