import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitwright.models.data import DIGITS_SCALE, DIGITS_ZERO_POINT, DigitsSplit, load_digits_split
from bitwright.models.export import to_network
from bitwright.models.forms import FORMS
from bitwright.models.graph import Graph, run_graph, trace_graph
from bitwright.models.importers import HostStep, run_model, trace_model
from bitwright.models.importers.torch_operators import OPERATORS
from bitwright.models.importers.torch_program import import_torch, load_torch
from bitwright.models.qat import DigitsNet
from bitwright.models.reference import run_reference
from bitwright.models.storage import ImportModelError
from bitwright.models.train import predict, train_float, train_qat
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Does(nn.Module):
    """A module that applies a function, with a few weights at hand."""

    def __init__(self, function: Callable[["Does", Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.randn(6, 8))
        self.kernel = nn.Parameter(torch.randn(6, 4, 3, 2))
        self.prelu = nn.PReLU(8)
        self.register_buffer("steps", torch.randn(3, 8, 1, 1))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def assert_runs_as_torch(module: nn.Module, x: Tensor) -> Graph:
    """The graph, once its outputs are to 1e-4 torch's."""
    module.eval()
    graph = load_torch(module, x)
    with torch.no_grad():
        expected = module(x.clone())
    outputs = run_graph(graph, {graph.inputs[0]: x.numpy()})
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for name, values in zip(graph.outputs, wanted, strict=True):
        np.testing.assert_allclose(outputs[name], values.numpy(), rtol=1e-4, atol=1e-5)
    return graph


IMAGE: dict[str, Callable[[Does, Tensor], Any]] = {
    "conv": lambda m, x: F.conv2d(x, m.w.view(6, 8, 1, 1), m.w[:, 0], stride=2, padding=(1, 2)),
    "conv_same": lambda m, x: F.conv2d(x, m.kernel, padding="same", dilation=(1, 2), groups=2),
    "linear_on_pixels": lambda m, x: F.linear(x.permute(0, 2, 3, 1), m.w, m.w[:, 0]),
    "relu6": lambda m, x: F.relu6(3 * x) + F.relu(x),
    "leaky": lambda m, x: F.leaky_relu(x, 0.2),
    "prelu": lambda m, x: m.prelu(x),
    "clamp": lambda m, x: torch.cat([x.clamp(min=-0.5), x.clamp(max=0.5), x.clamp(-0.1, 0.2)], 1),
    "hardtanh": lambda m, x: F.hardtanh(x, -0.5, 0.25),
    "clamp_one_side": lambda m, x: torch.clamp_max(torch.clamp_min(x, -0.2), 0.3),
    "sigmoid": lambda m, x: x.sigmoid() * torch.tanh(x),
    "hard": lambda m, x: F.hardswish(4 * x) + F.hardsigmoid(4 * x) + F.silu(x),
    "softmax": lambda m, x: (F.softmax(x, 1), F.log_softmax(x, -1)),
    "max_pool": lambda m, x: F.max_pool2d(x, 3, 2, 1),
    "max_pool_ceil": lambda m, x: F.max_pool2d(x, (3, 2), 2, ceil_mode=True),
    "max_pool_dilated": lambda m, x: F.max_pool2d(x, 2, 1, dilation=2),
    "avg_pool": lambda m, x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool_inside": lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool_ceil": lambda m, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "adaptive": lambda m, x: F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1),
    "adaptive_parts": lambda m, x: F.adaptive_avg_pool2d(x[..., :6], 3),
    "mean_of_pixels": lambda m, x: x.mean((2, 3)),
    "mean_kept": lambda m, x: x.mean((-1, -2), keepdim=True),
    "mean_of_rows": lambda m, x: x.mean(2) + x.sum((2,)),
    "arithmetic": lambda m, x: 2 - (x * 3 - 1.5) / 2 + x,
    "cat": lambda m, x: torch.cat([x, x * 2], dim=-3),
    "reshape": lambda m, x: x.view(1, 4, 2, -1).reshape(-1, 2).flatten(),
    "flatten": lambda m, x: torch.flatten(x, 1, 2),
    "squeeze": lambda m, x: x[:, :1].squeeze(1).unsqueeze(-1).unsqueeze(0).squeeze(),
    "transpose": lambda m, x: x.transpose(1, -1).contiguous().permute(0, 2, 1, 3),
    "slice": lambda m, x: x[:, 1:-1, ::2, 3:],
    "split": lambda m, x: x.chunk(3, 1)[2] + x.split([4, 2, 2], 1)[1] + x.split(2, 1)[0],
    "pad": lambda m, x: F.pad(F.pad(x, (1, 0, 2, 1), value=0.5), (0, 0, 0, 0, 1, 1)),
    "pad_mirrored": lambda m, x: F.pad(F.pad(x, (1, 2, 3, 0), "reflect"), (1, 1, 0, 2), "replicate"),
    "upsample": lambda m, x: F.interpolate(x, scale_factor=2),
    "upsample_to": lambda m, x: F.interpolate(x, size=(13, 10)),
    "dropout": lambda m, x: F.dropout2d(F.dropout(x, 0.3, m.training), 0.5, m.training),
    "shuffle": lambda m, x: F.channel_shuffle(x, 4),
    "buffer": lambda m, x: x + m.steps[1],
    "constant": lambda m, x: x * torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
    "matmul": lambda m, x: x.mean((2, 3)) @ m.w.t(),
    "relu_in_place_on_the_shortcut": lambda m, x: F.relu(y := x * 2, inplace=True) + y,
    "dynamic_flatten": lambda m, x: x.view(x.size(0), -1),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGE)
def test_operators_on_pictures_run_as_in_torch(name: str) -> None:
    torch.manual_seed(1)
    assert_runs_as_torch(Does(IMAGE[name]), torch.randn(1, 8, 9, 7))


def test_operators_on_series_run_as_in_torch() -> None:
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv1d(3, 8, 5, stride=2, padding=2, dilation=2),
        nn.BatchNorm1d(8),
        nn.PReLU(8),
        nn.MaxPool1d(3, 2, 1),
        nn.Conv1d(8, 8, 3, padding="same", groups=8, bias=False),
        nn.AvgPool1d(2),
        nn.Upsample(scale_factor=3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.BatchNorm1d(4),
        nn.Softmax(-1),
    )
    train_norms(module)
    assert_runs_as_torch(module, torch.randn(1, 3, 64))


def train_norms(module: nn.Module) -> None:
    """Gives batch norms statistics and factors other than 0 and 1."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        )
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = x + self.block(x)
        pooled: Tensor = self.fc(self.drop(x.mean((2, 3))))
        return pooled


def residual() -> Residual:
    torch.manual_seed(3)
    module = Residual()
    train_norms(module)
    return module.eval()


IMAGE_OF_EIGHT = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)


def saved(path: Path, module: nn.Module | None = None, **options: Any) -> Path:
    program = torch.export.export(module or residual(), (IMAGE_OF_EIGHT.repeat(2, 1, 1, 1),), **options)
    torch.export.save(program, path)
    return path


def test_a_module_in_training_is_imported_as_it_evaluates_and_stays_in_training() -> None:
    module = residual().train()
    graph = load_torch(module, IMAGE_OF_EIGHT)
    assert module.training
    expected = module.eval()(IMAGE_OF_EIGHT).detach().numpy()
    (made,) = run_graph(graph, {graph.inputs[0]: IMAGE_OF_EIGHT.numpy()}).values()
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)


def test_layers_and_weights_are_called_as_in_the_module() -> None:
    graph = load_torch(residual(), IMAGE_OF_EIGHT)
    assert [node.name for node in graph.nodes if node.op in ("Conv", "Gemm", "BatchNormalization")] == [
        "conv1", "bn1", "block.0", "block.2", "fc",
    ]  # fmt: skip
    state = {k: v for k, v in residual().state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, values in state.items():
        np.testing.assert_array_equal(graph.constants[name], values.numpy())


def test_a_saved_program_of_any_batch_is_the_module(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt2", dynamic_shapes=({0: torch.export.Dim("batch")},))
    graph, same = load_torch(path), load_torch(residual(), IMAGE_OF_EIGHT)
    assert graph.name == "net" and graph.values[graph.inputs[0]].shape == (1, 3, 8, 8)
    assert [(n.op, n.name, n.inputs, n.attributes) for n in graph.nodes] == [
        (n.op, n.name, n.inputs, n.attributes) for n in same.nodes
    ]
    for name, values in same.constants.items():
        np.testing.assert_array_equal(graph.constants[name], values)


def test_a_program_with_decomposed_operators_runs_as_torch(tmp_path: Path) -> None:
    program = torch.export.export(residual(), (IMAGE_OF_EIGHT,)).run_decompositions()
    graph = load_torch(program)
    expected = residual()(IMAGE_OF_EIGHT).detach().numpy()
    (made,) = run_graph(graph, {graph.inputs[0]: IMAGE_OF_EIGHT.numpy()}).values()
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)


def test_weights_that_share_memory_are_read_where_they_lie(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = torch.arange(48.0).reshape(4, 12)
            self.a = nn.Parameter(whole[:, 2:10:2])
            self.b = nn.Parameter(whole.t()[1:5])

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(x, self.a), self.b)

    path = tmp_path / "tied.pt2"
    torch.export.save(torch.export.export(Tied(), (torch.ones(1, 4),)), path)
    graph = load_torch(path)
    np.testing.assert_array_equal(graph.constants["a"], Tied().a.detach().numpy())
    np.testing.assert_array_equal(graph.constants["b"], Tied().b.detach().numpy())


def refusal(source: Any, example: Tensor | None = None) -> str:
    with pytest.raises(ImportModelError) as caught:
        load_torch(source, example)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: torch.fft.fft(x).real, "the operator aten.fft_fft.default is not supported"),
        (lambda m, x: F.conv_transpose2d(x, m.w.view(8, 6, 1, 1)), "aten.conv_transpose2d.input"),
        (lambda m, x: F.dropout(x, 0.5, True), "its dropout is in training: export it after .eval()"),
        (lambda m, x: F.batch_norm(x, None, None, None, None, True), "its batch norm is in training"),
        (lambda m, x: F.adaptive_avg_pool2d(x, 4), "from (9, 7) to (4, 4) has windows of different sizes"),
        (lambda m, x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override must be None, not 3"),
        (lambda m, x: F.pad(x, (1, 1, 0, 0), "circular"), "mode must be one of constant, reflect, replicate"),
        (lambda m, x: torch.add(x, x, alpha=2), "alpha must be 1, not 2"),
        (lambda m, x: x.double(), "a change of type from float32 to float64 is not supported"),
        (lambda m, x: ((y := x * 2).view(-1), y.relu_())[0], "a tensor that an operator wrote over"),
        (lambda m, x: x[x > 0], "the operator aten.gt.Scalar is not supported"),
        (lambda m, x: m.steps.add_(1) * x[:, 0], "it changes the program's state 'b_steps'"),
        (lambda m, x: x if float(x.max()) > 0 else -x, "torch can't export it: "),
    ],
)  # fmt: skip
def test_what_is_not_accepted_is_refused_with_call_and_reason(
    function: Callable[[Does, Tensor], Any], message: str
) -> None:
    assert message in refusal(Does(function), torch.randn(1, 8, 9, 7))


def test_a_program_that_updates_its_buffers_is_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x * self.count

    program = torch.export.export(Counts(), (torch.ones(1, 3),))
    assert "it changes the program's state 'b_count': export it after .eval()" in refusal(program)
    message = "the program changes its state ('buffer_mutation'): export it after .eval()"
    assert refusal(program.run_decompositions()).endswith(message)


def test_a_fixed_batch_and_a_symbolic_side_are_refused(tmp_path: Path) -> None:
    fixed = refusal(saved(tmp_path / "fixed.pt2"))
    assert fixed.endswith("'x': its batch of 2 is fixed; export with a batch of 1 or any")
    side = saved(tmp_path / "side.pt2", dynamic_shapes=({2: torch.export.Dim("side")},))
    assert "axis 2 has no fixed size; only the batch may vary" in refusal(side)


def test_arguments_that_do_not_go_together_are_type_errors(tmp_path: Path) -> None:
    message = "^a module needs an example_input, files and programs take none$"
    program = torch.export.export(residual(), (IMAGE_OF_EIGHT,))
    for source, example in (
        (residual(), None), (tmp_path / "x.pt2", IMAGE_OF_EIGHT), (program, IMAGE_OF_EIGHT)
    ):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            load_torch(source, example)


# Damaged and hostile files


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("torch") / "net.pt2"
    return saved(path, dynamic_shapes=({0: torch.export.Dim("batch")},)).read_bytes()


def forged(
    data: bytes,
    path: Path,
    change: Callable[[str, bytes], bytes | None],
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A copy of an archive with parts changed; None leaves a part out."""
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(path, "w", compression) as target:
        for name in source.namelist():
            if (part := change(name.partition("/")[2], source.read(name))) is not None:
                target.writestr(name, part)
    return path


def in_json(where: str, change: Callable[[Any], Any]) -> Callable[[str, bytes], bytes]:
    def run(name: str, data: bytes) -> bytes:
        if name != where:
            return data
        table = json.loads(data)
        change(table)
        return json.dumps(table).encode()

    return run


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def set_weight(key: str, value: Any) -> Callable[[str, bytes], bytes]:
    def change(table: Any) -> None:
        entry = table["config"]["conv1.weight"]
        entry.update({key: value}) if key in entry else entry["tensor_meta"].update({key: value})

    return in_json(WEIGHTS, change)


def nodes_of(table: Any) -> Any:
    return table["graph_module"]["graph"]["nodes"]


def set_node(index: int, key: str, value: Any) -> Callable[[str, bytes], bytes]:
    return in_json(MODEL, lambda table: nodes_of(table)[index].update({key: value}))


SIZES = [{"as_int": n} for n in (8, 3, 3, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, d: None if n == "archive_format" else d, "it is no .pt2 file of torch.export.save"),
        (lambda n, d: b"big" if n == "byteorder" else d, "its byte order must be little"),
        (lambda n, d: None if n == MODEL else d, "it must hold one program, not 0"),
        (lambda n, d: None if n == "data/weights/weight_0" else d, "it lacks the part 'data/weights/"),
        (lambda n, d: d[:-4] if n == "data/weights/weight_0" else d, "but 215 values are stored"),
        (lambda n, d: b"{" * 100_000 if n == MODEL else d, "Expecting property name"),
        (lambda n, d: b"[" * 100_000 if n == MODEL else d, "its program is nested too deeply"),
        (lambda n, d: b"\xff" if n == MODEL else d, "can't decode byte 0xff"),
        (in_json(MODEL, lambda t: t["schema_version"].update(major=9)), "its schema version is 9; 8 is read"),
        (in_json(MODEL, lambda t: t.pop("graph_module")), "its program lacks 'graph_module'"),
        (set_weight("use_pickle", True), "'conv1.weight' is pickled, and nothing is unpickled here"),
        (set_weight("layout", 1), "'conv1.weight' must be a dense tensor, not of layout 1"),
        (set_weight("dtype", 13), "has torch's element type 13, which NumPy lacks"),
        (set_weight("sizes", [{"as_int": 1 << 20}] * 4), "claims shape"),
        (set_weight("sizes", [{"as_int": -8}, *SIZES[1:]]), "a size must be 0 to 2^28, not -8"),
        (set_weight("strides", [{"as_int": 1 << 27}] * 4), "reaches beyond the 216 values"),
        (set_weight("storage_offset", {"as_int": 1}), "reaches beyond the 216 values"),
        (set_weight("path_name", "../../../../etc/passwd"), "it lacks the part 'data/weights/../"),
        (set_weight("sizes", [{"as_int": 4}, {"as_int": 6}, *SIZES[2:]]), "don't fit (1, 3, 8, 8)"),
        (set_node(0, "target", "torch.ops.other.run.default"), "is none of torch's own (aten)"),
        (set_node(0, "target", "os.system"), "the operator 'os.system' is none of torch's own (aten)"),
        (set_node(0, "inputs", []), "call 'conv2d': convolutions of one or two axes are supported"),
        (set_node(1, "outputs", [{"as_tensor": {"name": "x"}}]), "the name 'x' stands twice"),
        (in_json(MODEL, lambda t: nodes_of(t).reverse()), "is made by no call before it"),
        (in_json(MODEL, lambda t: nodes_of(t).pop(0)), "is made by no call before it"),
    ],
)  # fmt: skip
def test_a_forged_archive_is_refused_in_one_line(
    archive: bytes, tmp_path: Path, change: Callable[[str, bytes], bytes | None], message: str
) -> None:
    path = forged(archive, tmp_path / "net.pt2", change)
    text = refusal(path)
    assert text.startswith(f"{path}: ") and message in text


def test_a_compressed_part_is_refused_before_it_is_unpacked(archive: bytes, tmp_path: Path) -> None:
    path = forged(
        archive,
        tmp_path / "net.pt2",
        lambda name, data: bytes(1 << 28) if name == "data/weights/weight_0" else data,
        zipfile.ZIP_DEFLATED,
    )
    assert "is compressed, which torch.export.save never does" in refusal(path)


def test_files_of_older_torch_and_other_files_are_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.pt2"
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("version", "8.1")
    assert "torch 2.7 or older, with pickled weights: export it again" in refusal(old)
    other = tmp_path / "other.pt2"
    other.write_bytes(b"no archive")
    assert "it is no .pt2 file, or a damaged one" in refusal(other)
    assert refusal(tmp_path / "none.pt2").endswith("none.pt2: No such file or directory")


def test_nothing_in_a_file_is_unpickled(archive: bytes, tmp_path: Path) -> None:
    bomb = b"cos\nsystem\n(S'touch bomb'\ntR."
    path = forged(archive, tmp_path / "net.pt2", lambda n, d: bomb if n.endswith("model.pt") else d)
    load_torch(path)
    assert not (Path.cwd() / "bomb").exists()


def test_cut_and_flipped_files_are_refused_in_one_line_or_read(archive: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    path = tmp_path / "net.pt2"
    refused = 0
    for case in range(120):
        data = bytearray(archive[: int(rng.integers(len(archive)))] if case % 4 == 0 else archive)
        for _ in range(int(rng.integers(1, 4))):
            if data:
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            load_torch(path)
        except ImportModelError as fault:
            assert "\n" not in str(fault) and str(fault).startswith(f"{path}: ")
            refused += 1
    assert refused >= 30  # every file that was cut


def test_damaged_programs_with_right_checksums_are_refused_in_one_line(
    archive: bytes, tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    refused = 0
    for _ in range(120):

        def damage(name: str, data: bytes) -> bytes:
            if name not in (MODEL, WEIGHTS):
                return data
            text = bytearray(data)
            for _ in range(int(rng.integers(1, 6))):
                text[int(rng.integers(len(text)))] = int(rng.choice(list(b'0123456789-"{}[],:aez')))
            return bytes(text)

        path = forged(archive, tmp_path / "net.pt2", damage)
        try:
            load_torch(path)
        except ImportModelError as fault:
            assert "\n" not in str(fault)
            refused += 1
    assert refused > 20


def test_every_accepted_operator_names_the_onnx_operator_that_does_its_work() -> None:
    from bitwright.models.graph.evaluate import OPERATORS as EVALUATED

    assert {op for op, _ in OPERATORS.values()} - {""} <= set(EVALUATED)
    for key in OPERATORS:
        word, _, overload = key.partition(".")
        assert hasattr(getattr(torch.ops.aten, word), overload)


def test_a_float_module_is_a_model_that_the_host_runs() -> None:
    model = import_torch(residual(), IMAGE_OF_EIGHT, name="small")
    assert model.graph.name == "small" and model.cores == ()
    expected = residual()(IMAGE_OF_EIGHT).detach().numpy()
    (made,) = run_model(model, {model.graph.inputs[0]: IMAGE_OF_EIGHT.numpy()}).values()
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def digits() -> DigitsSplit:
    return load_digits_split()


@pytest.fixture(scope="module")
def floating(digits: DigitsSplit) -> DigitsNet:
    return train_float(digits, epochs=2)


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[] if form == "ternary" else [pytest.mark.slow]) for form in FORMS]
)
def test_a_module_trained_with_our_quantisers_becomes_its_integer_network(
    digits: DigitsSplit, floating: DigitsNet, form: str
) -> None:
    trained = train_qat(floating, digits, form=form, epochs=2)
    network = to_network(trained)
    stored = digits.test_images[:60]
    images = ((stored.astype(np.float32) - DIGITS_ZERO_POINT) * DIGITS_SCALE).astype(np.float32)
    model = import_torch(trained)
    (core,) = model.cores
    (logits,) = run_model(model, {"image": images}).values()
    output = core.network.tensors[core.network.output]
    integers = run_reference(network, stored).astype(np.float64) - output.zero_point
    np.testing.assert_allclose(logits, integers * output.scale, rtol=1e-5)
    # The graph in float is what the trained module computes; a level may round the other way in float32.
    (real,) = run_graph(model.graph, {"image": images}).values()
    differing = np.abs(real - predict(trained, stored)) > output.scale / 2
    assert differing.mean() < 0.02
    named = {node.name for node in model.graph.nodes}
    assert (
        set(core.nodes) | {n.name for s in model.steps if isinstance(s, HostStep) for n in s.nodes} == named
    )


def test_values_inside_the_core_are_the_graphs(digits: DigitsSplit, floating: DigitsNet) -> None:
    trained = train_qat(floating, digits, form="ternary", epochs=2)
    model = import_torch(trained)
    images = ((digits.test_images[:20] - np.float32(DIGITS_ZERO_POINT)) * DIGITS_SCALE).astype(np.float32)
    (core,) = model.cores
    inside = trace_model(model, {"image": images})
    expected = trace_graph(model.graph, {"image": images}, tuple(core.tensors))
    assert {"image.stored", "conv1.levels", "conv2.levels", "conv3.quantized.stored"} <= set(core.tensors)
    assert expected.pop("fc.quantized.stored").shape == (20, 10)  # it adds up 128 such differences
    for name, values in expected.items():
        # Thresholds are exact; a bias in whole accumulator steps may move an int8 level by one.
        apart = np.abs(inside[name].astype(np.float64) - values)
        assert np.mean(apart > (1 if name.endswith("stored") else 0)) < 0.002, name
