"""Memory contents as the text files that Verilog's `$readmemh` reads and `$writememh` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .toolchain import ToolError

__all__ = ["read_dump", "write_image"]


def write_image(path: Path, image: NDArray[np.uint8], base: int, bus_bytes: int) -> None:
    """Write bytes as a `$readmemh` file of bus words, little-endian, from the address `base` on."""
    if base % 4096:
        raise ValueError(f"base must be a multiple of 4096, not {base:#x}")
    padded = np.zeros(-(-len(image) // bus_bytes) * bus_bytes, dtype=np.uint8)
    padded[: len(image)] = image
    words = np.ascontiguousarray(padded.reshape(-1, bus_bytes)[:, ::-1])
    lines = words.tobytes().hex("\n", bus_bytes)
    path.write_text(f"@{base // bus_bytes:x}\n{lines}\n", encoding="ascii")


def read_dump(path: Path, bus_bytes: int) -> bytes:
    """Bytes of a `$writememh` file of consecutive bus words."""
    data = bytearray()
    for line in path.read_text(encoding="ascii").splitlines():
        text = line.partition("//")[0]
        for word in text.split():
            if not word.startswith("@"):
                data += bytes.fromhex(word)[::-1]
    if len(data) % bus_bytes:
        raise ToolError(f"{path.name} holds {len(data)} bytes, not whole words of {bus_bytes}")
    return bytes(data)
