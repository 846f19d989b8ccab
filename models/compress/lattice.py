"""Kernels on strided lattices: each input channel keeps every s-th position, from an offset of its own.

All filters share a channel's lattice, so the im2col matrix loses whole columns and addresses are a stride and
an offset. Offsets are chosen by particles: sets of offsets that are drawn again by how well the network does
with them, and moved a little.

Source: Anwar, Hwang and Sung 2015, Structured Pruning of Deep Convolutional Neural Networks, sections 2.3
(intra-kernel strided sparsity) and 4 (particle filter).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .layer_samples import check_images, sample
from .passes import Pass
from .subject import Masked, Subject

__all__ = ["PruneToLattice", "lattice_mask", "select_by_particles"]


def lattice_mask(offsets: NDArray[np.int64], window: tuple[int, int], stride: int) -> NDArray[np.bool_]:
    """The positions that each input channel keeps, (C, FY, FX).

    Args:
        offsets: of each channel, row offset · stride + column offset, 0 … stride² − 1, (C,).
        window: (FY, FX).
        stride: of the lattice, in both directions.
    """
    y, x = np.indices(window)
    place = (y % stride) * stride + x % stride
    found: NDArray[np.bool_] = place[None] == offsets[:, None, None]
    return found


def select_by_particles(
    loss: Callable[[NDArray[np.int64]], float],
    length: int,
    choices: int,
    rng: np.random.Generator,
    *,
    start: NDArray[np.int64] | None = None,
    particles: int = 12,
    rounds: int = 5,
    mutation: float = 0.15,
) -> tuple[NDArray[np.int64], float]:
    """The best state that was seen, (length,) of 0 … choices − 1, and its loss.

    In each round particles are drawn again with weights exp(−loss / spread of the losses), and each number of
    a particle is drawn anew with probability `mutation`; the best one so far is always among them.

    Args:
        loss: of a state.
        length: numbers in a state.
        choices: values of each.
        rng: of the draws.
        start: a first state among random ones.
        particles: states at a time.
        rounds: how often they are drawn again; losses in all: particles · (rounds + 1).
        mutation: see above.
    """
    states = rng.integers(0, choices, (particles, length))
    if start is not None:
        states[0] = start
    losses = np.array([loss(state) for state in states])
    for _ in range(rounds):
        best = states[int(losses.argmin())].copy()
        spread = float(losses.std()) or 1.0
        weights = np.exp(-(losses - losses.min()) / spread)
        drawn = states[rng.choice(particles, particles, p=weights / weights.sum())]
        anew = rng.random(drawn.shape) < mutation
        drawn[anew] = rng.integers(0, choices, int(anew.sum()))
        drawn[0] = best
        states, losses = drawn, np.array([loss(state) for state in drawn])
    at = int(losses.argmin())
    return states[at], float(losses[at])


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneToLattice(Pass):
    """Leaves kernels on lattices of a stride, one offset an input channel, layer by layer; trains after each.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.lattice"
    layers: tuple[str, ...] = ("conv",)
    stride: int = 2
    particles: int = 12
    rounds: int = 4
    images: int = 200
    """Training images whose loss the particles are weighed by."""

    def __post_init__(self) -> None:
        if self.stride < 2:
            raise ValueError(f"stride must be at least 2, not {self.stride}")
        if self.particles < 2 or self.rounds < 0:
            raise ValueError(
                f"particles must be at least 2 and rounds 0 or more, not {self.particles} and {self.rounds}"
            )

    def check(self, subject: Subject) -> None:
        """Nothing; refuses linear and grouped layers, and windows smaller than the stride."""
        check_images(subject, self.images, self.name)
        for layer in self.selected(subject):
            shape = tuple(subject.model.weight(layer.name).shape)
            if layer.op != "Conv" or layer.groups > 1 or min(shape[2:]) < self.stride:
                raise ValueError(
                    f"{self.name}: layer {layer.name} must be a convolution without groups whose "
                    "window is at "
                    f"least {self.stride}×{self.stride}, as the stride: leave it out, with !{layer.name}"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; chooses lattices, prunes and trains."""
        layers = self.selected(subject)
        x, y = sample(subject, self.images)
        offsets: dict[str, list[int]] = {}
        for number, layer in enumerate(layers):
            subject.progress(f"{self.name}: {layer.name}", number / len(layers))
            weights = subject.weight(layer.name)
            window = (weights.shape[2], weights.shape[3])
            before = subject.masks.get(layer.name)
            shape = weights.shape

            def mask(state: NDArray[np.int64], shape: tuple[int, ...] = shape) -> NDArray[np.bool_]:
                one = lattice_mask(state, (shape[2], shape[3]), self.stride)
                return np.ascontiguousarray(np.broadcast_to(one[None], shape))

            def loss(state: NDArray[np.int64], name: str = layer.name) -> float:
                subject.model.set_transform(name, Masked(mask(state)))
                with torch.no_grad():
                    return float(functional.cross_entropy(subject.model(x).flatten(1), y))

            sizes = np.stack(
                [
                    (np.abs(weights) * lattice_mask(np.full(shape[1], o), window, self.stride)).sum((0, 2, 3))
                    for o in range(self.stride**2)
                ]
            )
            subject.model.eval()
            state, _ = select_by_particles(
                loss,
                shape[1],
                self.stride**2,
                np.random.default_rng([subject.seed, 22, number]),
                start=sizes.argmax(axis=0),
                particles=self.particles,
                rounds=self.rounds,
            )
            subject.model.set_transform(layer.name, None if before is None else Masked(before.kept))
            subject.prune(layer.name, mask(state), "column")
            offsets[layer.name] = state.tolist()
            self.tune(subject, layer.name)
        subject.notes["lattice.offsets"] = offsets
