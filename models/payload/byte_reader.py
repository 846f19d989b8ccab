"""Bytes of a payload handed out in order, so that a cut and a surplus are noticed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ByteReader"]


class ByteReader:
    """Reads `data` from its start. Nothing is copied."""

    def __init__(self, data: bytes | NDArray[np.uint8]) -> None:
        self._data = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        self._place = 0

    def take(self, size: int, what: str) -> NDArray[np.uint8]:
        """The next `size` bytes.

        Raises:
            ValueError: fewer are left; `what` says what they are.
        """
        left = self._data.size - self._place
        if size > left:
            raise ValueError(f"the payload is cut: {what} take {size} bytes, {left} are left")
        self._place += size
        return self._data[self._place - size : self._place]

    def number(self, size: int, what: str) -> int:
        """The next `size` bytes as a number, lowest byte first.

        Raises:
            ValueError: as `take`.
        """
        return int.from_bytes(self.take(size, what).tobytes(), "little")

    def end(self) -> None:
        """Nothing; all bytes were read.

        Raises:
            ValueError: some are left.
        """
        left = self._data.size - self._place
        if left:
            raise ValueError(f"{left} bytes follow the payload's last value")
