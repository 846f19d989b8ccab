"""Imported models on the command line: what `info` says, what runs on a core, and what the host keeps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.mapper.machine_file import load_machine
from bitwright.models.graph import Graph, Node, Value
from bitwright.models.importers.load import network_model
from bitwright.models.importers.model import CoreStep, HostStep, Model
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, random_network
from bitwright.reports.agreement import CaseResult, Job, verify_model
from bitwright.reports.cli import main
from bitwright.reports.core_runs import export_model, map_model, simulate_model
from bitwright.reports.files import read_result
from bitwright.reports.model_summary import model_summary
from bitwright.reports.report import render_report
from bitwright.reports.simulation import simulate_network, write_trace

SMALL = load_machine("core-small")
FIRST, SECOND = random_network(3), random_network(6)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def two_parts() -> Model:
    """Two networks on the core, with a Softmax on the host between them."""
    a, b = network_model(FIRST), network_model(replace(SECOND, name="second"))
    soft = Node(op="Softmax", name="soft", inputs=(FIRST.output,), outputs=("p",))
    cast = Node(op="Reshape", name="cast", inputs=("p",), outputs=("b.in",))
    nodes = (*a.graph.nodes, soft, cast)
    values = {**a.graph.values, "p": replace(a.graph.values[FIRST.output], name="p")}
    values["b.in"] = replace(b.graph.values[SECOND.input], name="b.in")
    values["b.out"] = replace(b.graph.values[SECOND.output], name="b.out")
    final = Node(op="core", name="second", inputs=("b.in",), outputs=("b.out",))
    graph = Graph(
        name="both", source="onnx", inputs=a.graph.inputs, outputs=("b.out",), nodes=(*nodes, final),
        constants={}, values=values,
    )  # fmt: skip
    (one,), (two,) = a.cores, b.cores
    two = CoreStep(network=two.network, takes="b.in", makes="b.out", nodes=("second",), tensors={})
    return Model(
        graph=graph, steps=(one, HostStep(nodes=(soft, cast), reason="Softmax has no hardware"), two)
    )


def test_alexnets_shares_are_the_surveys(capsys: pytest.CaptureFixture[str]) -> None:
    # ../shared/reference/README.md: 724.4 M MACs, 60,965,224 parameters; 91.9/8.1 % and 3.8/96.2 %
    value = run(capsys, "info", "zoo:alexnet")
    assert (round(value["macs"] / 1e6, 1), value["parameters"]) == (724.4, 60_965_224)
    shares = {
        (word, key): round(100 * part, 1)
        for word, both in value["shares"].items()
        for key, part in both.items()
    }
    assert shares == {
        ("conv", "macs"): 91.9,
        ("fc", "macs"): 8.1,
        ("conv", "parameters"): 3.8,
        ("fc", "parameters"): 96.2,
    }
    assert {"name", "kind", "macs", "parameters", "bytes", "runs"} <= set(value["layers"][0])
    assert value["macs"] == sum(layer["macs"] for layer in value["layers"])
    assert {row["layer"] for row in value["host"]} == {layer["name"] for layer in value["layers"]}


def test_info_tells_core_from_host_in_the_order_of_the_steps() -> None:
    value = model_summary(two_parts())
    runs = [layer["runs"] for layer in value["layers"]]
    assert runs == ["core"] * len(FIRST.layers) + ["host"] * 2 + ["core"] * len(SECOND.layers)
    assert value["host"] == [
        {"layer": "soft", "op": "Softmax", "reason": "Softmax has no hardware"},
        {"layer": "cast", "op": "Reshape", "reason": "Softmax has no hardware"},
    ]
    networks = (FIRST, SECOND)
    assert value["macs"] == sum(n.layer_macs(layer.name) for n in networks for layer in n.layers)


def test_several_core_steps_are_simulated_and_added_up() -> None:
    runs, value = simulate_model(two_parts(), SMALL)
    alone = [simulate_network(network, SMALL)[2] for network in (FIRST, SECOND)]
    total = value["total"]
    for key in ("cycles", "energy_pj", "dram_read_bytes", "dram_write_bytes", "macs", "busy_cycles"):
        assert total[key] == pytest.approx(sum(part["total"][key] for part in alone)), key
    cycles = [part["total"]["cycles"] for part in alone]
    busy = [part["total"]["utilization"] * part["total"]["cycles"] for part in alone]
    assert total["utilization"] == pytest.approx(sum(busy) / sum(cycles))
    assert [layer["name"] for layer in value["layers"]] == [
        layer["name"] for part in alone for layer in part["layers"]
    ]
    last = value["spans"]["exec"][-1]
    assert list(last[:2]) == [n + cycles[0] for n in alone[1]["spans"]["exec"][-1][:2]]
    assert (len(runs), value["parts"], len(value["host"])) == (2, 2, 2)
    assert "2 programs one after the other" in render_report([value])


def test_the_trace_of_several_core_steps_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    runs, value = simulate_model(two_parts(), SMALL)
    events = json.loads(write_trace(tmp_path / "t.json", runs).read_text())["traceEvents"]
    spans = [event["args"] for event in events if event["ph"] == "X"]
    assert len(spans) == sum(len(rows) for _, result in runs for rows in result.timeline.values())
    late = [span for span in spans if span["start_cycle"] >= runs[0][1].cycles]
    assert len(late) == sum(len(rows) for rows in runs[1][1].timeline.values())
    assert abs(max(span["end_cycle"] for span in spans) - value["total"]["cycles"]) <= 2


def test_several_core_steps_are_mapped_and_exported(tmp_path: Path) -> None:
    mapped = map_model(two_parts(), SMALL)
    alone = [map_model(network_model(network), SMALL) for network in (FIRST, SECOND)]
    assert mapped["commands"] == sum(part["commands"] for part in alone)
    assert len(mapped["layers"]) == sum(len(part["layers"]) for part in alone)
    exported = export_model(two_parts(), SMALL, tmp_path / "out", seed=0, progress=lambda _: None)
    assert {Path(name).parent.name for name in exported["files"]} == {"part1", "part2"}
    assert (tmp_path / "out" / "part2" / "bitwright_core.v").is_file()


def test_each_core_step_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Job] = []

    def compare(machine: Any, jobs: Sequence[Job], *_: Any) -> list[CaseResult]:
        taken.extend(jobs)
        return []

    monkeypatch.setattr("bitwright.reports.agreement.compare", compare)
    value = verify_model(two_parts(), SMALL, images=2)
    assert [job.network.name for job in taken] == [FIRST.name] * 2 + ["second"] * 2
    assert len(value["host"]) == 2


def test_images_reach_a_core_step_through_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Relu on the host stands before a core step, so the core sees no negative value."""
    inner = network_model(FIRST)
    relu = Node(op="Relu", name="relu", inputs=("x",), outputs=(FIRST.input,))
    source = replace(inner.graph.values[FIRST.input], name="x")
    graph = replace(
        inner.graph, source="onnx", inputs=("x",), nodes=(relu, *inner.graph.nodes),
        values={**inner.graph.values, "x": source},
    )  # fmt: skip
    model = Model(graph=graph, steps=(HostStep(nodes=(relu,), reason="no weights"), *inner.steps))
    x = random_input(FIRST, 0, 3)
    np.savez(tmp_path / "x.npz", x=x)
    taken: list[Job] = []
    monkeypatch.setattr(
        "bitwright.reports.agreement.compare", lambda machine, jobs, *_: taken.extend(jobs) or []
    )
    verify_model(model, SMALL, images=2, data=tmp_path / "x.npz")
    assert np.array_equal(np.stack([job.x for job in taken]), np.maximum(x[:2], 0))
    assert np.array_equal(
        run_reference(FIRST, np.stack([job.x for job in taken])), run_reference(FIRST, np.maximum(x[:2], 0))
    )


@pytest.mark.parametrize("verb", ["map", "simulate", "verify"])
def test_a_model_without_a_core_step_says_why_and_what_to_do(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    code = main([verb, "zoo:lenet5", "--machine", "core-small"])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith("bitwright: lenet5: no layer of it runs on a core (its operands are float")
    assert "give an int8 TFLite, QDQ or QONNX file" in err
    assert err.count("\n") == 1


def test_the_zoo_is_listed_with_its_counts(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in run(capsys, "zoo")["networks"]}
    assert rows["zoo:lenet300"]["parameters"] == 266_610  # ../shared/data/README.md
    assert {"zoo:resnet8-stack", "zoo:random-N", "zoo:vgg16", "zoo:onet"} <= set(rows)
    assert main(["zoo"]) == 0
    assert "zoo:tiny-yolo" in capsys.readouterr().out


def test_ranges_come_as_json_as_a_table_and_as_charts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    x = random_input(random_network(1), 0, 4)
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(4, np.int64))
    arguments = ("info", "zoo:random-1", "--ranges", "--data", str(tmp_path / "x.npz"), "--images", "3")
    value = run(capsys, *arguments, "-o", str(tmp_path / "info.json"))
    ranges = value["ranges"]
    made = run_reference(random_network(1), x[:3])
    last = ranges["layers"][-1]["activation"]
    assert (last["least"], last["greatest"], last["format"]) == (int(made.min()), int(made.max()), "int8")
    assert ranges["correct"] == int((made.reshape(3, -1).argmax(1) == 0).sum())
    weights = ranges["layers"][0]["weights"]
    assert sum(weights["counts"]) == random_network(1).weights["layer1"].values.size
    assert weights["huffman_bits"] <= weights["raw_bits"]
    assert main(list(arguments)) == 0
    assert "Ranges over 3 images" in capsys.readouterr().out
    page = render_report([read_result(tmp_path / "info.json")])
    for text in ("The network random_1", "Bits of each layer&#39;s activations", "Weights of each layer of"):
        assert text.replace("&#39;", "'") in page.replace("&#39;", "'").replace("&#x27;", "'")


def test_names_from_files_reach_no_terminal_and_no_page_unescaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a\x1b[31m[red]<b>$x$"
    node = Node(op="Gemm", name=name, inputs=("x", "w"), outputs=("y",))
    shapes = {"x": (1, 2), "w": (2, 2), "y": (1, 2)}
    values = {key: Value(name=key, shape=shape, dtype=np.dtype(np.float32)) for key, shape in shapes.items()}
    graph = Graph(
        name=name, source="onnx", inputs=("x",), outputs=("y",), nodes=(node,),
        constants={"w": np.eye(2, dtype=np.float32)}, values=values,
    )  # fmt: skip
    model = Model(graph=graph, steps=(HostStep(nodes=(node,), reason=name),))
    monkeypatch.setattr("bitwright.models.importers.load.load_model", lambda _: model)
    assert main(["info", "any.onnx"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "a?[31m[red]<b>$x$" in out
    assert "<b>" not in render_report([model_summary(model)])
