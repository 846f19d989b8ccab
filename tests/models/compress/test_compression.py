from pathlib import Path

import numpy as np
import pytest
import torch
from bitwright.models.architectures import architecture
from bitwright.models.compress import compression
from bitwright.models.compress.checkpoint import read_checkpoint, write_checkpoint
from bitwright.models.compress.compression import Compressed, StoppedError, compress
from bitwright.models.compress.datasets import Dataset, load_dataset
from bitwright.models.compress.integer import integer_accuracy, to_integers
from bitwright.models.compress.recipe import Recipe, load_recipe
from bitwright.models.compress.subject import Encoding, Subject
from bitwright.models.compress.training import DivergedError, TrainingOptions, logits
from bitwright.models.compress.weight_codes import CodebookCode, FixedCode, PlanesCode, TwoScaleCode
from bitwright.models.graph import Graph, run_graph
from bitwright.models.importers.run import run_model
from bitwright.models.post_layers import Thresholds

TWO_PASSES = """
seed = 3
[data_options]
train = 400
test = 200
[training]
epochs = 2
rate = 4e-3
batch = 64
[[pass]]
kind = "train"
[[pass]]
kind = "train"
training = { epochs = 1 }
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def recipe_of(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return load_recipe(path)


def run(tmp_path: Path, recipe: Recipe, folder: Path | None) -> Compressed:
    data = load_dataset("digits", recipe.data_options, seed=recipe.seed)
    return compress(architecture("digits-mlp", seed=1), recipe, data, folder=folder)


def test_an_interrupted_run_goes_on_at_its_last_pass_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, TWO_PASSES)
    whole = run(tmp_path, recipe, None)
    folder = tmp_path / "passes"
    second = type(recipe.passes[1]).apply
    calls = []

    def interrupted(self: object, subject: Subject) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        second(self, subject)  # type: ignore[arg-type]

    monkeypatch.setattr(type(recipe.passes[1]), "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, recipe, folder)

    resumed = run(tmp_path, recipe, folder)

    assert resumed.resumed == 1 and len(calls) == 3
    assert [entry.name for entry in resumed.passes] == ["train", "train"]
    for layer in whole.subject.model.layers:
        assert np.array_equal(whole.subject.weight(layer.name), resumed.subject.weight(layer.name))


def test_a_changed_pass_is_not_taken_from_an_earlier_run(tmp_path: Path) -> None:
    folder = tmp_path / "passes"
    run(tmp_path, recipe_of(tmp_path, TWO_PASSES), folder)

    again = run(tmp_path, recipe_of(tmp_path, TWO_PASSES.replace("epochs = 2", "epochs = 1")), folder)

    assert again.resumed == 0


def test_a_diverging_pass_stops_the_run_and_keeps_what_came_before(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, TWO_PASSES.replace("{ epochs = 1 }", '{ rate = 1e30, optimizer = "sgd" }'))
    folder = tmp_path / "passes"

    with pytest.raises(
        StoppedError, match=r"pass\[1\] \(train\) diverged: .* lower the rate .* what the 1 before"
    ):
        run(tmp_path, recipe, folder)

    assert [path.name[:2] for path in folder.iterdir()] == ["01"]


def test_records_count_bytes_accuracy_and_products(tmp_path: Path) -> None:
    done = run(tmp_path, recipe_of(tmp_path, TWO_PASSES), None)

    # 64·64 + 64·32 + 32·10 weights, 64 + 32 + 10 biases, 4 bytes each.
    assert done.original_bytes == 4 * (4096 + 2048 + 320 + 106) == done.payload_bytes
    assert done.macs == done.kept_macs == 4096 + 2048 + 320
    assert done.passes[0].accuracy_after == done.passes[1].accuracy_before
    assert done.accuracy > 0.4 > done.original_accuracy


@pytest.fixture(scope="module")
def trained() -> Subject:
    torch.set_num_threads(1)
    data: Dataset = load_dataset("digits")
    subject = Subject.of(architecture("digits", seed=2), data)
    subject.train(TrainingOptions(epochs=4, rate=4e-3, batch=64))
    return subject


def test_the_module_computes_what_the_graph_does(trained: Subject) -> None:
    graph: Graph = trained.model.to_graph()
    x = trained.data.test_x[:8]

    ours = torch.softmax(logits(trained.model, trained.data, x), 1).numpy()

    theirs = run_graph(graph, {"input": trained.data.real(x)})[graph.outputs[0]]
    assert np.abs(ours - theirs).max() < 1e-5


def test_integers_tell_what_the_float_network_tells(trained: Subject) -> None:
    integers = to_integers(trained)

    assert trained.accuracy("test") > 0.9
    assert abs(integer_accuracy(trained, integers) - trained.accuracy("test")) < 0.01
    assert not any(integers.exact.values())


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_filters_that_are_all_but_dead_are_rescaled_like_the_others(trained: Subject, size: float) -> None:
    subject = Subject.of(trained.model.to_graph(), trained.data)
    weights = subject.weight("conv2")
    weights[:2] *= size
    subject.set_weight("conv2", weights)

    integers = to_integers(subject)

    # A scale far off would coarsen the output, or make a bias that float32 can't tell: a threshold a level.
    scales = integers.network.weights["conv2"].scales
    assert np.allclose(scales[:2], scales.max() / 1024)
    assert not [layer for layer in integers.network.layers if isinstance(layer, Thresholds)]
    assert abs(integer_accuracy(subject, integers) - subject.accuracy("test")) < 0.01


def test_coded_integers_reach_the_network_as_they_are(trained: Subject, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "s.npz", trained, {})
    subject = Subject.of(architecture("digits", seed=0), trained.data)
    read_checkpoint(tmp_path / "s.npz", subject)
    weights = subject.weight("conv2")
    signs = np.where(weights < 0, -1, 1).astype(np.int8)
    scales = np.abs(weights).reshape(16, -1).mean(1).astype(np.float64)
    subject.encode("conv2", FixedCode(integers=signs, scales=scales, fmt="binary"))

    integers = to_integers(subject)

    record = integers.network.weights["conv2"]
    # A norm with γ < 0 turns a whole filter's signs, which the requantisation makes good.
    turned = record.values.astype(int).reshape(16, -1) * signs.reshape(16, -1)
    assert record.fmt.name == "binary" and integers.exact["conv2"]
    assert np.all(turned == turned[:, :1])
    assert abs(integer_accuracy(subject, integers) - subject.accuracy("test")) < 0.02


def test_a_checkpoint_gives_masks_codes_and_weights_back(trained: Subject, tmp_path: Path) -> None:
    subject = Subject.of(trained.model.to_graph(), trained.data)
    subject.prune("conv3", np.random.default_rng(0).random((32, 16, 3, 3)) < 0.4)
    indices = np.random.default_rng(1).integers(0, 4, (10, 128))
    subject.encode("fc", CodebookCode(indices=indices, centroids=np.array([0.0, -0.1, 0.1, 0.3])))
    write_checkpoint(tmp_path / "s.npz", subject, {"a": 1})
    other = Subject.of(architecture("digits", seed=0), trained.data)

    record = read_checkpoint(tmp_path / "s.npz", other)

    assert record == {"a": 1}
    assert np.array_equal(other.masks["conv3"].kept, subject.masks["conv3"].kept)
    assert np.array_equal(other.weight("fc"), subject.weight("fc"))
    x = trained.data.test_x[:4]
    assert torch.equal(logits(other.model, other.data, x), logits(subject.model, subject.data, x))


def test_a_damaged_checkpoint_counts_as_none(trained: Subject, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    write_checkpoint(path, trained, {})
    path.write_bytes(path.read_bytes()[:-100])

    assert read_checkpoint(path, trained) is None


def test_cut_weights_stay_cut_in_training(trained: Subject) -> None:
    subject = Subject.of(trained.model.to_graph(), trained.data)
    kept = np.random.default_rng(5).random((32, 16, 3, 3)) < 0.3
    subject.prune("conv3", kept)

    subject.train(TrainingOptions(epochs=0.2, rate=1e-2))

    assert np.all(subject.weight("conv3")[~kept] == 0) and np.all(subject.weight("conv3")[kept] != 0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "a recipe needs passes"),
        ("x = 1", "x is no key of a recipe"),
        ("[[pass]]\nkind = 'melt'", r"pass\[0\].kind must be one of .*train.*, not 'melt'"),
        (
            "[[pass]]\nkind = 'train'\nsize = 3",
            r"pass\[0\].size is no key; there are augment, layers, training",
        ),
        (
            "[[pass]]\nkind = 'train'\n[pass.training]\nrate = 'x'",
            r"pass\[0\].training.rate must be of type float",
        ),
        (
            "[training]\nrate = -1\n[[pass]]\nkind = 'train'",
            "training: training.rate must be finite and above 0",
        ),
        (
            "[training]\nbatch = true\n[[pass]]\nkind = 'train'",
            "training.batch must be of type int, not True",
        ),
        ("seed = -1\n[[pass]]\nkind = 'train'", "seed must be a whole number of 0 or more"),
        ("[[pass]", "not TOML"),
    ],
)
def test_a_faulty_recipe_is_refused_with_the_keys_path(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        recipe_of(tmp_path, text)


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        (
            '["conv9"]',
            r"pass\[0\] \(train\): train: the selector 'conv9' matches no layer; there are fc1, fc2, fc3",
        ),
        ('["fc1", "!linear"]', r"the selectors fc1, !linear leave no layer"),
    ],
)
def test_a_selector_without_layers_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: str, fault: str
) -> None:
    recipe = recipe_of(
        tmp_path, TWO_PASSES.replace('kind = "train"\n[[', f'kind = "train"\nlayers = {layers}\n[[')
    )
    monkeypatch.setattr(compression.Subject, "train", None)

    with pytest.raises(ValueError, match=fault):
        run(tmp_path, recipe, None)


def test_a_network_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"lenet5 takes inputs of shape \(1, 28, 28\), data digits has \(1, 8, 8\)"
    ):
        Subject.of(architecture("lenet5", seed=0), load_dataset("digits"))


def test_a_loss_that_is_not_finite_is_a_divergence(trained: Subject) -> None:
    subject = Subject.of(trained.model.to_graph(), trained.data)

    with pytest.raises(DivergedError, match="training diverges: the loss is"):
        subject.train(TrainingOptions(epochs=1, rate=1e30, optimizer="sgd"))


def two_scale(weights: np.ndarray) -> TwoScaleCode:
    """Signs of what exceeds half the mean size, with a scale for each side that differs by a third."""
    signs = (np.sign(weights) * (np.abs(weights) > 0.5 * np.abs(weights).mean())).astype(np.int8)
    size = np.full(len(weights), np.abs(weights)[signs != 0].mean())
    return TwoScaleCode(signs=signs, positive=size, negative=0.75 * size)


def sketch(weights: np.ndarray) -> PlanesCode:
    """Three planes, each the sign of what those before leave, its scale the mean size of that."""
    left, planes, scales = weights.astype(np.float64), [], []
    for _ in range(3):
        plane = np.where(left < 0, -1, 1).astype(np.int8)
        scale = np.abs(left).reshape(len(left), -1).mean(1)
        left = left - plane * scale.reshape(-1, *[1] * (weights.ndim - 1))
        planes.append(plane)
        scales.append(scale)
    return PlanesCode(planes=np.stack(planes), scales=np.stack(scales))


@pytest.mark.parametrize("kind", ["sketch", "two scales"])
@pytest.mark.parametrize("layer", ["conv2", "fc"])
def test_planes_run_as_planes_and_tell_what_the_float_network_tells(
    trained: Subject, kind: str, layer: str
) -> None:
    subject = Subject.of(trained.model.to_graph(), trained.data)
    weights = subject.weight(layer)
    subject.encode(layer, sketch(weights) if kind == "sketch" else two_scale(weights))
    ours = logits(subject.model, subject.data, subject.data.test_x)

    integers = to_integers(subject)

    step = integers.model.cores[0]
    planes = 3 if kind == "sketch" else 2
    assert integers.exact[layer] and integers.network.weights[layer].values.shape[0] == planes * len(weights)
    assert integers.network.weights[layer].fmt.name == ("binary" if kind == "sketch" else "ternary")
    graph = integers.model.graph
    real = subject.data.real(subject.data.test_x)
    theirs = run_model(integers.model, {"input": real})[graph.outputs[0]]
    # int8 activations: a step of the logits is (greatest − least) / 255; a few steps of error add up.
    step_size = integers.network.tensors[integers.network.output].scale
    assert step_size is not None and step.network is integers.network
    assert np.abs(theirs - ours.numpy()).mean() < 2 * step_size
    assert np.mean(theirs.argmax(1) == ours.numpy().argmax(1)) > 0.98


def test_masks_and_encodings_reach_the_records(trained: Subject) -> None:
    subject = Subject.of(trained.model.to_graph(), trained.data)
    kept = np.random.default_rng(2).random((32, 16, 3, 3)) < 0.2
    subject.prune("conv3", kept)
    indices = np.where(kept, np.random.default_rng(1).integers(1, 4, kept.shape), 0)
    subject.encode("conv3", CodebookCode(indices=indices, centroids=np.array([0.0, -0.1, 0.1, 0.3])))
    subject.encodings["conv3"] = Encoding(name="relative4+huffman")
    subject.prune("conv2", np.repeat(np.arange(16) % 2 == 0, 8 * 9).reshape(16, 8, 3, 3), "filter")

    record = to_integers(subject).network.weights

    assert record["conv3"].encoding == "relative4+huffman" and record["conv3"].codebook is not None
    assert np.array_equal(record["conv3"].mask, kept)
    assert record["conv2"].granularity == "filter" and record["conv2"].mask is not None
    assert record["conv2"].mask.ravel().tolist() == [True, False] * 8
    assert len(record["conv3"].payload) < 32 * 16 * 9 * 0.2 * 1.2
