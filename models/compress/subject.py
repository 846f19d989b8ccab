"""What passes work on: the network in training, and what has become of each layer so far. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..graph import Graph
from .datasets import Dataset
from .trainable import TrainableGraph
from .training import Hooks, TrainingOptions, accuracy, fit
from .weight_codes import WeightCode

__all__ = ["Encoding", "Mask", "Masked", "Subject"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """Which weights of a layer are kept.

    Raises:
        ValueError: not boolean.
    """

    kept: NDArray[np.bool_]
    """Shape of the weights; what isn't kept is 0."""
    granularity: str = "element"
    """Of what is kept or cut at once: element, vector, kernel, channel, filter, column, block."""

    def __post_init__(self) -> None:
        if self.kept.dtype != np.bool_:
            raise ValueError(f"a mask is boolean, not {self.kept.dtype}")

    @property
    def density(self) -> float:
        """The share of weights that are kept."""
        return float(self.kept.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a layer's codes are to lie in memory."""

    name: str
    """Of `models.payload.encoding`."""
    streams: int = 1


class Masked(nn.Module):
    """Weights times a mask, so that cut ones stay 0 and get no gradient."""

    kept: Tensor

    def __init__(self, kept: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.from_numpy(kept.astype(np.float32)))

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weights."""
        return weight * self.kept


def _silent(text: str, done: float) -> None:
    pass


@dataclass(slots=True, kw_only=True)
class Subject:
    """A network under compression: passes read it and change it.

    A layer's parameter holds, between passes, exactly the weights that the layer computes with. A layer with
    a mask trains with the cut weights held at 0, unless a pass sets another transform.
    """

    model: TrainableGraph
    data: Dataset
    training: TrainingOptions = field(default_factory=TrainingOptions)
    """The recipe's; what a pass's own options leave open."""
    seed: int = 0
    masks: dict[str, Mask] = field(default_factory=dict)
    """By layer."""
    codes: dict[str, WeightCode] = field(default_factory=dict)
    encodings: dict[str, Encoding] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """What passes found out, for the record: plain values."""
    progress: Callable[[str, float], None] = _silent
    """Called with what is being done and the part of it that is done, 0…1."""

    @classmethod
    def of(cls, graph: Graph, data: Dataset, **options: Any) -> Subject:
        """A subject that nothing has been done to.

        Raises:
            ValueError: the network can't be trained here, or the data doesn't fit its input.
        """
        model = TrainableGraph(graph)
        shape = graph.values[graph.inputs[0]].shape[1:]
        if not data.fits(shape):
            raise ValueError(
                f"network {graph.name} takes inputs of shape {shape}, data {data.name} has "
                f"{data.train_x.shape[1:]}"
            )
        outputs = graph.values[graph.outputs[0]].shape[-1]
        if outputs < data.classes:
            raise ValueError(
                f"network {graph.name} tells {outputs} classes apart, data {data.name} has {data.classes}"
            )
        return cls(model=model, data=data, **options)

    def weight(self, layer: str) -> NDArray[np.float32]:
        """The weights that a layer computes with, a copy."""
        found: NDArray[np.float32] = self.model.effective_weight(layer).detach().numpy().copy()
        return found

    def set_weight(self, layer: str, values: NDArray[Any]) -> None:
        """Nothing; gives a layer weights of the same shape.

        Raises:
            ValueError: another shape, or values that aren't finite; names the layer.
        """
        parameter = self.model.weight(layer)
        if values.shape != tuple(parameter.shape) or not np.isfinite(values).all():
            raise ValueError(
                f"layer {layer}: weights must be finite, of shape {tuple(parameter.shape)}, not "
                f"{values.shape}"
            )
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values, np.float32)))

    def prune(self, layer: str, kept: NDArray[np.bool_], granularity: str = "element") -> None:
        """Nothing; cuts the weights that aren't `kept`, which stay cut in later training."""
        before = self.masks.get(layer)
        if before is not None:
            kept = kept & before.kept
            granularity = granularity if granularity == before.granularity else "element"
        self.masks[layer] = Mask(kept=kept, granularity=granularity)
        self.set_weight(layer, self.weight(layer) * kept)
        self.model.set_transform(layer, Masked(kept))

    def encode(self, layer: str, code: WeightCode) -> None:
        """Nothing; from here on the layer's weights are made up by `code`, which gives their values."""
        self.codes[layer] = code
        self.model.set_transform(layer, None)
        self.set_weight(layer, code.weights())

    def regraph(self, graph: Graph) -> None:
        """Nothing; goes on with another graph: masks and codes of layers whose weights changed shape go.

        Layers are told apart by name. Weights are the new graph's.
        """
        before = {layer.name: tuple(self.model.weight(layer.name).shape) for layer in self.model.layers}
        self.model = TrainableGraph(graph)
        shapes = {layer.name: tuple(self.model.weight(layer.name).shape) for layer in self.model.layers}
        same = {name for name in shapes if shapes[name] == before.get(name)}
        for table in (self.masks, self.codes, self.encodings):
            for name in [name for name in table if name not in same]:
                del table[name]
        for name, mask in self.masks.items():
            self.model.set_transform(name, Masked(mask.kept))

    def train(
        self, options: TrainingOptions | None = None, hooks: Hooks | None = None, what: str = "training"
    ) -> float:
        """The last loss; trains as the recipe says unless `options` are given. Coded layers stand still.

        A pass that trains coded layers sets transforms and gives the parameters in its hooks.

        Raises:
            DivergedError: see `training.fit`.
        """
        hooks = hooks or Hooks()
        if hooks.parameters is None and self.codes:
            still = {id(self.model.weight(name)) for name in self.codes}
            free = tuple(p for p in self.model.parameters() if p.requires_grad and id(p) not in still)
            hooks = replace(hooks, parameters=free)
        return fit(
            self.model,
            self.data,
            options or self.training,
            seed=self.seed,
            hooks=hooks,
            progress=lambda done, steps, loss: self.progress(f"{what}, loss {loss:.4f}", done / steps),
        )

    def accuracy(self, part: str = "validation") -> float:
        """The share of a part's images that are told right, 0…1."""
        return accuracy(self.model, self.data, part=part)
