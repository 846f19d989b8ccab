"""Training the digits network: in float, then at each form's levels, then as integers. Imports torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .agreement import Disagreement, find_disagreements
from .data import DIGITS_SCALE, DIGITS_ZERO_POINT, DigitsSplit, load_digits_split
from .export import to_network
from .forms import FORMS, Form
from .network import Network
from .qat import DigitsNet
from .reference import run_reference

__all__ = [
    "Progress",
    "TrainedDigits",
    "predict",
    "train_digits",
    "train_float",
    "train_forms",
    "train_qat",
]

Progress = Callable[[str, int, int], None]
"""Called after each epoch with the phase ("float" or the form's name), epochs done, and epochs in all."""

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Schedule:
    """How a form is trained."""

    epochs: int
    rate: float
    """Adam's, at the start."""
    frozen_part: float
    """Part of the epochs that runs with ranges and batch norm statistics frozen."""


_INT8_SCHEDULE = _Schedule(epochs=10, rate=1e-3, frozen_part=0.4)
_LOW_BIT_SCHEDULE = _Schedule(epochs=40, rate=6e-3, frozen_part=0.2)
"""Few levels take more and wider steps than rounding to 256 does; chosen on a part of the training images."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedDigits:
    """One form of the digits network: accuracy in float, in training and as integers, and the integers."""

    form: str
    """A name in `forms.FORMS`."""
    network: Network
    float_accuracy: float
    """On the test images, 0..1; of the float network that the training started from."""
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
    # Channels last: torch pools and normalises few channels several times as fast.
    images, labels = _real(data.train_images), torch.from_numpy(data.train_labels)
    images = images.contiguous(memory_format=torch.channels_last)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-5, foreach=True)
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
    form: str = "int8",
    seed: int = 0,
    epochs: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> DigitsNet:
    """A copy of `model`, trained on at the levels of a form; evaluates in float64.

    The first and the last layer have int8 weights in every form (−127..127, a scale for each output
    channel); hidden weights are the form's, see `quantizers.weight_levels`. int8 activations have a
    scale and zero point for each tensor. Ranges and batch norm statistics move in the first epochs and
    stand still in the last ones, so what is trained last is what `to_network` turns into integers.

    Args:
        model: float, from `train_float`; stays as it is.
        data: what to train on.
        form: a name in `forms.FORMS`.
        seed: of the images' order.
        epochs: at least 2; None is 10 for int8 and 40 for others.
        threads: for torch.
        progress: called after each epoch.

    Raises:
        ValueError: an unknown form, a model that is quantised already, epochs below 2 or threads below 1.
    Source: Courbariaux et al. 2015 (BinaryConnect) and 2016 (BinaryNet), Li and Liu 2016 (TWN).
    """
    chosen = _form(form)
    _check_counts(threads=threads)
    if model.form is not None:
        raise ValueError(f"training for a form starts from a float model, not from {model.form.name}")
    schedule = _INT8_SCHEDULE if form == "int8" else _LOW_BIT_SCHEDULE
    if epochs is None:
        epochs = schedule.epochs
    if epochs < 2:
        raise ValueError(f"epochs must be at least 2, not {epochs}")
    quantized = copy.deepcopy(model)
    quantized.quantize(chosen)
    frozen_from = max(1, epochs - max(1, round(epochs * schedule.frozen_part)))

    def before_epoch(epoch: int) -> None:
        quantized.set_observing(epoch < frozen_from)
        if epoch >= frozen_from:
            quantized.freeze_norms()

    with _reproducible(seed + 1, threads):
        _epochs(quantized, data, epochs, schedule.rate, form, progress, before_epoch)
    quantized.set_observing(False)
    return quantized.double()


def _form(name: str) -> Form:
    if name not in FORMS:
        raise ValueError(f"a form is one of {', '.join(FORMS)}, not {name!r}")
    return FORMS[name]


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


def train_digits(
    *,
    form: str = "int8",
    seed: int = 0,
    threads: int = 1,
    float_epochs: int = 15,
    qat_epochs: int | None = None,
    progress: Progress | None = None,
) -> TrainedDigits:
    """A digits network of one form, trained on real images; as `train_forms`."""
    return train_forms(
        (form,),
        seed=seed,
        threads=threads,
        float_epochs=float_epochs,
        qat_epochs=qat_epochs,
        progress=progress,
    )[form]


def train_forms(
    forms: Iterable[str] = tuple(FORMS),
    *,
    seed: int = 0,
    threads: int = 1,
    float_epochs: int = 15,
    qat_epochs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, TrainedDigits]:
    """The digits network in each form, by name: trained, as integers, and where the two disagree.

    All forms have the same layers and start from one float network; a form's result doesn't depend on
    which others are trained.

    Args:
        forms: names in `forms.FORMS`.
        seed: same seed, same networks, on one machine and library version.
        threads: for torch.
        float_epochs: at least 1.
        qat_epochs: at least 2, for every form; None is 10 for int8 and 40 for others.
        progress: called after each epoch.

    Raises:
        ValueError: an unknown form, too few epochs or threads.
    """
    names = list(dict.fromkeys(forms))
    for name in names:
        _form(name)
    data = load_digits_split()
    floating = train_float(data, seed=seed, epochs=float_epochs, threads=threads, progress=progress)

    def accuracy(logits: NDArray[Any]) -> float:
        return float(np.mean(logits.argmax(axis=1) == data.test_labels))

    results = {}
    for name in names:
        quantized = train_qat(
            floating, data, form=name, seed=seed, epochs=qat_epochs, threads=threads, progress=progress
        )
        network = to_network(quantized, name="digits" if name == "int8" else f"digits_{name}")
        with _reproducible(seed, threads):
            results[name] = TrainedDigits(
                form=name,
                network=network,
                float_accuracy=accuracy(predict(floating, data.test_images)),
                qat_accuracy=accuracy(predict(quantized, data.test_images)),
                int_accuracy=accuracy(run_reference(network, data.test_images)),
                disagreements=find_disagreements(quantized, network, data.test_images),
                test_images=data.test_images,
                test_labels=data.test_labels,
            )
    return results
