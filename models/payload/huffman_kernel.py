"""The kernel that decodes a canonical Huffman code bit by bit, with a table of all next bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..jit import njit

__all__ = ["decode_symbols"]


@njit
def decode_symbols(data: Any, bits: int, symbols: Any, lengths: Any, longest: int, out: Any) -> Any:
    """Bits read once `out` is full, or −1 − i where symbol i is cut or its bits are no code.

    Args:
        data: uint8, with at least 3 bytes after the last of the `bits` bits.
        symbols, lengths: int64, shape (2^longest,): by the next bits, first in the lowest, the symbol that
            they begin with and its length, 0 where they begin with none.
        out: uint16, shape (count,), written.
    """
    place = np.int64(0)
    mask = (np.int64(1) << longest) - 1
    for i in range(out.size):
        byte = place >> 3
        word = np.int64(data[byte]) | (np.int64(data[byte + 1]) << 8) | (np.int64(data[byte + 2]) << 16)
        ahead = (word >> (place & 7)) & mask
        length = lengths[ahead]
        if length == 0 or place + length > bits:
            return -1 - i
        out[i] = symbols[ahead]
        place += length
    return place
