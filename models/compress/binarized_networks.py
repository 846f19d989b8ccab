"""Networks of one-bit weights and one-bit activations: BNN and XNOR-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .binary_connect import BinaryConnect
from .latent import Latent
from .latent_pass import LatentPass, check_word
from .scaled_binary import ScaledBinary
from .shift_norm import fix_shifts, shift_norm
from .sign_activations import binarise_inputs
from .subject import Subject
from .trainable import WeightedLayer

__all__ = ["BinarizedNetworkPass", "XnorNetPass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinarizedNetworkPass(LatentPass):
    """BNN: signs for weights and for what the layers take; norms and signs stand for activations.

    Weights are ±H, one H a layer, as BinaryConnect's: in front of a norm it doesn't matter, and the last
    layer's sums become logits of a sensible size. The network's input stays as it is.

    Source: Courbariaux et al. 2016, Binarized Neural Networks, Algorithms 1 and 3.
    """

    name: ClassVar[str] = "binary.network"
    has_zero: ClassVar[bool] = False
    norms: str = "exact"
    """exact, or shift: all batch norms train with powers of two for factors, and keep those they came to."""

    def __post_init__(self) -> None:
        check_word("norms", self.norms, ("exact", "shift"))

    def check(self, subject: Subject) -> None:
        """Nothing; goes through the change of the graph once.

        Raises:
            ValueError: a selector that matches nothing.
        """
        binarise_inputs(subject.model.graph, [layer.name for layer in self.selected(subject)])

    def prepare(self, subject: Subject) -> None:
        """Nothing; the subject goes on with signs for activations."""
        _regraph(subject, [layer.name for layer in self.selected(subject)], blocks=False, k_map=False)
        if self.norms == "shift":
            subject.model.norm = shift_norm

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, and encodes each layer.

        Raises:
            ValueError: a pruned layer; DivergedError: training fails.
        """
        LatentPass.apply(self, subject)
        if self.norms == "shift":
            fix_shifts(subject.model)

    def transform(self, subject: Subject, layer: WeightedLayer) -> Latent:
        """The signs of a layer's weights."""
        return BinaryConnect(tuple(subject.model.weight(layer.name).shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class XnorNetPass(LatentPass):
    """XNOR-Net: α · sign(W), blocks of norm, sign, convolution and pool, the K map if asked for.

    The paper leaves the first and the last layer real: `layers = ["hidden"]`, as it is by default.

    Source: Rastegari et al. 2016, section 3.2.
    """

    name: ClassVar[str] = "binary.xnor"
    has_zero: ClassVar[bool] = False
    layers: tuple[str, ...] = ("hidden",)
    per: str = "filter"
    """filter or layer, what has an α of its own."""
    k_map: bool = False
    """Whether each output of a convolution is scaled by the mean size of its inputs; no core does that."""

    def __post_init__(self) -> None:
        check_word("per", self.per, ("filter", "layer"))

    def check(self, subject: Subject) -> None:
        """Nothing; goes through the change of the graph once.

        Raises:
            ValueError: a selector that matches nothing, or a layer that a K map doesn't suit.
        """
        names = [layer.name for layer in self.selected(subject)]
        binarise_inputs(subject.model.graph, names, blocks=True, k_map=self.k_map)

    def prepare(self, subject: Subject) -> None:
        """Nothing; the subject goes on with the blocks' order."""
        names = [layer.name for layer in self.selected(subject)]
        _regraph(subject, names, blocks=True, k_map=self.k_map)

    def transform(self, subject: Subject, layer: WeightedLayer) -> Latent:
        """The scaled signs of a layer's weights."""
        return ScaledBinary(self.per)


def _regraph(subject: Subject, names: list[str], *, blocks: bool, k_map: bool) -> None:
    graph, _ = binarise_inputs(subject.model.to_graph(), names, blocks=blocks, k_map=k_map)
    subject.regraph(graph)
