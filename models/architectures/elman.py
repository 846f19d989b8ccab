"""Small recurrent networks, for spoken digits and for rows of pixels, unrolled over their time steps."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from .builder import Builder

__all__ = ["digits_elman", "elman"]


def elman(seed: int | None = None) -> Graph:
    """A simple recurrent network of 48 units over 20 frames of 16 features: 3,610 parameters.

    h_t = ReLU(W x_t + U h_{t−1} + b), classes from the last h, one node a time step with the same weights.
    Elman 1990, Finding Structure in Time; ReLU and U = 1 at first as in Le et al. 2015, A Simple Way to
    Initialize Recurrent Networks of Rectified Linear Units.
    """
    return _unrolled("elman", frames=20, features=16, units=48, seed=seed)


def digits_elman(seed: int | None = None) -> Graph:
    """The same with 32 units that read an 8×8 digit row by row: 1,642 parameters."""
    return _unrolled("digits_elman", frames=8, features=8, units=32, seed=seed)


def _unrolled(name: str, *, frames: int, features: int, units: int, seed: int | None) -> Graph:
    net = Builder(name, (1, frames, features), seed)
    state = net.relu(net.linear("reads", net.frame(net.input, 0), units))
    for frame in range(1, frames):
        read = net.again("reads", net.frame(net.input, frame), f"reads.{frame}")
        if frame == 1:
            kept = net.linear("state", state, units, bias=False)
            if seed is not None:
                net.set_weight("state", np.eye(units, dtype=np.float32))
        else:
            kept = net.again("state", state, f"state.{frame}")
        state = net.relu(net.add(read, kept))
    return net.graph(net.softmax(net.linear("classes", state, 10)))
