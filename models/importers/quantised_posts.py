"""What stands between accumulators and the next stored values, as one Requantize or Thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node, run_node
from ..layers import Add, AvgPool, Relu, Requantize, Thresholds
from ..numerics import Rounding, quantize_multiplier, requantize, rescale
from .quantised_draft import Draft, DraftTensor
from .quantised_sums import copy_stored
from .quantised_values import NotLowered, Quantiser, Stored, Sums
from .thresholds_of import FoundThresholds, find_thresholds

__all__ = ["Chain", "finish_stored", "finish_sums", "identity_post"]

_FEW = 15
"""Up to so many thresholds are counted even where a Requantize would do: two levels of the core's tree."""

Operands = Callable[[str, NDArray[Any] | None], NDArray[Any]]
"""Gives an operand's constant values by name, the second argument for one that isn't constant."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """Elementwise nodes and the quantiser after them, as a function of real values."""

    nodes: tuple[Node, ...]
    """In order; those that only change the shape stand where a picture is one pixel. One may be a MaxPool,
    which comes after the quantiser as well as before it, as long as all between them rises."""
    ranks: tuple[int, ...]
    """Axes of each node's result."""
    rank: int
    """Axes of the value that the first one takes."""
    dtype: np.dtype[Any]
    """Type of that value."""
    constant: Operands
    spec: Quantiser
    quantiser: Node | None
    """None where the rounding is QuantizeLinear's within another node."""

    def stored(self, real: NDArray[np.float64]) -> NDArray[np.int64]:
        """The stored values that real ones, shape (P, K), become, step by step in float32."""
        spec, x = self.spec, self._float(real, len(self.nodes))
        if self.quantiser is not None:
            x = self._run(self.quantiser, x)
            found = np.rint(x.astype(np.float64) / spec.unit).astype(np.int64) + spec.zero
        else:
            found = np.rint(x.astype(np.float32) / np.float32(spec.scale)).astype(np.int64) + spec.zero_point
            found = np.clip(found, spec.low, spec.high)
        return found.reshape(real.shape)

    def falls_after_pool(self, real: NDArray[np.float64]) -> bool:
        """Whether some channel's stored values fall where those that a MaxPool compares rise.

        Args:
            real: the ends of each channel's values, shape (2, K).
        """
        place = next((i for i, node in enumerate(self.nodes) if node.op == "MaxPool"), None)
        if place is None:
            return False
        compared = self._float(real, place).reshape(real.shape)
        rise = np.sign(compared[1] - compared[0]) * np.sign(np.diff(self.stored(real), axis=0)[0])
        return bool(np.any(rise < 0))

    def _float(self, real: NDArray[np.float64], count: int) -> NDArray[Any]:
        """What the first `count` nodes make of real values; a MaxPool sees one pixel."""
        x = real.astype(self.dtype).reshape(*real.shape, *[1] * (self.rank - 2))
        for node, rank in zip(self.nodes[:count], self.ranks, strict=False):
            if node.op in SHAPES:
                x = x.reshape(*real.shape, *[1] * (rank - 2))
            elif node.op != "MaxPool":
                x = self._run(node, x)
        return x

    def _run(self, node: Node, x: NDArray[Any]) -> NDArray[Any]:
        operands = [None if not name else self.constant(name, x) for name in node.inputs]
        return run_node(node, operands)[0]


SHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")
"""Nodes that don't change values."""


def finish_sums(draft: Draft, name: str, sums: Sums, chain: Chain) -> Stored:
    """Sums as activations: rescaled where that rounds alike, else by thresholds of the float function.

    Raises:
        NotLowered: neither does.
        ValueError: the function isn't monotone, or takes too many thresholds.
    """
    spec = chain.spec
    maker = draft.named[sums.layer]
    if sums.tensor in draft.taken:
        raise NotLowered("its accumulators are taken twice")
    plain = _requantize(draft, name, sums, chain)
    if isinstance(maker, Add):
        if plain is None:
            raise NotLowered("what follows an add must be one rescaling, with a Relu or Clip at most")
        if spec.exact:
            _check_add(draft, maker, plain, chain)
        return _append(draft, plain, sums, spec)
    if plain is not None and not spec.exact and not sums.offset.any():
        return _append(draft, plain, sums, spec)
    if isinstance(maker, AvgPool):
        source, pixels = draft.tensors[maker.input], math.prod(maker.kernel)
        channels = len(sums.unit)
        least, most = (np.full(channels, end * pixels, np.int64) for end in (source.low, source.high))
    else:
        least, most = draft.sums_range(sums.layer)

    def levels(acc: NDArray[np.int64]) -> NDArray[np.int64]:
        return chain.stored((acc + sums.bias) * sums.unit + sums.offset)

    ends = np.stack([least, most])
    if chain.falls_after_pool((ends + sums.bias) * sums.unit + sums.offset):
        raise NotLowered("what follows its pool must rise")
    found = find_thresholds(levels, least, most, low=spec.low, high=spec.high, step=spec.step)
    many = found.values.shape[1] > _FEW
    if many and plain is not None and _same(plain, spec, found, least, most):
        return _append(draft, plain, sums, spec)
    post = Thresholds(
        name=draft.fresh(f"{name}.thresholds"),
        input=sums.tensor,
        output=draft.fresh(f"{name}.out"),
        values=found.values.astype(np.int32),
        low=found.low,
        step=found.step,
    )
    if found.falls.any():
        if sums.layer not in draft.weights:
            raise NotLowered("what follows a pool must rise with its sums")
        weights = draft.weights[sums.layer]
        if weights.values[found.falls].min(initial=0) < -127:
            raise NotLowered("a channel that must change sign has a weight of -128")
        draft.flips[sums.layer] = (post.name, np.where(found.falls, -1, 1))
    return _append(draft, post, sums, spec)


def finish_stored(draft: Draft, name: str, x: Stored, chain: Chain) -> Stored:
    """Stored values as others: as they are where nothing changes, by a Relu, or rescaled lane by lane.

    Raises:
        NotLowered: none of these will do.
    """
    spec, tensor = chain.spec, draft.tensors[x.tensor]
    given = np.arange(tensor.low, tensor.high + 1, tensor.step)
    real = ((given - x.zero) * x.unit).astype(np.float32).astype(np.float64)
    alike = (spec.scale, spec.zero_point) == (tensor.scale, tensor.zero_point)
    if alike:
        channels = tensor.shape[0]
        real = np.repeat(real[:, None], channels, axis=1)
        if chain.falls_after_pool(real[[0, -1]]):
            raise NotLowered("what follows its pool must rise")
        become = chain.stored(real)
        given = np.repeat(given[:, None], channels, axis=1)
        if np.array_equal(become, given):
            return replace(x, unit=spec.unit, zero=spec.zero)
        if x.whole and np.array_equal(become, np.maximum(given, tensor.zero_point)):
            out = draft.like(x.tensor, f"{name}.out", tensor.shape)
            draft.append(Relu(name=draft.fresh(f"{name}.relu"), input=x.tensor, output=out))
            return Stored(tensor=out, unit=spec.unit, zero=spec.zero)
    if not x.whole:
        raise NotLowered("a padded or split picture can't be rescaled")
    factor = x.unit / spec.scale if spec.ties_even else 0.5
    return finish_sums(draft, name, copy_stored(draft, f"{name}.copy", x, factor), chain)


def identity_post(draft: Draft, name: str, sums: Sums) -> str:
    """The name of an int8 tensor that holds sums as they are.

    Raises:
        NotLowered: they don't fit.
    """
    if sums.layer not in draft.weights:
        raise NotLowered("sums of pools and adds don't leave the core")
    least, most = draft.sums_range(sums.layer)
    if least.min() < -128 or most.max() > 127:
        raise NotLowered(f"its accumulators reach from {least.min()} to {most.max()}, the core stores 8 bits")
    channels = len(sums.unit)
    post = Requantize(
        name=draft.fresh(f"{name}.requantize"),
        input=sums.tensor,
        output=draft.fresh(f"{name}.out"),
        # x · (2^31 − 1) / 2^31 is nearest to x.
        multiplier=np.full(channels, (1 << 31) - 1),
        shift=np.zeros(channels, np.int32),
        rounding=Rounding.HALF_EVEN,
        low=-128,
        high=127,
    )
    draft.append(post)
    shape = draft.tensors[sums.tensor].shape
    draft.tensors[post.output] = DraftTensor(name=post.output, shape=shape, low=-128, high=127)
    return post.output


def _append(draft: Draft, post: Requantize | Thresholds, sums: Sums, spec: Quantiser) -> Stored:
    draft.append(post)
    draft.tensors[post.output] = DraftTensor(
        name=post.output,
        shape=draft.tensors[sums.tensor].shape,
        low=post.low,
        high=post.high,
        step=post.step if isinstance(post, Thresholds) else 1,
        scale=spec.scale,
        zero_point=spec.zero_point,
    )
    return Stored(tensor=post.output, unit=spec.unit, zero=spec.zero)


def _requantize(draft: Draft, name: str, sums: Sums, chain: Chain) -> Requantize | None:
    """Rescaling that rounds as the quantiser would; None where the chain is more than scales and clamps."""
    spec = chain.spec
    if not spec.ties_even or spec.step != 1:
        return None
    ends = np.array([-np.inf, np.inf], np.float32)
    for node in chain.nodes:
        if node.op in ("Relu", "Clip"):
            operands = [chain.constant(key, None) if key else None for key in node.inputs[1:]]
            ends = run_node(node, [ends, *operands])[0]
        elif node.op not in (*SHAPES, "Cast", "MaxPool"):
            return None
    # float32(input scale · weight scale) / output scale, as ONNX Runtime's kernels form it.
    real = sums.unit.astype(np.float32) / np.float32(spec.scale)
    if not np.all(real < 1):
        return None
    bias = sums.bias + np.rint(sums.offset / sums.unit).astype(np.int64)
    if np.abs(bias).max() >= 1 << 31:
        return None
    pairs = [quantize_multiplier(float(r)) for r in real]
    with np.errstate(over="ignore"):
        low, high = np.rint(ends / np.float32(spec.scale)) + spec.zero_point
    return Requantize(
        name=draft.fresh(f"{name}.requantize"),
        input=sums.tensor,
        output=draft.fresh(f"{name}.out"),
        multiplier=np.array([pair[0] for pair in pairs]),
        shift=np.array([pair[1] for pair in pairs]),
        rounding=Rounding.HALF_EVEN,
        low=int(np.clip(low, spec.low, spec.high)),
        high=int(np.clip(high, spec.low, spec.high)),
        bias=bias.astype(np.int32) if bias.any() else None,
    )


def _same(
    plain: Requantize,
    spec: Quantiser,
    found: FoundThresholds,
    least: NDArray[np.int64],
    most: NDArray[np.int64],
) -> bool:
    """Whether a Requantize gives for all accumulators what the thresholds give."""

    def levels(acc: NDArray[np.int64]) -> NDArray[np.int64]:
        return _requantized(plain, spec, acc)

    try:
        other = find_thresholds(levels, least, most, low=spec.low, high=spec.high)
    except ValueError:
        return False
    return (other.low, other.step) == (found.low, found.step) and np.array_equal(other.values, found.values)


def _requantized(plain: Requantize, spec: Quantiser, acc: NDArray[np.int64]) -> NDArray[np.int64]:
    """What a Requantize makes of accumulators (P, K)."""
    return requantize(
        acc,
        multiplier=plain.multiplier,
        shift=plain.shift,
        rounding=plain.rounding,
        zero_point=spec.zero_point,
        low=plain.low,
        high=plain.high,
        bias=plain.bias,
        channel_axis=1,
    ).astype(np.int64)


def _check_add(draft: Draft, layer: Add, plain: Requantize, chain: Chain) -> None:
    """Nothing; NotLowered unless an add's integers are what float32 makes of every pair of operands."""
    total: NDArray[Any] = np.zeros((1, 1), np.int64)
    real: NDArray[Any] = np.zeros((1, 1), np.float32)
    for place, name in enumerate(layer.inputs):
        tensor = draft.tensors[name]
        stored = np.arange(tensor.low, tensor.high + 1) - tensor.zero_point
        shape = (-1, 1) if place else (1, -1)
        factor = layer.multiplier[place], layer.shift[place]
        scaled = rescale(stored << layer.left_shift, *factor, layer.rounding)
        total = total + scaled.reshape(shape)
        assert tensor.scale is not None  # a quantiser made it
        real = real + (stored.astype(np.float32) * np.float32(tensor.scale)).reshape(shape)
    pick = plain.multiplier[:1], plain.shift[:1]
    found = requantize(
        total.reshape(-1, 1),
        multiplier=pick[0],
        shift=pick[1],
        rounding=plain.rounding,
        zero_point=chain.spec.zero_point,
        low=plain.low,
        high=plain.high,
        channel_axis=1,
    )
    expected = chain.stored(real.astype(np.float64).reshape(-1, 1))
    if wrong := int(np.count_nonzero(found != expected)):
        raise NotLowered(f"its float32 sum rounds otherwise for {wrong} of {expected.size} pairs of operands")
