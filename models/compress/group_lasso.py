"""Training that empties whole groups of weights: group Lasso over structures, group-wise brain damage.

Sources: Wen et al. 2016, Learning Structured Sparsity in Deep Neural Networks, eq. 3–4 (filters, channels,
shapes, depth); Lebedev and Lempitsky 2016, Fast ConvNets Using Group-wise Brain Damage, section 3 (ℓ2,1 norm
and gradual threshold). Imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .group_masks import group_norms, groups_of, spread
from .layer_shares import LayerShares
from .masks import greatest, kept_count
from .passes import Pass, select_layers
from .subject import Subject
from .training import Hooks, TrainingOptions, rate_factor

__all__ = ["GroupDamage", "GroupLasso", "l21_norm", "shrink_groups"]

_STRUCTURES = {"filter": "filter", "channel": "channel", "shape": "column", "depth": "layer"}


def shrink_groups(parts: Sequence[tuple[Tensor, Tensor]], threshold: Tensor) -> None:
    """Nothing; brings each group's norm down by its threshold, to 0 at most: group Lasso's proximal step.

    Args:
        parts: tensors, changed in place, each with the group of its numbers, flattened; a group may have
            numbers in several.
        threshold: by group.
    """
    squares = torch.zeros_like(threshold)
    for tensor, groups in parts:
        squares.index_add_(0, groups, tensor.detach().flatten() ** 2)
    sizes = squares.sqrt()
    factor = torch.where(sizes > threshold, 1.0 - threshold / sizes.clamp_min(1e-30), torch.zeros_like(sizes))
    with torch.no_grad():
        for tensor, groups in parts:
            tensor.mul_(factor[groups].reshape(tensor.shape))


def l21_norm(weight: Tensor, groups: Tensor, count: int) -> Tensor:
    """Σ over groups of the norm, with a gradient that is 0 at 0."""
    squares = torch.zeros(count, dtype=weight.dtype).index_add(0, groups, weight.flatten() ** 2)
    # the root's slope at 0 is infinite, the norm's is not
    return torch.where(squares > 0, squares.clamp_min(1e-24).sqrt(), torch.zeros_like(squares)).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLasso(Pass):
    """Trains with strength · Σ √size · |group| in the loss, by proximal steps; what has become 0 stays 0.

    A proximal step takes rate · strength · √size from each group's norm after each step of the optimiser.
    With sgd that is group Lasso; adam, which scales gradients, makes groups alike and empties all or none.

    Raises:
        ValueError: a number out of its range, or an unknown structure.
    """

    name: ClassVar[str] = "train.group-lasso"
    structures: Mapping[str, str] = field(default_factory=lambda: {"conv": "filter"})
    """By selector: filter (with its gain in a norm after it), channel, shape (a column), or depth (a whole
    layer with its bias and the norm after it)."""
    strength: float = 0.1

    def __post_init__(self) -> None:
        if self.layers != ("all",):
            raise ValueError("layers must be left out: structures names the layers")
        for key, value in self.structures.items():
            if value not in _STRUCTURES:
                raise ValueError(f"structures.{key} must be one of {', '.join(_STRUCTURES)}, not {value!r}")
        if not self.structures:
            raise ValueError(
                'structures must name some layers\' groups, as in structures = { conv = "filter" }'
            )
        if not math.isfinite(self.strength) or self.strength <= 0:
            raise ValueError(f"strength must be finite and above 0, not {self.strength}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses selectors without layers, groups that a layer doesn't have, and no training."""
        self._told(subject)
        if not (self.training or subject.training).epochs:
            raise ValueError(f"{self.name}: it works while the network trains: give training.epochs above 0")

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, and masks the groups that are 0.

        Raises:
            ValueError: every group of a layer is 0, but for depth.
        """
        options = self.training or subject.training
        told = self._told(subject)
        layers = [_parts(subject, name, structure) for name, structure in told.items()]
        thresholds = []
        for parts in layers:
            size = torch.bincount(torch.cat([groups for _, groups in parts])).float().sqrt()
            thresholds.append(options.rate * self.strength * size)
        steps = _steps(subject, options)

        def step(number: int) -> None:
            factor = rate_factor(options, number, steps)
            for parts, threshold in zip(layers, thresholds, strict=True):
                shrink_groups(parts, factor * threshold)

        subject.train(options, Hooks(after_step=step), self.name)
        emptied: dict[str, list[int]] = {}
        for name, structure in told.items():
            weights = subject.weight(name)
            granularity = _STRUCTURES[structure]
            if structure == "depth":
                kept = np.full(weights.shape, bool(weights.any()))
                emptied[name] = [int(not weights.any()), 1]
            else:
                groups = _groups(weights.shape, structure)
                alive = group_norms(weights, groups) > 0
                if not alive.any():
                    raise ValueError(
                        f"{self.name}: layer {name}: every {structure} is 0: lower strength, "
                        f"{self.strength:g}"
                    )
                kept = spread(alive, groups)
                emptied[name] = [int((~alive).sum()), len(alive)]
            subject.prune(name, kept, "element" if structure == "depth" else granularity)
        subject.notes["group-lasso.emptied"] = emptied

    def _told(self, subject: Subject) -> dict[str, str]:
        told: dict[str, str] = {}
        for selector, structure in self.structures.items():
            for layer in select_layers(subject.model, (selector,), f"{self.name}.structures"):
                if layer.groups > 1 and structure in ("channel", "shape"):
                    raise ValueError(
                        f"{self.name}: layer {layer.name} has groups and so no {structure}s of its own"
                    )
                told[layer.name] = structure
        return told


def _steps(subject: Subject, options: TrainingOptions) -> int:
    return math.ceil(options.epochs * len(subject.data.train_x) / options.batch)


def _groups(shape: tuple[int, ...], structure: str) -> NDArray[np.int64]:
    return groups_of(shape, _STRUCTURES[structure])


def _parts(subject: Subject, name: str, structure: str) -> list[tuple[Tensor, Tensor]]:
    """What a layer's groups are made of, with the group of each number.

    A norm after the layer undoes any scale of a filter, so its gain belongs to the filter's group: otherwise
    filters would shrink without the loss noticing. With depth all belongs to it that would put out something
    where the weights are 0.
    """
    model = subject.model
    weight = model.weight(name)
    shape = tuple(weight.shape)
    whole = structure == "depth"
    table = np.zeros(shape, np.int64) if whole else _groups(shape, structure)
    parts: list[tuple[Tensor, Tensor]] = [(weight, torch.from_numpy(table.ravel()))]
    vectors: list[nn.Parameter] = []
    bias = model.bias(name)
    if whole and bias is not None:
        vectors.append(bias)
    for node in model.graph.consumers(model.layer(name).value):
        if node.op == "BatchNormalization" and structure in ("filter", "depth"):
            vectors += [model.parameter(constant) for constant in node.inputs[1 : 3 if whole else 2]]
    for vector in vectors:
        groups = torch.zeros(len(vector), dtype=torch.long) if whole else torch.arange(len(vector))
        parts.append((vector, groups))
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDamage(LayerShares):
    """Trains with strength · Σ |group| in the loss while a threshold rises until a share of groups is left.

    Groups are the columns of the im2col matrix: a position in an input channel over all filters. In the first
    part of the training, 1 − `settle`, those below the threshold are cut, never to come back.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "train.group-damage"
    layers: tuple[str, ...] = ("conv",)
    strength: float = 1e-3
    cuts: int = 10
    """How often the threshold rises."""
    settle: float = 0.3
    """Part of the training after the last cut."""

    def __post_init__(self) -> None:
        LayerShares.__post_init__(self)
        if not math.isfinite(self.strength) or self.strength < 0:
            raise ValueError(f"strength must be finite, 0 or more, not {self.strength}")
        if self.cuts < 1:
            raise ValueError(f"cuts must be at least 1, not {self.cuts}")
        if not 0.0 <= self.settle < 1.0:
            raise ValueError(f"settle must be from 0 to below 1, not {self.settle}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses grouped convolutions, and trainings of too few steps."""
        LayerShares.check(self, subject)
        for layer in self.selected(subject):
            if layer.groups > 1:
                raise ValueError(
                    f"{self.name}: layer {layer.name} has {layer.groups} groups: leave it out, "
                    f"with !{layer.name}"
                )
        steps = _steps(subject, self.training or subject.training)
        if steps < 2 * self.cuts:
            raise ValueError(
                f"{self.name}: {steps} steps of training are too few for {self.cuts} cuts: raise "
                "training.epochs, or lower cuts"
            )

    def apply(self, subject: Subject) -> None:
        """Nothing; trains and cuts."""
        told = self.shares(subject)
        tables = {name: groups_of(tuple(subject.model.weight(name).shape), "column") for name in told}
        flat = {name: torch.from_numpy(table.ravel()) for name, table in tables.items()}
        counts = {name: int(table.max()) + 1 for name, table in tables.items()}
        steps = _steps(subject, self.training or subject.training)
        interval = max(1, int(steps * (1.0 - self.settle)) // self.cuts)

        def penalty() -> Tensor:
            norms = [
                l21_norm(subject.model.effective_weight(name), flat[name], counts[name]) for name in told
            ]
            return self.strength * torch.stack(norms).sum()

        def cut(step: int) -> None:
            if step % interval or not 0 < step <= interval * self.cuts:
                return
            part = step / (interval * self.cuts)
            for name, share in told.items():
                keep = kept_count(counts[name], 1.0 - part * (1.0 - share))
                kept = greatest(group_norms(subject.weight(name), tables[name], "l2"), keep)
                subject.prune(name, spread(kept, tables[name]), "column")

        subject.train(self.training, Hooks(penalty=penalty, before_step=cut), self.name)
        for name in told:  # the optimiser's momentum may have moved what was cut on the way
            subject.set_weight(name, subject.weight(name))
