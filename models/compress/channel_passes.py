"""Channels cut by what the next layer makes of them: ThiNet, LASSO, reduce and reuse. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .channel_selection import (
    combinations,
    greedy_channels,
    lasso_channels,
    least_squares_scales,
    refitted_weights,
)
from .layer_samples import captured_values, check_images, sample, sampled_rows
from .layer_shares import LayerShares
from .masks import greatest, kept_count
from .readers import Reader, reader_of
from .shrinking import cut_channels
from .subject import Subject

__all__ = ["ChannelPruning", "PruneByLasso", "PruneByReuse", "PruneByThinet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPruning(LayerShares):
    """Cuts output channels of layers, one layer after the other, and mends what reads them from samples.

    Samples are of the network as it is when the layer's turn comes. The network trains after each layer, if
    `training` has epochs.

    Raises:
        ValueError: a number out of its range.
    """

    images: int = 300
    pixels: int = 10
    """Output pixels of the next layer that are looked at in each image."""

    def __post_init__(self) -> None:
        LayerShares.__post_init__(self)
        if self.pixels < 1:
            raise ValueError(f"pixels must be at least 1, not {self.pixels}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers that have not just one reader, and too few images."""
        LayerShares.check(self, subject)
        check_images(subject, self.images, self.name)
        for layer in self.selected(subject):
            reader_of(subject.model, layer, self.name)

    def apply(self, subject: Subject) -> None:
        """Nothing; cuts, mends and trains."""
        for layer, share in self.in_turn(subject):
            reader = reader_of(subject.model, layer, self.name)
            count = len(subject.weight(layer.name))
            weights = subject.weight(reader.layer.name)
            matrix = reader.by_channel(weights.reshape(len(weights), -1).astype(np.float64), count)
            mended, kept = self.choose(subject, reader, matrix, kept_count(count, share))
            subject.set_weight(reader.layer.name, reader.from_channels(mended).reshape(weights.shape))
            cut_channels(subject, {layer.name: ~kept})
            self.tune(subject, layer.name)

    def choose(
        self, subject: Subject, reader: Reader, weights: NDArray[np.float64], keep: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The reader's weights anew, (K, C, positions) as they come, and the channels that stay, (C,)."""
        raise NotImplementedError

    def reads(self, subject: Subject, reader: Reader, channels: int) -> NDArray[np.float64]:
        """What the reader reads, (samples, C, positions)."""
        x, _ = sample(subject, self.images)
        value = captured_values(subject, [reader.node.inputs[0]], x)[reader.node.inputs[0]]
        shape = tuple(subject.model.weight(reader.layer.name).shape)
        rows, _ = sampled_rows(
            reader.node, shape, value, self.pixels, np.random.default_rng([subject.seed, 27])
        )
        return np.asarray(reader.by_channel(rows, channels), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByThinet(ChannelPruning):
    """ThiNet: greedily cuts channels that together add least to the next layer's sums, and scales the rest.

    Source: Luo, Wu and Lin 2017, ThiNet: A Filter Level Pruning Method, section 3.2.
    """

    name: ClassVar[str] = "prune.thinet"

    def choose(
        self, subject: Subject, reader: Reader, weights: NDArray[np.float64], keep: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `ChannelPruning.choose`: a sample is one output of the reader at one pixel, both at random."""
        reads = self.reads(subject, reader, weights.shape[1])
        outputs = np.random.default_rng([subject.seed, 28]).integers(0, len(weights), len(reads))
        parts = np.einsum("scp,scp->sc", reads, weights[outputs])
        kept = greedy_channels(parts, keep)
        mended = weights.copy()
        mended[:, kept] *= least_squares_scales(parts, kept)[None, :, None]
        return mended, kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByLasso(ChannelPruning):
    """Cuts the channels whose LASSO weight becomes 0, and fits the next layer's weights anew.

    Source: He, Zhang and Sun 2017, Channel Pruning for Accelerating Very Deep Neural Networks, section 3.1;
    the two steps follow one another once, as there.
    """

    name: ClassVar[str] = "prune.lasso"

    def choose(
        self, subject: Subject, reader: Reader, weights: NDArray[np.float64], keep: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `ChannelPruning.choose`."""
        reads = self.reads(subject, reader, weights.shape[1])
        kept = lasso_channels(reads, weights, keep)
        return refitted_weights(reads, weights, kept), kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByReuse(ChannelPruning):
    """Reduce and reuse: cuts the channels that vary least between images, and remakes them from the others.

    A channel that goes is a linear combination of those that stay, which the next layer's weights take in, so
    that no layer is added.

    Source: Polyak and Wolf 2015, Channel-level Acceleration of Deep Face Representations, section 3.2.
    """

    name: ClassVar[str] = "prune.reuse"

    def choose(
        self, subject: Subject, reader: Reader, weights: NDArray[np.float64], keep: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `ChannelPruning.choose`."""
        reads = self.reads(subject, reader, weights.shape[1])
        per_image = reads.reshape(self.images, -1, *reads.shape[1:])
        norms = np.sqrt((per_image**2).sum(axis=(1, 3)))
        kept = greatest(norms.var(axis=0), keep)
        maps = np.moveaxis(reads, 1, 2).reshape(-1, reads.shape[1])
        mixed = np.zeros(weights.shape)
        mixed[:, kept] = np.einsum("kcp,cj->kjp", weights, combinations(maps, kept))
        return mixed, kept
