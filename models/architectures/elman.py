"""A small recurrent network for spoken digits, unrolled over its time steps."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from .builder import Builder

__all__ = ["elman"]

_FRAMES, _FEATURES = 20, 16


def elman(seed: int | None = None) -> Graph:
    """A simple recurrent network of 48 units over 20 frames of 16 features: 3,610 parameters.

    h_t = ReLU(W x_t + U h_{t−1} + b), classes from the last h, one node a time step with the same weights.
    Elman 1990, Finding Structure in Time; ReLU and U = 1 at first as in Le et al. 2015, A Simple Way to
    Initialize Recurrent Networks of Rectified Linear Units.
    """
    units = 48
    net = Builder("elman", (1, _FRAMES, _FEATURES), seed)
    state = net.relu(net.linear("reads", net.frame(net.input, 0), units))
    for frame in range(1, _FRAMES):
        read = net.again("reads", net.frame(net.input, frame), f"reads.{frame}")
        if frame == 1:
            kept = net.linear("state", state, units, bias=False)
            if seed is not None:
                net.set_weight("state", np.eye(units, dtype=np.float32))
        else:
            kept = net.again("state", state, f"state.{frame}")
        state = net.relu(net.add(read, kept))
    return net.graph(net.softmax(net.linear("classes", state, 10)))
