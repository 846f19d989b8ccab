"""Every method at work in its quick form: its record, its bytes, and what the core does with its result."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from bitwright.mapper.isa import Opcode, PostMode
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.pe import PeKind
from bitwright.mapper.program import Program
from bitwright.models.compress import compression
from bitwright.models.compress.compression import Compressed
from bitwright.models.compress.datasets import DataOptions, Dataset, load_dataset
from bitwright.models.compress.dynamic_tree import TREE_VALUES
from bitwright.models.compress.integer import IntegerNetwork
from bitwright.models.compress.layer_samples import nodes_of
from bitwright.models.compress.layer_size import LayerSize, weight_codes_of
from bitwright.models.compress.methods import GAINS, METHODS, Method
from bitwright.models.compress.recipe import SHIPPED, Recipe, load_recipe
from bitwright.models.compress.subject import Subject
from bitwright.models.compress.weight_codes import (
    CodebookCode,
    FixedCode,
    PlanesCode,
    ProductCode,
    TwoScaleCode,
)
from bitwright.models.graph.batch_norm import fold_batch_norm
from bitwright.models.importers.load import load_model
from bitwright.models.importers.run import core_input
from bitwright.models.network import Network
from bitwright.models.payload.encoding import Encoding, decode_codes, encode_codes
from bitwright.models.reference import run_reference
from bitwright.models.storage import load_network
from bitwright.models.weights import mask_shape
from bitwright.reports.agreement import Job, compare
from bitwright.reports.compressing import compress_model
from bitwright.sim.cycle import simulate
from bitwright.sim.functional import run_functional
from bitwright.sim.result import Result

PES = 'array.pes=["int8", "ternary_int8", "binary_int8", "ternary", "binary", "vector"]'
PLAIN = override_machine(load_machine("core-small"), [PES])
LISTS = override_machine(load_machine("core-small"), [PES, "buffers.step_entries=1024"])

WORKING = [method for method in METHODS if method.state == "works"]

# By method: how many times smaller the payload is than float32 at least, and how much of the accuracy after
# plain training may go. A seeded run loses less than two thirds of it, or gains.
FLOORS = {
    "optimal-brain-damage": (4.0, 0.05),
    "optimal-brain-surgeon": (1.03, 0.07),
    "recurrent-damage": (2.8, 0.06),
    "magnitude": (4.4, 0.04),
    "deep-compression": (12.0, 0.2),
    "dynamic-surgery": (5.0, 0.05),
    "neuron-correlation": (3.0, 0.05),
    "neuron-merging": (1.6, 0.1),
    "strided-kernels": (2.0, 0.05),
    "granularity": (1.8, 0.04),
    "brain-damage-groups": (2.75, 0.17),
    "structured-sparsity": (3.4, 0.03),
    "inbound-pruning": (1.75, 0.03),
    "thinet": (2.9, 0.07),
    "channel-lasso": (2.9, 0.05),
    "vector-quantisation": (2.1, 0.08),
    "quantised-cnn": (2.2, 0.06),
    "bimodal": (2.1, 0.17),
    "dynamic-tree": (3.8, 0.03),
    "stochastic-rounding": (1.95, 0.05),
    "bit-allocation": (8.0, 0.03),
    "expectation-backprop": (21.0, 0.05),
    "binary-connect": (24.5, 0.04),
    "stochastic-synapses": (16.0, 0.15),
    "binarised": (21.0, 0.03),
    "xnor-net": (4.4, 0.1),
    "loss-aware": (24.5, 0.04),
    "local-binary": (2.3, 0.05),
    "sketching": (7.7, 0.06),
    "trained-ternary": (13.5, 0.03),
    "threshold-ternary": (12.5, 0.03),
}

# What runs the weights of a layer that the method has coded, by the row's gain.
KINDS = {
    "binary": {PeKind.BINARY_INT8},
    "ternary": {PeKind.TERNARY_INT8},
    "signs": {PeKind.BINARY_INT8, PeKind.TERNARY_INT8, PeKind.BINARY, PeKind.TERNARY},
    "two scales": {PeKind.TERNARY_INT8},
    "planes": {PeKind.BINARY_INT8},
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A quick recipe after `bitwright compress`."""

    recipe: Recipe
    done: Compressed
    record: dict
    network: Network | None
    """As it was written and read again; None where no core runs it."""
    integers: IntegerNetwork | None


@functools.cache
def digits(options: DataOptions, seed: int) -> Dataset:
    return load_dataset("digits", options, seed=seed)


@functools.cache
def quick(method: Method) -> Recipe:
    return load_recipe(SHIPPED / f"{method.recipe}.quick.toml")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where networks are kept after their first, plain training, which most recipes share."""
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("states")


def before(recipe: Recipe, states: Path) -> Compressed:
    """The network after the recipe's first pass."""
    assert recipe.model is not None and recipe.passes[0].name == "train"
    return compression.compress(
        load_model(recipe.model).graph,
        dataclasses.replace(recipe, passes=recipe.passes[:1]),
        digits(recipe.data_options, recipe.seed),
        folder=states,
        keep_all=True,
    )


_SHOWN: dict[tuple[str, Path], Shown] = {}


def show(method: Method, states: Path, folder: Path) -> Shown:
    """What `bitwright compress` makes of a method's quick recipe, going on after the plain training."""
    if (method.name, states) in _SHOWN:
        return _SHOWN[method.name, states]
    recipe, caught, whole = quick(method), [], compression.compress
    before(recipe, states)
    out = folder / f"{method.name}.bw"
    shutil.copytree(states, f"{out}.passes")

    def watched(*arguments: object, **options: object) -> Compressed:
        caught.append(whole(*arguments, **options))  # type: ignore[arg-type]
        return caught[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "compress", watched)
        assert recipe.model is not None
        compress_model(recipe.model, f"{method.recipe}.quick", None, out)
    (done,) = caught
    record = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    network = load_network(out) if record["network"] else None
    integers = None if network is None else done.integers()
    found = Shown(recipe=recipe, done=done, record=record, network=network, integers=integers)
    _SHOWN[method.name, states] = found
    return found


_DENSE: dict[tuple[str, str, str, Path], Result] = {}


def dense(recipe: Recipe, states: Path, machine: Machine) -> Result:
    """A run of the recipe's network after its plain training, in int8."""
    key = (str(recipe.model), recipe.key(1), machine.digest(), states)
    if key not in _DENSE:
        _DENSE[key] = simulate(map_network(before(recipe, states).integers().network, machine))
    return _DENSE[key]


def stored_bytes(subject: Subject, size: LayerSize) -> int:
    """The bytes that hold a layer as its record says, written and read back to the very weights here.

    Codes by their encoder, float32 as it is, behind a bit a weight or a group where weights are cut; 4 for
    each entry of a table and each bias.
    """
    name, weights = size.name, subject.weight(size.name)
    code, mask = subject.codes.get(name), subject.masks.get(name)
    kept = weights != 0 if mask is None else mask.kept
    assert not weights[~kept].any() and size.kept == kept.sum()
    table = 0 if code is None else 4 * entries(code)
    if code is None:
        codes, bits = weights.reshape(len(weights), -1), 32
    else:
        assert np.array_equal(code.weights(), weights)
        codes, bits = weight_codes_of(code)
    if size.encoding == "groups" or (code is None and size.encoding == "bitmap"):
        assert mask is not None and bits == size.bits
        by = "element" if mask.granularity in ("element", "block") else mask.granularity
        shape = mask_shape(kept.shape, by)
        axes = tuple(i for i, (n, m) in enumerate(zip(kept.shape, shape, strict=True)) if n != m)
        flags = kept.any(axis=axes, keepdims=True) if axes else kept
        assert np.array_equal(np.broadcast_to(flags, kept.shape), kept)  # so a bit a group tells all
        body = math.ceil(flags.size / 8) + math.ceil(int(kept.sum()) * bits / 8)
    elif code is None:
        assert size.encoding == "dense"
        body = weights.astype(np.float32).nbytes
    else:
        asked = subject.encodings.get(name)
        streams, encoding = (1 if asked is None else asked.streams), Encoding.parse(size.encoding)
        payload = encode_codes(codes, bits, encoding, streams)
        assert np.array_equal(decode_codes(payload, codes.shape, bits, encoding, streams), codes)
        body = len(payload)
    nodes = {node.name for node in nodes_of(subject.model, subject.model.layer(name))}
    folded = fold_batch_norm(subject.model.to_graph()).nodes
    biased = any(node.name in nodes and len(node.inputs) > 2 for node in folded)
    return body + table + (4 * len(weights) if biased else 0)


def entries(code: object) -> int:
    """Scales and centroids of a code: one for each filter, or one for all where all are equal."""
    if isinstance(code, FixedCode):
        return len(set(code.scales.tolist()))
    if isinstance(code, CodebookCode) and code.given:  # Dettmers' tree, of which a factor is stored
        assert np.allclose(code.centroids, TREE_VALUES * code.centroids.max(), rtol=2.0**-22, atol=0)
        return 1
    if isinstance(code, CodebookCode | ProductCode):
        return int(code.centroids.size)
    if isinstance(code, PlanesCode):
        return int(code.scales.size)
    assert isinstance(code, TwoScaleCode)
    return len(set(code.positive.tolist())) + len(set(code.negative.tolist()))


def kinds(program: Program) -> set[PeKind]:
    return {PeKind(command["pe"]) for command in program.commands if command.opcode is Opcode.GEOMETRY}


def inputs(shown: Shown, count: int) -> np.ndarray:
    """What goes into the core for the first test digits."""
    assert shown.integers is not None
    model, data = shown.integers.model, shown.done.subject.data
    shape = model.graph.values[model.graph.inputs[0]].shape[1:]
    real = data.real(data.test_x[:count]).reshape(-1, *shape)
    return core_input(model, model.cores[0], {model.graph.inputs[0]: real})


@pytest.fixture(scope="module", params=WORKING, ids=lambda method: method.name)
def case(
    request: pytest.FixtureRequest, states: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Method, Shown]:
    """A method with its quick recipe's run; of module scope, so that its tests come one after another."""
    return request.param, show(request.param, states, tmp_path_factory.mktemp(request.param.name))


def test_a_quick_recipe_reaches_its_budget_and_its_bytes_hold_the_weights(case: tuple[Method, Shown]) -> None:
    method, shown = case
    record, passes = shown.record, shown.record["passes"]
    times, loss = FLOORS[method.name]

    assert [entry["name"] for entry in passes] == [step.name for step in shown.recipe.passes]
    assert shown.done.resumed == 1
    sizes = [LayerSize(**layer) for layer in passes[-1]["layers"]]
    found = [stored_bytes(shown.done.subject, size) for size in sizes]
    assert [size.payload_bytes for size in sizes] == found
    assert record["compressed"]["payload_bytes"] == sum(found)
    assert record["ratio_to_float32"] == record["original"]["bytes"] / sum(found) > times
    assert record["compressed"]["accuracy"] > passes[0]["accuracy_after"] - loss


def test_the_core_does_with_a_result_what_the_methods_row_says(
    case: tuple[Method, Shown], states: Path
) -> None:
    method, shown = case
    if method.hardware == "host":
        assert shown.network is None and not method.gain
        return
    network, result = shown.network, shown.record
    assert network is not None, result.get("reason")
    # int8 activations, and int8 weights where the method gives none of its own.
    assert abs(result["integer_accuracy"] - result["compressed"]["accuracy"]) < 0.025
    machine = LISTS if method.hardware == "rtl-exact" else PLAIN
    program, x = map_network(network, machine), inputs(shown, 2)
    expected = run_reference(network, x)
    assert all(np.array_equal(run_functional(program, x[i]), expected[i]) for i in range(len(x)))
    run, plain = simulate(program), dense(shown.recipe, states, machine)
    weights, before_it = run.traffic["weights"].read, plain.traffic["weights"].read
    listed = any(command["listed"] for command in program.commands)
    if method.hardware == "modelled":
        # The weights' own payload is elsewhere: the core loads and multiplies all that a dense network has.
        assert not method.gain and (weights, run.busy_cycles) == (before_it, plain.busy_cycles)
        return
    assert method.gain in GAINS
    coded = {network.weights[name].fmt.name for name in shown.done.subject.codes}
    if method.gain == "steps":
        assert listed and run.macs == plain.macs
        assert run.busy_cycles < plain.busy_cycles and run.cycles < plain.cycles and weights < before_it
    elif method.gain == "shapes":
        assert run.macs < plain.macs
        assert run.busy_cycles < plain.busy_cycles and run.cycles < plain.cycles and weights < before_it
    elif method.gain == "int8":
        assert coded == {"int8"} and (weights, run.cycles) == (before_it, plain.cycles)
    else:
        wanted = KINDS[method.gain]
        assert coded <= {"binary", "ternary"} and kinds(program) & wanted
        assert kinds(program) <= wanted | {PeKind.INT8, PeKind.VECTOR}
        assert weights < before_it
        summed = any(
            command["mode"] == PostMode.PLANES
            for command in program.commands
            if command.opcode is Opcode.OUTPUT
        )
        assert summed == (method.gain in ("planes", "two scales"))
        if method.gain in ("binary", "signs"):
            assert run.busy_cycles < plain.busy_cycles / 2 and run.cycles < plain.cycles


def test_every_method_that_works_has_its_floor_and_its_gain() -> None:
    assert set(FLOORS) == {method.name for method in WORKING}
    assert all(bool(method.gain) == (method.hardware == "rtl-exact") for method in WORKING)


@pytest.mark.slow
def test_what_rtl_exact_methods_make_of_a_network_agrees_with_the_rtl(states: Path, tmp_path: Path) -> None:
    jobs = []
    for method in WORKING:
        if method.hardware != "rtl-exact":
            continue
        shown = show(method, states, tmp_path)
        assert shown.network is not None
        jobs.append(
            Job(
                name=method.name,
                network=shown.network,
                program=map_network(shown.network, LISTS),
                x=inputs(shown, 1)[0],
                memory=LISTS.memory,
            )
        )
    assert len(jobs) > 15
    failures = [str(result) for result in compare(LISTS, jobs) if not result.agrees]
    assert not failures, "\n".join(failures)
