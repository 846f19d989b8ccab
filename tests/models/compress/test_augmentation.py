"""Images of a training are moved as asked for; images that decide anything stand still."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bitwright.models.architectures import architecture
from bitwright.models.compress.datasets import DataOptions, Dataset
from bitwright.models.compress.passes import make_pass
from bitwright.models.compress.subject import Subject
from bitwright.models.compress.training import TrainingOptions
from torch import Tensor

ONE = TrainingOptions(epochs=1.0, rate=1e-9, batch=50)


def dotted(augment: str) -> Dataset:
    """100 empty 8×8 pictures but for an L of three bright pixels, (3, 3), (4, 3) and (4, 4)."""
    x = np.zeros((100, 1, 8, 8), np.uint8)
    x[:, :, [3, 4, 4], [3, 3, 4]] = 255
    y = np.arange(100) % 10
    return Dataset(
        name="dotted", train_x=x, train_y=y, validation_x=x, validation_y=y, test_x=x, test_y=y,
        options=DataOptions(augment=augment),
    )  # fmt: skip


def seen(augment: str, own: str) -> set[tuple[tuple[int, int], ...]]:
    """Places of the bright pixels in what a pass `train` with `augment = own` gives the network."""
    subject = Subject.of(architecture("digits-mlp", seed=0), dotted(augment))
    found = set()

    def tap(x: Tensor) -> Tensor:
        for picture in x.detach().numpy().reshape(-1, 8, 8):
            found.add(tuple(zip(*(map(int, part) for part in np.nonzero(picture)), strict=True)))
        return x

    first = subject.model.graph.nodes[0]
    assert first.op == "Flatten"
    subject.model.taps.setdefault(first.outputs[0], []).append(tap)
    before = subject.data
    make_pass({"kind": "train", "augment": own}, "pass[0]", ONE).apply(
        Subject(model=subject.model, data=subject.data, training=ONE)
    )
    assert subject.data is before
    return found


def moved(most: int, mirrored: bool) -> set[tuple[tuple[int, int], ...]]:
    """All places the L can come to, where it isn't cut."""
    shapes = [[(3, 3), (4, 3), (4, 4)], *([[(3, 4), (4, 3), (4, 4)]] if mirrored else [])]
    steps = range(-most, most + 1)
    return {
        tuple((r + dr, c + dc) for r, c in shape) for shape in shapes for dr in steps for dc in steps
    }  # fmt: skip


def test_without_augmentation_images_stand_still() -> None:
    assert seen("none", "data") == {((3, 3), (4, 3), (4, 4))}
    assert seen("shift", "none") == {((3, 3), (4, 3), (4, 4))}


@pytest.mark.parametrize(("data", "own"), [("shift", "data"), ("none", "shift")])
def test_shifts_go_up_to_two_pixels_each_way_and_mirror_nothing(data: str, own: str) -> None:
    torch.set_num_threads(1)
    found = seen(data, own)
    # 25 places, 100 draws: some may be missing, none may be wrong.
    assert found <= moved(2, mirrored=False)
    assert len(found) > 15
    assert {max(r for r, _ in shape) for shape in found} == {2, 3, 4, 5, 6}
    assert {max(c for _, c in shape) for shape in found} == {2, 3, 4, 5, 6}


def test_crops_go_up_to_four_pixels_and_mirror_about_half() -> None:
    whole = {shape for shape in seen("crop-flip", "data") if len(shape) == 3}
    assert whole <= moved(4, mirrored=True)
    upright = whole & moved(4, mirrored=False)
    assert 5 < len(upright) < len(whole) - 5


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.augment must be one of none, shift, crop-flip, not 'turn'"):
        DataOptions(augment="turn")
    with pytest.raises(ValueError, match="augment must be data, none, shift, crop-flip, not 'turn'"):
        make_pass({"kind": "train", "augment": "turn"}, "pass[0]", ONE)
