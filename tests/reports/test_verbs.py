"""Verbs that need no RTL, on the real rooms; their JSON keys are what others rely on."""

import json
from pathlib import Path
from typing import Any

import pytest
from bitwright.models.zoo import random_network, resnet8_stack
from bitwright.reports.cli import main
from bitwright.sim.result import load_result


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_info_counts_macs_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    value = run(capsys, "info", "zoo:resnet8-stack")
    # conv1: 16 channels × 3·3·3 weights × 32·32 pixels
    conv1 = next(layer for layer in value["layers"] if layer["name"] == "conv1")
    assert (conv1["kind"], conv1["macs"], conv1["parameters"]) == ("conv", 442_368, 16 * 27 + 16)
    assert conv1["bytes"] == 16 * 27 + 16 * 4
    assert value["macs"] == sum(layer["macs"] for layer in value["layers"])
    assert value["network"] == resnet8_stack().name


def test_a_saved_network_reads_as_the_zoos(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.bw"
    random_network(5).save(path)
    assert run(capsys, "info", str(path)) == run(capsys, "info", "zoo:random-5")


def test_map_has_a_row_for_each_core_layer(capsys: pytest.CaptureFixture[str]) -> None:
    value = run(capsys, "map", "zoo:resnet8-stack", "--machine", "core-small")
    keys = {"name", "objective_value", "evaluated", "optimal", "seconds"}
    assert [layer["name"] for layer in value["layers"]][-1] == "fc"
    assert all(keys <= set(layer) for layer in value["layers"])
    for layer in value["layers"]:
        for used, available in layer["buffers"].values():
            assert 0 < used <= available


def test_map_explains_the_nest_and_the_memory_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--machine", "core-medium", "--objective", "energy")
    plain = run(capsys, "map", "zoo:resnet8-stack", *options)
    value = run(capsys, "map", "zoo:resnet8-stack", *options, "--explain")
    assert "nest" not in plain["layers"][0]
    assert all(layer["nest"][0].startswith(f"{layer['name']}: K ") for layer in value["layers"])
    assert value["objective"] == "energy"
    assert all(layer["estimated_energy_pj"] == layer["objective_value"] for layer in value["layers"])
    rows = value["memory"]
    assert [rows[0]["from"], rows[-1]["to"]] == [None, None]
    assert all(row["address"] + row["bytes"] <= value["memory_bytes"] for row in rows)
    assert value["peak_tensor_bytes"] <= sum(-(-row["bytes"] // 64) * 64 for row in rows)


def test_an_unknown_objective_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "zoo:random-1", "--machine", "core-small", "--objective", "speed"]) == 2
    assert capsys.readouterr().err == (
        "bitwright: --objective must be latency, energy, edp, bytes, not 'speed'\n"
    )


def test_simulate_totals_are_its_layers(capsys: pytest.CaptureFixture[str]) -> None:
    value = run(capsys, "simulate", "zoo:resnet8-stack", "--machine", "core-small")
    total, layers = value["total"], value["layers"]
    assert {"cycles", "energy_pj", "dram_read_bytes", "dram_write_bytes", "utilization"} <= set(total)
    assert {"name", "cycles", "stall_cycles", "energy_pj", "fidelity"} <= set(layers[0])
    assert sum(layer["energy_pj"] for layer in layers) == pytest.approx(total["energy_pj"])
    assert sum(layer["write_bytes"] for layer in layers) == total["dram_write_bytes"]


def test_slower_memory_costs_cycles_but_no_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    machine = ("--machine", "core-small", "--objective", "bytes")
    fast = run(capsys, "simulate", "zoo:random-1", *machine)["total"]
    slow = run(capsys, "simulate", "zoo:random-1", *machine, "--set", "memory.read_latency=200")["total"]
    assert slow["cycles"] > fast["cycles"]
    assert slow["dram_read_bytes"] == fast["dram_read_bytes"]


def test_simulate_writes_a_result_and_a_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result, trace = tmp_path / "result.json", tmp_path / "trace.json"
    files = ("-o", str(result), "--trace", str(trace))
    value = run(capsys, "simulate", "zoo:random-1", "--machine", "core-small", *files)
    assert load_result(result).cycles == value["total"]["cycles"]
    events = json.loads(trace.read_text())["traceEvents"]
    last = max(event["args"]["end_cycle"] for event in events if event["ph"] == "X")
    assert 0 < last <= value["total"]["cycles"] + 2  # a STORE ends after its last B is seen


def test_a_report_of_a_simulation_is_one_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result, page = tmp_path / "result.json", tmp_path / "report.html"
    run(capsys, "simulate", "zoo:random-1", "--machine", "core-small", "-o", str(result))
    assert main(["report", str(result), "-o", str(page)]) == 0
    assert "random_1 on core-small" in page.read_text(encoding="utf-8")


def test_tables_show_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("map", "simulate"):
        assert main([verb, "zoo:resnet8-stack", "--machine", "core-large"]) == 0
        out = capsys.readouterr().out
        assert all(name in out for name in ("conv1", "conv7", "fc"))


def test_the_rtl_folder_has_verilog_image_and_manifest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    value = run(capsys, "rtl", "zoo:random-3", "--machine", "core-small", "-o", str(folder))
    names = {path.name for path in folder.iterdir()}
    assert {"bitwright_core.v", "image.hex", "manifest.json"} <= names
    assert {Path(name).name for name in value["files"]} == names


@pytest.mark.slow
def test_the_demo_agrees_and_reports(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    value = run(capsys, "demo", "-o", str(tmp_path), "--images", "2")
    assert value["verify"]["cases"] == 5 * 2 + 1  # two images of each form, and the stack
    assert value["verify"]["agrees"]
    accuracy = {row["form"]: row["accuracy"] for row in value["forms"]}
    assert accuracy["int8"] > 0.95
    assert accuracy["binary"] > 0.9
    assert all(cost["fits"] for cost in value["costs"])
    assert {(row["core"], row["form"]) for row in value["machines"]} >= {
        ("every form", "ternary"),
        ("int8", "int8"),
    }
    assert "Verified: bits, cycles and bytes are equal" in (tmp_path / "report.html").read_text("utf-8")
    assert run(capsys, "info", str(tmp_path / "digits-int8.bw"))["macs"] > 0
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == value
