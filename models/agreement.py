"""Where the integer network and the QAT network disagree, and why. Imports torch.

Both hold the same weight and activation levels. Where activations are requantised to int8, they part in
three places only: the bias is rounded to a whole accumulator step, the multiplier to 31 bits, and the QAT
network works in float64. So a layer that is given equal input levels gives levels that differ by at most
one, and only where the exact value lies within 2^−(1 + shift) + |x| · 2^−(32 + shift) of a rounding boundary
(see `fold.Folded`). Where thresholds cut them, nothing is rounded (see `fold.fold_thresholds`): a level
differs only where the exact value lies within float64's error of a cut. Later layers spread such a
difference; a disagreement whose every layer keeps its bound is explained by rounding.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .layers import Conv, Linear, Requantize, Thresholds
from .network import Network
from .qat import DigitsNet
from .quantizers import LowBitQuantizer
from .reference import run_layer, run_reference

__all__ = ["Disagreement", "LayerDifference", "compare_layers", "find_disagreements"]

_FLOAT_ERROR = 1e-9
"""What float64 arithmetic may add to the bound, in output steps."""

_Levels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifference:
    """One quantised layer, given the QAT network's own input levels."""

    layer: str
    values: int
    """Output values that differ."""
    largest: int
    """Largest difference in levels; 1 at most where rounding alone is the cause."""
    within_bound: bool
    """Whether each differing value lay so near a rounding boundary or a cut that rounding explains it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Disagreement:
    """An image that the two networks put into different classes."""

    image: int
    """Its index."""
    qat_class: int
    int_class: int
    qat_logits: NDArray[np.int64]
    """Stored levels, shape (10,)."""
    int_logits: NDArray[np.int64]
    layers: tuple[LayerDifference, ...]

    @property
    def largest(self) -> int:
        """Largest difference between the logits, in levels."""
        return int(np.abs(self.qat_logits - self.int_logits).max())

    @property
    def explained(self) -> bool:
        """Whether every layer by itself keeps the bound, so that rounding is the whole cause."""
        return all(layer.largest <= 1 and layer.within_bound for layer in self.layers)


def _qat_levels(model: DigitsNet, network: Network, images: NDArray[np.int8]) -> dict[str, _Levels]:
    """For each block: its input levels, its output levels before pooling, the exact output in steps,
    and the cuts between its levels (none where they are rounded).
    """
    exact = copy.deepcopy(model).double().eval()
    exact.settle()
    source = network.tensors[network.input]
    assert source.scale is not None
    x = torch.from_numpy((images.astype(np.float64) - source.zero_point) * source.scale)
    scale, zero_point = source.scale, source.zero_point
    found: dict[str, _Levels] = {}
    with torch.no_grad():
        for name, block in exact.named_blocks():
            if name == "fc":
                x = x.flatten(1)
            inputs = torch.round(x / scale).numpy().astype(np.int64) + zero_point
            y = block.unquantized(x)
            outputs = block.quantizer.levels(y).numpy().astype(np.int64)
            x = block(x)
            scale, zero_point = block.quantizer.parameters_of_range()
            cuts = block.quantizer.cuts if isinstance(block.quantizer, LowBitQuantizer) else ()
            found[name] = (inputs, outputs, (y / scale).numpy() + zero_point, cuts)
    return found


def compare_layers(
    model: DigitsNet, network: Network, images: NDArray[np.int8]
) -> tuple[LayerDifference, ...]:
    """How each integer layer differs from the QAT layer when both get the QAT network's input levels.

    Args:
        model: the QAT network.
        network: its integer form, from `to_network`.
        images: stored pixels, shape (B, 1, 8, 8).
    """
    return _summaries(_compare_values(_qat_levels(model, network, images), network), slice(None))


_Compared = dict[str, tuple[NDArray[np.int64], NDArray[np.bool_]]]


def _compare_values(levels: dict[str, _Levels], network: Network) -> _Compared:
    """For each layer with weights: the differences in levels, and where one would be explained."""
    found: _Compared = {}
    for layer in network.layers:
        if not isinstance(layer, Conv | Linear):
            continue
        post = next(
            p for p in network.layers if isinstance(p, Requantize | Thresholds) and p.input == layer.output
        )
        inputs, outputs, exact, cuts = levels[layer.name]
        acc = run_layer(network, layer, inputs.astype(network.tensors[layer.input].fmt.dtype))
        difference = run_layer(network, post, acc).astype(np.int64) - outputs
        if isinstance(post, Requantize):
            bound = _rounding_bound(network, layer, post, acc)
            # A boundary lies half-way between two levels.
            to_boundary = np.abs(exact - np.floor(exact) - 0.5)
        else:
            difference = difference // post.step
            bound = np.full(acc.shape, _FLOAT_ERROR)
            to_boundary = np.min([np.abs(exact - cut) for cut in cuts], axis=0)
        found[layer.name] = difference, to_boundary <= bound
    return found


def _summaries(compared: _Compared, images: slice) -> tuple[LayerDifference, ...]:
    """The layers' differences over some of the images."""
    return tuple(
        LayerDifference(
            layer=name,
            values=int(np.count_nonzero(difference[images])),
            largest=int(np.abs(difference[images]).max(initial=0)),
            within_bound=bool(np.all(near[images][difference[images] != 0])),
        )
        for name, (difference, near) in compared.items()
    )


def _rounding_bound(
    network: Network, layer: Conv | Linear, post: Requantize, acc: NDArray[np.int32]
) -> NDArray[np.float64]:
    """How near a rounding boundary each exact value must lie for its level to differ, in output steps."""
    along = (1, -1, *([1] * (acc.ndim - 2)))
    shift = post.shift.astype(np.float64)
    rows = network.weights[layer.name].values.reshape(shift.size, -1).astype(np.int64)
    reach = np.abs(rows).sum(axis=1) * 2.0 ** network.tensors[layer.input].fmt.bits
    # A channel that `fold` left constant may be a quarter of a step off.
    constant = 0.25 * (post.multiplier * 2.0 ** (-31 - shift) * reach <= 0.25)
    steps = shift.reshape(along)
    bound: NDArray[np.float64] = 2.0 ** (-1 - steps) + np.abs(acc.astype(np.int64)) * 2.0 ** (-32 - steps)
    bound += constant.reshape(along) + _FLOAT_ERROR
    return bound


def find_disagreements(
    model: DigitsNet, network: Network, images: NDArray[np.int8]
) -> tuple[Disagreement, ...]:
    """The images for which the greatest logit stands elsewhere, each with its cause, layer by layer.

    Arguments as `compare_layers`.
    """
    levels = _qat_levels(model, network, images)
    compared = _compare_values(levels, network)
    qat: NDArray[Any] = list(levels.values())[-1][1]
    integer = run_reference(network, images).astype(np.int64)
    found = []
    for index in np.flatnonzero(qat.argmax(axis=1) != integer.argmax(axis=1)):
        i = int(index)
        found.append(
            Disagreement(
                image=i,
                qat_class=int(qat[i].argmax()),
                int_class=int(integer[i].argmax()),
                qat_logits=qat[i],
                int_logits=integer[i],
                layers=_summaries(compared, slice(i, i + 1)),
            )
        )
    return tuple(found)
