import subprocess
import sys

import numpy as np
import pytest
import torch
from bitwright.models.agreement import compare_layers, find_disagreements
from bitwright.models.data import DIGITS_SCALE, DIGITS_ZERO_POINT, load_digits_split
from bitwright.models.export import to_network
from bitwright.models.network import Conv, Linear
from bitwright.models.reference import run_reference
from bitwright.models.train import TrainedDigits, predict, train_digits, train_float, train_qat
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def trained() -> TrainedDigits:
    return train_digits(seed=0, threads=1)


def test_the_split_holds_every_digit_once_and_exactly() -> None:
    data = load_digits_split()
    images = np.concatenate([data.test_images, data.train_images]).astype(np.int64)
    labels = np.concatenate([data.test_labels, data.train_labels])
    grey = (images - DIGITS_ZERO_POINT) * DIGITS_SCALE * 16
    original, targets = load_digits(return_X_y=True)
    ours = sorted((tuple(np.rint(g.ravel()).astype(int)), int(y)) for g, y in zip(grey, labels, strict=True))
    assert ours == sorted((tuple(g.astype(int)), int(y)) for g, y in zip(original, targets, strict=True))
    assert np.bincount(data.test_labels).min() > 25


def test_integers_recognise_digits_as_well_as_floats(trained: TrainedDigits) -> None:
    assert trained.float_accuracy >= 0.97
    assert trained.int_accuracy >= trained.float_accuracy - 0.01
    results = run_reference(trained.network, trained.test_images).argmax(axis=1)
    assert trained.int_accuracy == np.mean(results == trained.test_labels)


def test_every_disagreement_is_explained_by_rounding(trained: TrainedDigits) -> None:
    assert all(case.explained for case in trained.disagreements)


def test_each_integer_layer_equals_its_qat_layer_up_to_the_documented_rounding() -> None:
    # Barely trained and with norms scaled to both signs, so that rounding has something to do.
    data = load_digits_split()
    model = train_qat(train_float(data, seed=3, epochs=1), data, seed=3, epochs=2)
    with torch.no_grad():
        for _, block in model.named_blocks():
            if block.norm is not None:
                block.norm.weight[::3] *= -1
                block.norm.weight[0] = 0
    network = to_network(model)
    images = np.concatenate([data.test_images, data.train_images])
    differences = compare_layers(model, network, images)
    assert [d.layer for d in differences] == [k.name for k in network.layers if isinstance(k, Conv | Linear)]
    assert all(d.largest <= 1 and d.within_bound for d in differences)

    named = predict(model, images).argmax(axis=1)
    found = run_reference(network, images).argmax(axis=1)
    listed = find_disagreements(model, network, images)
    assert [d.image for d in listed] == np.flatnonzero(named != found).tolist()


def test_the_same_seed_trains_the_same_network() -> None:
    data = load_digits_split()
    calls: list[tuple[str, int, int]] = []

    def train() -> list[bytes]:
        model = train_qat(
            train_float(data, seed=5, epochs=1),
            data,
            seed=5,
            epochs=2,
            progress=lambda phase, done, total: calls.append((phase, done, total)),
        )
        return [record.payload for record in to_network(model).weights.values()]

    assert train() == train()
    assert calls == [("int8", 1, 2), ("int8", 2, 2)] * 2


def test_training_leaves_the_callers_torch_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    train_float(load_digits_split(), epochs=1)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_a_float_model_has_no_integers() -> None:
    with pytest.raises(ValueError, match="only a model from train_qat"):
        to_network(train_float(load_digits_split(), epochs=1))
    with pytest.raises(ValueError, match="epochs must be at least 1, not 0"):
        train_float(load_digits_split(), epochs=0)


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, bitwright.models, bitwright.models.zoo\n"
        "print([m for m in ('torch', 'sklearn', 'numba') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
