import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from bitwright.models.importers.load import load_model, network_model, zoo_names
from bitwright.models.importers.model import HostStep
from bitwright.models.importers.run import run_model
from bitwright.models.reference import run_reference
from bitwright.models.storage import ImportModelError
from bitwright.models.zoo import random_input, random_network, resnet8_stack
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def test_a_network_of_ours_is_a_model_with_one_core_step(tmp_path: Path) -> None:
    network = random_network(5)
    path = tmp_path / "net.bw"
    network.save(path)
    x = random_input(network, 0, 3)
    for model in (load_model(str(path)), load_model("zoo:random-5"), network_model(network)):
        (step,) = model.cores
        assert (step.takes, step.makes) == (network.input, network.output)
        assert step.nodes == tuple(layer.name for layer in network.layers)
        made = run_model(model, {network.input: x})[network.output]
        assert np.array_equal(made, run_reference(network, x))


def test_the_zoo_gives_networks_and_architectures_by_name() -> None:
    assert load_model("zoo:resnet8-stack").graph.name == resnet8_stack(0).name
    plain, seeded = load_model("zoo:lenet5"), load_model("zoo:lenet5@3")
    assert not any(values.any() for name, values in plain.graph.constants.items() if "weight" in name)
    assert any(values.any() for name, values in seeded.graph.constants.items() if "weight" in name)
    assert {"resnet8-stack", "random-N", "alexnet", "resnet50"} <= set(zoo_names())
    (step,) = plain.steps
    assert isinstance(step, HostStep)


def test_weights_of_a_zoo_network_come_from_a_file(tmp_path: Path) -> None:
    seeded = load_model("zoo:lenet5@3").graph.constants
    named = {name: values for name, values in seeded.items() if name.endswith((".weight", ".bias"))}
    path = tmp_path / "lenet5.npz"
    np.savez(path, **named)
    loaded = load_model(f"zoo:lenet5@{path}").graph.constants
    assert named
    assert all(np.array_equal(loaded[name], values) for name, values in named.items())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("zoo:nothing", "no such network in the zoo; there are zoo:resnet8-stack, zoo:random-N, zoo:alexnet"),
        ("zoo:alexnet@", "after @ comes the seed"),
        ("zoo:lenet5@nowhere.npz", r"nowhere\.npz: No such file"),
        ("model.pb", r"model\.pb: \.pb is not read; MODEL is zoo:NAME or a file that ends in \.bw, \.onnx"),
        ("model", "a name without suffix is not read"),
    ],
)
def test_what_is_no_model_is_refused_with_the_way_out(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(spec)


def test_constants_that_cannot_be_computed_are_one_line_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitwright.models.graph.fold._BYTES", 1000)
    path = tmp_path / "huge.onnx"
    shape = numpy_helper.from_array(np.array([1, 100], np.int64), "shape")
    fills = [helper.make_node("ConstantOfShape", ["shape"], [f"c{n}"], f"fill{n}") for n in range(3)]
    sums = [helper.make_node("Sum", ["x", "c0", "c1", "c2"], ["y"], "sum")]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 100]) for name in "xy"]
    graph = helper.make_graph([*fills, *sums], "huge", infos[:1], infos[1:], [shape])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    with pytest.raises(ImportModelError, match=r"huge\.onnx: node 'fill2': .* more than 2\^31 bytes"):
        load_model(str(path))


@pytest.mark.parametrize("spec", ["zoo:resnet50", "zoo:random-1", str(LIGHT / "light_squeezenet.onnx")])
def test_info_imports_no_torch(spec: str) -> None:
    code = (
        "import sys; from bitwright.reports.cli import main; code = main(['info', sys.argv[1]]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    reply = subprocess.run([sys.executable, "-c", code, spec], capture_output=True, text=True, check=False)
    assert (reply.returncode, reply.stderr) == (0, "")
