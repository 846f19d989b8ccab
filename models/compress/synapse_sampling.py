"""Stochastic synapses: trained probabilities of connections, sampled at deployment, with fan-in in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .dense_chain import dense_chain, sign_chain
from .passes import Pass
from .subject import Subject
from .trainable import WeightedLayer
from .training import Hooks, logits
from .weight_codes import FixedCode

__all__ = ["PruneFanIn", "SynapsePass", "fan_in_blocks", "sampled_synapses", "sum_variance"]

_FLOOR = 1e-4


def fan_in_blocks(outputs: int, inputs: int, most: int) -> NDArray[np.bool_]:
    """Which inputs a neuron sees, (outputs, inputs): equal runs of at most `most`, dealt out in order.

    A crossbar of most × most joins a run of inputs with the neurons of that run.

    Raises:
        ValueError: fewer neurons than runs, which would leave inputs unseen.
    """
    count = math.ceil(inputs / most)
    if outputs < count:
        raise ValueError(
            f"{inputs} inputs in runs of at most {most} need at least {count} neurons, not {outputs}; "
            "raise fan_in"
        )
    seen = np.arange(inputs) * count // inputs
    blocks: NDArray[np.bool_] = (np.arange(outputs) * count // outputs)[:, None] == seen[None, :]
    return blocks


def sampled_synapses(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int8]:
    """sign(w) with the probability |w|, else 0; |w| at most 1."""
    return (np.sign(weights) * (rng.random(weights.shape) < np.abs(weights))).astype(np.int8)


def sum_variance(x: Tensor, weights: Tensor, spikes: bool) -> Tensor:
    """The variance of Σ c·x with c = sign(w) at probability |w|, (B, K).

    Args:
        x: (B, N): values that are certain, or with `spikes` the probabilities of a 1, which are independent.
        weights: (K, N), within −1 … 1.
        spikes: what `x` is.

    Source: Esser et al. 2015, Backpropagation for Energy-Efficient Neuromorphic Computing, eq. 4 and 5.
    """
    second = x if spikes else x**2
    return second @ weights.abs().T - x**2 @ (weights**2).T


@dataclass(frozen=True, slots=True, kw_only=True)
class SynapsePass(Pass):
    """Ternary weights of a chain of linear layers, drawn from probabilities that were trained for it.

    Hidden neurons spike where their sum is above 0: training takes Φ(μ / σ), the probability of that. The
    spikes 0 and 1 become signs −1 and 1: with s = 2x − 1, Σ w·x is Σ w/2 · s + Σ w/2, a scale of 1/2 and a
    bias. Starts from the float weights over their greatest. All layers take part.

    Notes the validation accuracy of 1, 2, 4, … networks drawn that vote by the sum of their outputs, and the
    share of connections. The one of them that tells most validation images right is the result.

    Source: Esser et al. 2015; the sign of a synapse, fixed there, follows its weight here.
    """

    name: ClassVar[str] = "ternary.synapses"
    fan_in: int = 256
    """The most inputs of a neuron, as a crossbar of 256 × 256 has them."""
    copies: int = 4
    """Networks drawn."""

    def __post_init__(self) -> None:
        for key in ("fan_in", "copies"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, not {getattr(self, key)}")
        if self.layers != ("all",):
            raise ValueError(
                f"layers must be all, not {', '.join(self.layers)}: spikes run through the chain"
            )

    def check(self, subject: Subject) -> None:
        """Nothing.

        Raises:
            ValueError: a network that isn't a chain of linear layers, or a layer with too few neurons.
        """
        for layer in dense_chain(subject.model, self.name):
            _blocks(subject, layer, self.fan_in)

    def apply(self, subject: Subject) -> None:
        """Nothing; trains probabilities, draws networks, encodes the first.

        Raises:
            ValueError: another network; DivergedError: training fails.
        """
        layers = dense_chain(subject.model, self.name)
        names = [layer.name for layer in layers]
        for layer in layers:
            subject.codes.pop(layer.name, None)
            weights = subject.weight(layer.name)
            subject.set_weight(layer.name, weights / max(float(np.abs(weights).max()), 1e-30))
            subject.prune(layer.name, _blocks(subject, layer, self.fan_in), "block")
        self._train(subject, layers)
        probable = {name: subject.weight(name) for name in names}
        biases = {name: _bias(subject, name) for name in names}
        rng = np.random.default_rng([subject.seed, 37])
        found: dict[str, float] = {}
        votes: Any = 0.0
        best: dict[str, NDArray[np.int8]] = {}
        most = -1
        for copy in range(self.copies):
            drawn = {name: sampled_synapses(probable[name], rng) for name in names}
            self._deploy(subject, names, drawn, biases)
            alone = logits(subject.model, subject.data, subject.data.validation_x)
            right = int((alone.argmax(1).numpy() == subject.data.validation_y).sum())
            if right > most:
                best, most = drawn, right
            votes = votes + alone
            if (copy + 1) & copy == 0 or copy + 1 == self.copies:
                agreed = votes.argmax(1).numpy() == subject.data.validation_y
                found[str(copy + 1)] = float(agreed.mean())
        self._deploy(subject, names, best, biases)
        shares = {name: float((best[name] != 0).mean()) for name in names}
        subject.notes[self.name] = {"accuracy_of_copies": found, "connected": shares}

    def _train(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> None:
        model = subject.model
        taken: dict[str, Tensor] = {}
        taps: list[tuple[str, Callable[[Tensor], Tensor]]] = []
        before = {node.name: node.inputs[0] for node in model.graph.nodes}

        def keep(name: str) -> Callable[[Tensor], Tensor]:
            def tap(value: Tensor) -> Tensor:
                taken[name] = value
                return value

            return tap

        def spike(layer: WeightedLayer, spikes: bool) -> Callable[[Tensor], Tensor]:
            def tap(value: Tensor) -> Tensor:
                variance = sum_variance(taken[layer.name], model.effective_weight(layer.name), spikes)
                # A probability is above 0: the ReLU after it changes nothing.
                probability: Tensor = torch.special.ndtr(value / variance.clamp_min(_FLOOR).sqrt())
                return probability

            return tap

        def scaled(value: Tensor) -> Tensor:
            return value * (4.0 / math.sqrt(min(self.fan_in, before_last)))

        before_last = model.weight(layers[-1].name).shape[1]
        for number, layer in enumerate(layers[:-1]):
            taps.append((before[layer.name], keep(layer.name)))
            taps.append((layer.value, spike(layer, number > 0)))
        taps.append((layers[-1].value, scaled))
        for value, tap in taps:
            model.taps.setdefault(value, []).append(tap)

        def after_step(step: int) -> None:
            with torch.no_grad():
                for layer in layers:
                    model.weight(layer.name).clamp_(-1.0, 1.0)

        try:
            subject.train(self.training, Hooks(after_step=after_step), self.name)
        finally:
            for value, tap in taps:
                model.taps[value].remove(tap)

    def _deploy(
        self,
        subject: Subject,
        names: list[str],
        drawn: dict[str, NDArray[np.int8]],
        biases: dict[str, NDArray[np.float32]],
    ) -> None:
        moved = {
            name: biases[name] + (drawn[name].sum(axis=1) / 2 if number else 0.0)
            for number, name in enumerate(names)
        }
        subject.regraph(sign_chain(subject.model.to_graph(), moved))
        for number, name in enumerate(names):
            scales = np.full(len(drawn[name]), 0.5 if number else 1.0)
            subject.encode(name, FixedCode(integers=drawn[name], scales=scales, fmt="ternary"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneFanIn(Pass):
    """Linear layers are cut to what a crossbar joins, a run of inputs a neuron; then all trains."""

    name: ClassVar[str] = "prune.fan-in"
    layers: tuple[str, ...] = ("linear",)
    fan_in: int = 256
    """The most inputs of a neuron."""

    def __post_init__(self) -> None:
        if self.fan_in < 1:
            raise ValueError(f"fan_in must be at least 1, not {self.fan_in}")

    def check(self, subject: Subject) -> None:
        """Nothing.

        Raises:
            ValueError: a convolution, or a layer with too few neurons; names it.
        """
        for layer in self.selected(subject):
            if layer.op != "Gemm":
                raise ValueError(f"layer {layer.name}: {self.name} serves linear layers, not {layer.op}")
            _blocks(subject, layer, self.fan_in)

    def apply(self, subject: Subject) -> None:
        """Nothing; cuts, then trains.

        Raises:
            ValueError: as `check`; DivergedError: training fails.
        """
        for layer in self.selected(subject):
            subject.prune(layer.name, _blocks(subject, layer, self.fan_in), "block")
        subject.train(self.training, what=self.name)


def _blocks(subject: Subject, layer: WeightedLayer, most: int) -> NDArray[np.bool_]:
    try:
        outputs, inputs = subject.model.weight(layer.name).shape
        return fan_in_blocks(outputs, inputs, most)
    except ValueError as fault:
        raise ValueError(f"layer {layer.name}: {fault}") from None


def _bias(subject: Subject, name: str) -> NDArray[np.float32]:
    bias = subject.model.bias(name)
    if bias is None:
        return np.zeros(len(subject.weight(name)), np.float32)
    found: NDArray[np.float32] = bias.detach().numpy().copy()
    return found
