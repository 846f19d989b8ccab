"""Dettmers' 8-bit dynamic tree: a sign, leading zeros for the exponent, and a linear fraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from .fixed_point import fixed_code
from .latent_pass import check_word
from .passes import Pass
from .subject import Subject
from .training import Hooks
from .weight_codes import CodebookCode, WeightCode

__all__ = [
    "TREE_VALUES",
    "DynamicTreePass",
    "ExchangeModel",
    "decode_tree",
    "encode_tree",
    "linear_8bit",
    "tree_value",
]


def tree_value(code: int) -> float:
    """What a byte stands for, within −1 … 1.

    Bit 7 is the sign. Of the other seven, z leading zeros are the exponent 10^−z, the 1 after them ends the
    exponent, and the 6 − z bits that are left number the equal parts of 0.1 … 1, of which the middle counts.
    Seven zeros are 0; with the sign bit they are 1, the greatest, as there is no −0.

    Raises:
        ValueError: no byte.

    Source: Dettmers 2016, 8-Bit Approximations for Parallelism in Deep Learning, section 2 and figure 1; that
    the spare code is 1 follows the author's bitsandbytes, `create_dynamic_map`.
    """
    if not 0 <= code <= 255:
        raise ValueError(f"a code is a byte, 0 to 255, not {code}")
    rest = code & 0x7F
    if not rest:
        return 1.0 if code else 0.0
    width = rest.bit_length() - 1
    part = rest - (1 << width)
    size = 10.0 ** (width - 6) * (0.1 + 0.9 * (part + 0.5) / (1 << width))
    return -size if code & 0x80 else size


TREE_VALUES: NDArray[np.float64] = np.array([tree_value(code) for code in range(256)])
"""By code; no two are the same."""
TREE_VALUES.setflags(write=False)
_ORDER = np.argsort(TREE_VALUES)
_MIDDLES = (TREE_VALUES[_ORDER][1:] + TREE_VALUES[_ORDER][:-1]) / 2


def encode_tree(values: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
    """The nearest codes of `values` over their largest |value|, and that.

    Args:
        values: finite, of any shape.

    Raises:
        ValueError: values that aren't finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("values must be finite to be coded")
    scale = float(np.abs(values).max(initial=0.0)) or 1.0
    place = np.searchsorted(_MIDDLES, values.astype(np.float64) / scale)
    return _ORDER[place].astype(np.uint8), scale


def decode_tree(codes: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    """The values of codes, float32, shape of `codes`."""
    return (TREE_VALUES[codes] * scale).astype(np.float32)


def linear_8bit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values rounded to the nearest of 255 equal steps over ± their largest |value|: the plain rival."""
    step = (float(np.abs(values).max(initial=0.0)) or 1.0) / 127
    return (np.rint(values / step) * step).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeModel:
    """How long workers that share a batch take for a step, exchanging gradients in a ring; a model.

    A ring sends 2·(n − 1)/n of the gradients over every link (Patarasuk and Yuan 2009, Bandwidth Optimal
    All-reduce). Nothing is hidden behind the computation.

    Raises:
        ValueError: a rate or time that can't be.
    """

    bytes_per_second: float
    """Of a link."""
    compute_seconds: float
    """Of a whole batch on one worker."""

    def __post_init__(self) -> None:
        if not (self.bytes_per_second > 0 and self.compute_seconds > 0):
            raise ValueError("bytes_per_second and compute_seconds must be above 0")

    def step_seconds(self, gradients: int, bits: int, workers: int) -> float:
        """Seconds a step, for `gradients` numbers of `bits`; one worker sends nothing."""
        sent = 2 * (workers - 1) / workers * gradients * bits / 8
        return self.compute_seconds / workers + sent / self.bytes_per_second

    def speedup(self, gradients: int, bits: int, workers: int) -> float:
        """How many times faster than one worker."""
        return self.compute_seconds / self.step_seconds(gradients, bits, workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicTreePass(Pass):
    """Trains with gradients in 8-bit tree codes, as links between workers carry them; codes weights so.

    Weights become indices into the tree's 256 values, which a decoder knows, and a scale a layer. The plain
    rival takes linear 8 bits in both places. Notes the mean |error| of the last step's gradients under the
    tree and under linear 8 bits, over their mean size, and the bytes a worker sends a step.
    """

    name: ClassVar[str] = "quantise.dynamic-tree"
    gradients: bool = True
    """Whether it trains."""
    weights: bool = True
    """Whether the selected layers are coded."""
    code: str = "tree"
    """tree, or linear: what a byte stands for."""

    def __post_init__(self) -> None:
        check_word("code", self.code, ("tree", "linear"))

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, then encodes the layers.

        Raises:
            DivergedError: training fails.
        """
        found: dict[str, Any] = {}
        if self.gradients:
            found["gradients"] = self._train(subject)
        if self.weights:
            found["weights"] = {}
            for layer in self.selected(subject):
                weights = subject.weight(layer.name)
                subject.encode(layer.name, self._coded(weights))
                found["weights"][layer.name] = _errors([weights])
        subject.notes[self.name] = found

    def _coded(self, weights: NDArray[np.float32]) -> WeightCode:
        if self.code == "linear":
            return fixed_code(weights, 8, per="layer", choice="range")
        codes, scale = encode_tree(weights)
        table = (TREE_VALUES * scale).astype(np.float32)
        return CodebookCode(indices=codes, centroids=table, given=True)

    def _train(self, subject: Subject) -> dict[str, Any]:
        still = {id(subject.model.weight(name)) for name in subject.codes}
        sent = [p for p in subject.model.parameters() if p.requires_grad and id(p) not in still]
        last: dict[str, Any] = {}

        def after_backward(step: int) -> None:
            whole = []
            for parameter in sent:
                if parameter.grad is not None:
                    gradient = parameter.grad.numpy()
                    whole.append(gradient.ravel().copy())
                    sent_as = (
                        linear_8bit(gradient)
                        if self.code == "linear"
                        else decode_tree(*encode_tree(gradient))
                    )
                    parameter.grad.copy_(torch.from_numpy(sent_as))
            last["values"] = whole

        subject.train(self.training, Hooks(after_backward=after_backward), self.name)
        parts: list[NDArray[Any]] = last.get("values", [])
        count = sum(part.size for part in parts)
        return {
            **_errors(parts),
            "bytes_a_step": count,
            "float32_bytes_a_step": 4 * count,
        }


def _errors(parts: Sequence[NDArray[Any]]) -> dict[str, float]:
    """Σ |error| over Σ |value| of parts that have a scale each, under the tree and under linear 8 bits."""
    size = sum(float(np.abs(part).sum()) for part in parts) or 1.0
    tree = sum(float(np.abs(part - decode_tree(*encode_tree(part))).sum()) for part in parts)
    linear = sum(float(np.abs(part - linear_8bit(part)).sum()) for part in parts)
    return {"tree_error": tree / size, "linear_error": linear / size}
