"""Spoken words as short pictures: log energies of mel bands by frame, as whole numbers.

Source of the bands: Davis and Mermelstein 1980; mel = 2595 · log10(1 + f / 700).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE_HZ", "log_mel"]

RATE_HZ = 8000
"""Of the spoken digits."""
_FRAMES, _BANDS = 20, 16
_LOW_HZ, _HIGH_HZ = 100.0, 4000.0
_DECIBELS = 60.0
"""What lies so far below a recording's loudest band is 0."""


def log_mel(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Log energies, (N, 1, 20 frames, 16 bands), 0 … 255 for 60 dB up to the recording's loudest.

    Args:
        x: samples at 8 kHz, (N, 1, samples).

    Raises:
        ValueError: too few samples for 20 frames of a power of two.
    """
    samples = x.shape[2]
    hop = samples // (_FRAMES + 1)
    if hop < 32:
        raise ValueError(f"log-mel features take at least {32 * (_FRAMES + 1)} samples, not {samples}")
    window = np.hanning(2 * hop)
    starts = hop * np.arange(_FRAMES)
    frames = x[:, 0][:, starts[:, None] + np.arange(2 * hop)].astype(np.float32) * window.astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=2)) ** 2
    energy = power @ _bands(power.shape[2]).T
    decibels = 10.0 * np.log10(energy + 1e-9)
    loudest = decibels.max(axis=(1, 2), keepdims=True)
    scaled = 255.0 * np.clip((decibels - loudest) / _DECIBELS + 1.0, 0.0, 1.0)
    return np.asarray(np.round(scaled), np.uint8)[:, None]


def _bands(bins: int) -> NDArray[np.float64]:
    """Triangles over the bins of a spectrum up to half the rate, (bands, bins), equally wide in mel."""

    def mel(hertz: float) -> float:
        return 2595.0 * float(np.log10(1.0 + hertz / 700.0))

    edges = 700.0 * (10.0 ** (np.linspace(mel(_LOW_HZ), mel(_HIGH_HZ), _BANDS + 2) / 2595.0) - 1.0)
    hertz = np.linspace(0.0, RATE_HZ / 2, bins)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0))
