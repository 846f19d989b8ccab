"""Real data for training and demonstration: scikit-learn's copy of the UCI handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGITS_SCALE", "DIGITS_ZERO_POINT", "DigitsSplit", "load_digits_split"]

DIGITS_SCALE = 1.0 / 240.0
"""What a step of a stored pixel is worth, full ink being 1."""
DIGITS_ZERO_POINT = -120
"""The stored value of an empty pixel: grey v of 0..16 is stored as 15·v − 120, exactly."""

_TEST_IMAGES = 450


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DigitsSplit:
    """Digits as stored int8 pixels, split by a fixed permutation."""

    train_images: NDArray[np.int8]
    """Shape (1347, 1, 8, 8); real = DIGITS_SCALE · (stored − DIGITS_ZERO_POINT)."""
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.int8]
    """Shape (450, 1, 8, 8)."""
    test_labels: NDArray[np.int64]


def load_digits_split() -> DigitsSplit:
    """The 1,797 digits that scikit-learn ships, always in the same two parts; nothing is downloaded.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository.
    """
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    stored = (15 * grey.astype(np.int64) + DIGITS_ZERO_POINT).astype(np.int8)
    images = stored.reshape(-1, 1, 8, 8)
    order = np.argsort(_hash(len(images)), kind="stable")
    train, test = order[_TEST_IMAGES:], order[:_TEST_IMAGES]
    targets = labels.astype(np.int64)
    return DigitsSplit(
        train_images=images[train],
        train_labels=targets[train],
        test_images=images[test],
        test_labels=targets[test],
    )


def _hash(count: int) -> NDArray[np.uint32]:
    """A fixed scramble of 0..count − 1 (Wellons' lowbias32), the same in every library version."""
    x = np.arange(count, dtype=np.uint32)
    x ^= x >> 16
    x *= np.uint32(0x7FEB352D)
    x ^= x >> 15
    x *= np.uint32(0x846CA68B)
    x ^= x >> 16
    return x
