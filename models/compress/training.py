"""Training of a graph under passes: penalties, masks and quantisers come in by hooks. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .datasets import AUGMENTS, Dataset
from .trainable import TrainableGraph

__all__ = [
    "DivergedError",
    "Hooks",
    "TrainingOptions",
    "accuracy",
    "fit",
    "logits",
    "rate_factor",
    "reproducible",
]


class DivergedError(ValueError):
    """A training whose loss is no finite number any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How a pass trains.

    Raises:
        ValueError: a value that can't be.
    """

    epochs: float = 1.0
    """Passes over the training images; a part of one is a part of its batches."""
    rate: float = 1e-3
    batch: int = 128
    optimizer: str = "adam"
    """adam, or sgd with momentum 0.9."""
    weight_decay: float = 0.0
    schedule: str = "cosine"
    """cosine (to a hundredth) or constant."""
    freeze_norms: bool = False
    """Whether batch norms keep their statistics."""

    def __post_init__(self) -> None:
        for key, low in (("epochs", 0.0), ("rate", 0.0), ("batch", 1)):
            value = getattr(self, key)
            if not math.isfinite(value) or value < low or (key == "rate" and value == 0):
                raise ValueError(f"training.{key} must be finite and above {low:g}, not {value}")
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"training.optimizer must be adam or sgd, not {self.optimizer!r}")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"training.schedule must be cosine or constant, not {self.schedule!r}")
        if not math.isfinite(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"training.weight_decay must be 0 or more, not {self.weight_decay}")


def _nothing(step: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Where a pass takes part in training."""

    penalty: Callable[[], Tensor] | None = None
    """Added to the loss."""
    loss: Callable[[Tensor, Tensor], Tensor] = field(default=functional.cross_entropy)
    """Of logits and labels."""
    before_step: Callable[[int], None] = _nothing
    """Called with the number of the step before its forward pass."""
    after_backward: Callable[[int], None] = _nothing
    """Called when gradients are there, before the optimiser takes them."""
    after_step: Callable[[int], None] = _nothing
    parameters: tuple[nn.Parameter, ...] | None = None
    """What is trained; None is all of the model's that want gradients."""
    extra: tuple[nn.Parameter, ...] = ()
    """Trained as well, with the same rate."""


@contextmanager
def reproducible(seed: int) -> Iterator[torch.Generator]:
    """Seeds torch within, puts its state back after; the generator is seeded, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def fit(
    model: TrainableGraph,
    data: Dataset,
    options: TrainingOptions,
    *,
    seed: int = 0,
    hooks: Hooks | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> float:
    """The mean loss of the last steps; trains `model` in place and leaves it in evaluation mode.

    Args:
        model: what is trained.
        data: its training part.
        options: how long and how.
        seed: of order, augmentation and dropout.
        hooks: where the caller takes part.
        progress: called about every fiftieth of the steps with steps done, steps in all, and the loss.

    Raises:
        DivergedError: the loss isn't finite any more; the model then holds what it had at that step.
    """
    hooks = hooks or Hooks()
    steps = math.ceil(options.epochs * len(data.train_x) / options.batch)
    parameters = [
        *(
            [p for p in model.parameters() if p.requires_grad]
            if hooks.parameters is None
            else hooks.parameters
        ),
        *hooks.extra,
    ]
    optimizer = _optimizer(parameters, options)
    recent: list[float] = []
    with reproducible(seed) as generator:
        step = 0
        while step < steps:
            order = torch.randperm(len(data.train_x), generator=generator).numpy()
            for first in range(0, len(order), options.batch):
                chosen = order[first : first + options.batch]
                if step >= steps or len(chosen) < 2:  # batch norm needs two
                    step += 1
                    continue
                model.train(not options.freeze_norms)
                for group in optimizer.param_groups:
                    group["lr"] = options.rate * rate_factor(options, step, steps)
                hooks.before_step(step)
                x, y = _batch(data, chosen, model, generator)
                optimizer.zero_grad()
                loss = hooks.loss(model(x), y)
                whole = loss if hooks.penalty is None else loss + hooks.penalty()
                value = float(whole.detach())
                if not math.isfinite(value):
                    model.eval()
                    raise DivergedError(
                        f"training diverges: the loss is {value} at step {step + 1} of {steps}; lower the "
                        f"rate below {options.rate:g}"
                    )
                whole.backward()  # type: ignore[no-untyped-call]
                hooks.after_backward(step)
                optimizer.step()
                hooks.after_step(step)
                recent = [*recent[-49:], value]
                step += 1
                if progress is not None and (step % max(1, steps // 50) == 0 or step == steps):
                    progress(step, steps, float(np.mean(recent)))
    model.eval()
    return float(np.mean(recent)) if recent else 0.0


def _optimizer(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=options.rate, momentum=0.9, weight_decay=options.weight_decay, foreach=True
        )
    return torch.optim.Adam(parameters, lr=options.rate, weight_decay=options.weight_decay, foreach=True)


def rate_factor(options: TrainingOptions, step: int, steps: int) -> float:
    """What the rate of a step is multiplied with by the schedule."""
    if options.schedule == "constant":
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))


def _batch(
    data: Dataset, chosen: NDArray[np.int64], model: TrainableGraph, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    raw = data.train_x[chosen]
    most, mirrored = AUGMENTS[data.options.augment]
    if most and raw.ndim == 4:
        raw = _shifted(raw, most, mirrored, generator)
    return _input(data, raw, model), torch.from_numpy(data.train_y[chosen])


def _shifted(
    raw: NDArray[np.int64], most: int, mirror: bool, generator: torch.Generator
) -> NDArray[np.int64]:
    """Each image moved by up to `most` pixels, empty where nothing comes in; every other one mirrored."""
    count, _, high, wide = raw.shape
    # What counts as empty is the raw 0, as in He et al. 2016, who pad before they subtract the mean.
    padded = np.pad(raw, ((0, 0), (0, 0), (most, most), (most, most)))
    draws = torch.randint(0, 2 * most + 1, (2, count), generator=generator).numpy()
    mirrored = (torch.rand(count, generator=generator).numpy() < 0.5) & mirror
    out = np.empty_like(raw)
    for i in range(count):
        part = padded[i, :, draws[0, i] : draws[0, i] + high, draws[1, i] : draws[1, i] + wide]
        out[i] = part[:, :, ::-1] if mirrored[i] else part
    return out


def _input(data: Dataset, raw: NDArray[np.int64], model: TrainableGraph) -> Tensor:
    shape = model.graph.values[model.graph.inputs[0]].shape[1:]
    return torch.from_numpy(data.real(raw).reshape(len(raw), *shape))


def logits(model: TrainableGraph, data: Dataset, x: NDArray[np.int64], *, batch: int = 500) -> Tensor:
    """What the model makes of raw images `x`, shape (N, …), in evaluation mode, without gradients."""
    model.eval()
    with torch.no_grad():
        parts = [model(_input(data, x[first : first + batch], model)) for first in range(0, len(x), batch)]
    return torch.cat(parts)


def accuracy(model: TrainableGraph, data: Dataset, *, part: str = "test") -> float:
    """The share of images of a part (train, validation, test) whose label has the greatest logit, 0…1."""
    x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
    found = logits(model, data, x).flatten(1).argmax(1).numpy()
    return float(np.mean(found == y))
