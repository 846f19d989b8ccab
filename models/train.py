"""Training the digits network: in float, then int8-aware, then as integers. Imports torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .agreement import Disagreement, find_disagreements
from .data import DIGITS_SCALE, DIGITS_ZERO_POINT, DigitsSplit, load_digits_split
from .fold import BatchNorm, fold
from .formats import Format
from .layers import Conv, Flatten, Layer, Linear, MaxPool, Requantize
from .network import Network, Tensor
from .numerics import Rounding
from .qat import DigitsNet, weight_levels, weight_scale
from .reference import run_reference
from .weights import WeightRecord

__all__ = [
    "Progress",
    "TrainedDigits",
    "predict",
    "to_network",
    "train_digits",
    "train_float",
    "train_qat",
]

Progress = Callable[[str, int, int], None]
"""Called after each epoch with the phase ("float" or "int8"), epochs done, and epochs in all."""

_BATCH = 64
_FROZEN_PART = 0.4
"""Part of the int8 epochs that runs with ranges and batch norm statistics frozen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedDigits:
    """A trained digits network in its three forms' accuracies, and the integer form itself."""

    network: Network
    float_accuracy: float
    """On the test images, 0..1."""
    qat_accuracy: float
    int_accuracy: float
    disagreements: tuple[Disagreement, ...]
    """Test images on which the integer network and the QAT network name different digits."""
    test_images: NDArray[np.int8]
    """Shape (B, 1, 8, 8), stored as the network's input."""
    test_labels: NDArray[np.int64]


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seeds torch and sets its threads, and puts both back."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _real(images: NDArray[np.int8]) -> torch.Tensor:
    return torch.from_numpy((images.astype(np.float32) - DIGITS_ZERO_POINT) * DIGITS_SCALE).float()


def _epochs(
    model: DigitsNet,
    data: DigitsSplit,
    epochs: int,
    rate: float,
    phase: str,
    progress: Progress | None,
    before_epoch: Callable[[int], None],
) -> None:
    images, labels = _real(data.train_images), torch.from_numpy(data.train_labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=rate / 50)
    for epoch in range(epochs):
        model.train()
        before_epoch(epoch)
        for part in torch.split(torch.randperm(len(images)), _BATCH):
            if len(part) < 2:  # batch norm needs two
                continue
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images[part]), labels[part])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        if progress is not None:
            progress(phase, epoch + 1, epochs)
    model.eval()


def train_float(
    data: DigitsSplit,
    *,
    seed: int = 0,
    epochs: int = 15,
    threads: int = 1,
    progress: Progress | None = None,
) -> DigitsNet:
    """A digits network trained in float32, in evaluation mode; the same for the same arguments.

    Args:
        data: what to train on.
        seed: of initial weights and of the images' order.
        epochs: passes over the training images, at least 1.
        threads: for torch.
        progress: called after each epoch.

    Raises:
        ValueError: epochs or threads below 1.
    """
    _check_counts(epochs=epochs, threads=threads)
    with _reproducible(seed, threads):
        model = DigitsNet()
        _epochs(model, data, epochs, 4e-3, "float", progress, lambda epoch: None)
    return model


def train_qat(
    model: DigitsNet,
    data: DigitsSplit,
    *,
    seed: int = 0,
    epochs: int = 10,
    threads: int = 1,
    progress: Progress | None = None,
) -> DigitsNet:
    """A copy of `model`, trained on with int8 weights and activations; evaluates in float64.

    Weights: −127..127, a scale for each output channel. Activations: −128..127, a scale and zero point
    for each tensor. Ranges and batch norm statistics move in the first epochs and stand still in the
    last ones, so what is trained last is what `to_network` turns into integers.

    Raises:
        ValueError: epochs below 2 or threads below 1.
    """
    _check_counts(threads=threads)
    if epochs < 2:
        raise ValueError(f"epochs must be at least 2, not {epochs}")
    quantized = copy.deepcopy(model)
    quantized.set_quantized(True)
    frozen_from = max(1, epochs - max(1, round(epochs * _FROZEN_PART)))

    def before_epoch(epoch: int) -> None:
        quantized.set_observing(epoch < frozen_from)
        if epoch >= frozen_from:
            quantized.freeze_norms()

    with _reproducible(seed + 1, threads):
        _epochs(quantized, data, epochs, 1e-3, "int8", progress, before_epoch)
    quantized.set_observing(False)
    return quantized.double()


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")


def predict(model: DigitsNet, images: NDArray[np.int8]) -> NDArray[np.float64]:
    """The logits of stored images, shape (B, 10), in float64.

    Args:
        model: from `train_float` or `train_qat`.
        images: stored pixels, shape (B, 1, 8, 8).
    """
    exact = copy.deepcopy(model).double().eval()
    real = (images.astype(np.float64) - DIGITS_ZERO_POINT) * DIGITS_SCALE
    with torch.no_grad():
        logits: NDArray[np.float64] = exact(torch.from_numpy(real)).numpy()
    return logits


def to_network(model: DigitsNet, *, name: str = "digits", rounding: Rounding = Rounding.HALF_EVEN) -> Network:
    """The integer network of a QAT model: batch norms folded, ReLU a clamp, each layer requantised.

    Args:
        model: from `train_qat`.
        name: of the network.
        rounding: half to even is what torch rounds by.

    Raises:
        ValueError: the model isn't quantised, or a layer's factors don't fit; names the layer.
    """
    if not all(block.quantized for _, block in model.named_blocks()):
        raise ValueError("only a model from train_qat has integers, not a float one")
    exact = copy.deepcopy(model).double().eval()
    int8, int32 = Format.parse("int8"), Format.parse("int32")
    last = Tensor(
        name="image",
        shape=(1, 8, 8),
        fmt=int8,
        scale=DIGITS_SCALE,
        zero_point=DIGITS_ZERO_POINT,
    )
    tensors, layers, weights = {last.name: last}, list[Layer](), dict[str, WeightRecord]()

    def add(tensor: Tensor, layer: Layer) -> Tensor:
        tensors[tensor.name] = tensor
        layers.append(layer)
        return tensor

    for key, block in exact.named_blocks():
        scale, zero_point = block.quantizer.parameters_of_range()
        low = zero_point if block.relu else int8.min
        if block.core.weight.dim() == 2 and len(last.shape) == 3:
            flat = _like(last, f"{key}.in", (int(np.prod(last.shape)),))
            last = add(flat, Flatten(name=f"{key}.flatten", input=last.name, output=flat.name))
        assert last.scale is not None
        folded = fold(
            weight_levels(block.core.weight).detach().numpy(),
            weight_scale=weight_scale(block.core.weight).numpy(),
            input_scale=last.scale,
            input_zero_point=last.zero_point,
            output_scale=scale,
            bias=None if block.core.bias is None else block.core.bias.detach().numpy(),
            norm=_norm(block.norm),
            layer=key,
        )
        weights[key] = WeightRecord.dense(
            layer=key, values=folded.values, fmt=int8, scales=folded.scales, bias=folded.bias
        )
        count = len(folded.bias)
        shape = (count, *last.shape[1:])  # 3×3, padding 1: the pixels stay
        core: Conv | Linear
        if block.core.weight.dim() == 4:
            core = Conv(name=key, input=last.name, output=f"{key}.acc", padding=(1, 1, 1, 1))
        else:
            core = Linear(name=key, input=last.name, output=f"{key}.acc")
        acc = add(Tensor(name=core.output, shape=shape, fmt=int32), core)
        out = Tensor(name=f"{key}.out", shape=shape, fmt=int8, scale=scale, zero_point=zero_point)
        last = add(
            out,
            Requantize(
                name=f"{key}.requantize",
                input=acc.name,
                output=out.name,
                multiplier=folded.multiplier,
                shift=folded.shift,
                rounding=rounding,
                low=low,
                high=int8.max,
            ),
        )
        if (pool := block.pool) > 1:
            pooled = _like(last, f"{key}.pooled", (count, shape[1] // pool, shape[2] // pool))
            last = add(
                pooled,
                MaxPool(
                    name=f"{key}.pool",
                    input=last.name,
                    output=pooled.name,
                    kernel=(pool, pool),
                    stride=(pool, pool),
                ),
            )
    return Network(
        name=name,
        input="image",
        output=last.name,
        tensors=tensors,
        layers=tuple(layers),
        weights=weights,
    )


def _like(tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(
        name=name,
        shape=shape,
        fmt=tensor.fmt,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )


def _norm(norm: torch.nn.BatchNorm2d | None) -> BatchNorm | None:
    if norm is None:
        return None
    assert norm.running_mean is not None and norm.running_var is not None

    def array(values: torch.Tensor) -> NDArray[Any]:
        return values.detach().double().numpy()

    return BatchNorm(
        gamma=array(norm.weight),
        beta=array(norm.bias),
        mean=array(norm.running_mean),
        variance=array(norm.running_var),
        epsilon=norm.eps,
    )


def train_digits(
    *,
    seed: int = 0,
    threads: int = 1,
    float_epochs: int = 15,
    qat_epochs: int = 10,
    progress: Progress | None = None,
) -> TrainedDigits:
    """A digits network trained on real images, its integer form, and where the forms disagree.

    Args:
        seed: same seed, same network, on one machine and library version.
        threads: for torch.
        float_epochs: at least 1.
        qat_epochs: at least 2.
        progress: called after each epoch.

    Raises:
        ValueError: too few epochs or threads.
    """
    data = load_digits_split()
    floating = train_float(data, seed=seed, epochs=float_epochs, threads=threads, progress=progress)
    quantized = train_qat(floating, data, seed=seed, epochs=qat_epochs, threads=threads, progress=progress)
    network = to_network(quantized)

    def accuracy(logits: NDArray[Any]) -> float:
        return float(np.mean(logits.argmax(axis=1) == data.test_labels))

    with _reproducible(seed, threads):
        return TrainedDigits(
            network=network,
            float_accuracy=accuracy(predict(floating, data.test_images)),
            qat_accuracy=accuracy(predict(quantized, data.test_images)),
            int_accuracy=accuracy(run_reference(network, data.test_images)),
            disagreements=find_disagreements(quantized, network, data.test_images),
            test_images=data.test_images,
            test_labels=data.test_labels,
        )
