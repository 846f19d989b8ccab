"""Pruning by groups, from rows of kernels to whole filters, which then leave the network. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from .channels import ChannelMap
from .group_masks import GROUPINGS, group_norms, groups_of, spread
from .layer_shares import LayerShares
from .masks import greatest, kept_count
from .shrinking import Shrink, cut_channels
from .subject import Subject
from .trainable import WeightedLayer

__all__ = ["PruneByGroups", "check_channels"]


def check_channels(graph: Graph, layers: tuple[WeightedLayer, ...], where: str) -> None:
    """Nothing if the channels that `layers` make may be cut.

    Raises:
        ValueError: one's go into the output or through an operator that fixes them, or are added to another
            layer's that isn't among `layers`; names the layer.
    """
    channels = ChannelMap(graph)
    names = {node.inputs[1]: node.name for node in graph.nodes if node.op in ("Conv", "Gemm")}
    chosen = {layer.weight for layer in layers}
    for layer in layers:
        fixed = channels.fixed(channels.rows[layer.weight])
        if len(fixed) == len(channels.rows[layer.weight]):
            raise ValueError(
                f"{where}: layer {layer.name}: its channels can't be cut, they go into "
                f"{next(iter(fixed.values()))}: leave it out, with !{layer.name}"
            )
        others = [w for w in channels.coupled(layer.weight) if w not in chosen and w in channels.columns]
        if others:
            raise ValueError(
                f"{where}: layer {layer.name}: its channels are added to those of "
                f"{', '.join(names[w] for w in others)}: select all of them, or leave it out, with "
                f"!{layer.name}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByGroups(LayerShares):
    """Keeps the groups of the greatest weights, in rounds that each end in training.

    Filters are cut with all that reads them, unless `shrink` is false; channels likewise where their makers
    have no other reader. Round r of R keeps the share density^(r / R).

    Source: Mao et al. 2017, section 3: a group's saliency is the sum of its weights' sizes.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.groups"
    granularity: str = "kernel"
    """element, vector, kernel, filter, channel, column or block."""
    block: tuple[int, ...] = (8, 8)
    """(rows, lanes) of granularity block: the array's rows, and weights a word."""
    norm: str = "l1"
    """l1 or l2."""
    rounds: int = 1
    shrink: bool = True

    def __post_init__(self) -> None:
        if self.granularity not in GROUPINGS:
            raise ValueError(f"granularity must be one of {', '.join(GROUPINGS)}, not {self.granularity!r}")
        LayerShares.__post_init__(self)
        if len(self.block) != 2 or min(self.block) < 1:
            raise ValueError(f"block must be rows and lanes, 1 or more each, not {self.block}")
        if self.norm not in ("l1", "l2"):
            raise ValueError(f"norm must be l1 or l2, not {self.norm!r}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {self.rounds}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers that have no such groups, and filters that can't be cut."""
        LayerShares.check(self, subject)
        layers = self.selected(subject)
        for layer in layers:
            shape = tuple(subject.model.weight(layer.name).shape)
            if len(shape) == 2 and self.granularity in ("vector", "kernel"):
                raise ValueError(
                    f"{self.name}: layer {layer.name} is linear and has no {self.granularity}s: "
                    "select conv, or "
                    "take element, filter, column or block"
                )
            if layer.groups > 1 and self.granularity in ("channel", "column", "block"):
                raise ValueError(
                    f"{self.name}: layer {layer.name} has {layer.groups} groups, whose filters "
                    "read channels of "
                    "their own: take kernel or filter, or leave it out"
                )
        if self.granularity == "filter" and self.shrink:
            check_channels(subject.model.graph, layers, self.name)

    def apply(self, subject: Subject) -> None:
        """Nothing; prunes, shrinks and trains, round by round."""
        layers = self.selected(subject)
        told = self.shares(subject)
        counts = {layer.name: int(self._groups(subject, layer.name).max()) + 1 for layer in layers}
        for number in range(1, self.rounds + 1):
            subject.progress(f"{self.name}: round {number} of {self.rounds}", (number - 1) / self.rounds)
            keep = {
                name: kept_count(counts[name], share ** (number / self.rounds))
                for name, share in told.items()
            }
            if self.granularity == "filter" and self.shrink:
                cut_channels(subject, self._filters(subject, keep))
            else:
                for name, count in keep.items():
                    groups = self._groups(subject, name)
                    kept = greatest(group_norms(subject.weight(name), groups, self.norm), count)
                    subject.prune(name, spread(kept, groups), self.granularity)
                if self.granularity == "channel" and self.shrink:
                    Shrink().apply(subject)
            self.tune(subject, f"round {number} of {self.rounds}")

    def _groups(self, subject: Subject, name: str) -> NDArray[np.int64]:
        rows, lanes = self.block
        return groups_of(tuple(subject.model.weight(name).shape), self.granularity, (rows, lanes))

    def _filters(self, subject: Subject, keep: Mapping[str, int]) -> dict[str, NDArray[np.bool_]]:
        """The filters to cut by layer; layers whose channels are added together lose the same ones."""
        channels = ChannelMap(subject.model.graph)
        worth: dict[int, float] = {}
        rows: dict[str, list[int]] = {}
        fixed: dict[str, set[int]] = {}
        for name in keep:
            ids = channels.rows[subject.model.layer(name).weight]
            rows[name] = channels.roots(ids).tolist()
            fixed[name] = set(channels.fixed(ids))
            norms = group_norms(subject.weight(name), self._groups(subject, name), self.norm)
            for root, norm in zip(rows[name], norms.tolist(), strict=True):
                worth[root] = worth.get(root, 0.0) + norm
        cut: dict[str, NDArray[np.bool_]] = {}
        gone: set[int] = set()
        for name, count in keep.items():
            scores = np.array([-np.inf if root in gone else worth[root] for root in rows[name]])
            scores[sorted(fixed[name])] = np.inf
            kept = greatest(scores, max(count, len(fixed[name])))
            if any(root in gone for root in rows[name]):  # as its sums' other parts were cut
                kept = ~np.isin(rows[name], sorted(gone))
            cut[name] = ~kept
            gone.update(root for root, stays in zip(rows[name], kept, strict=True) if not stays)
        return cut
