"""Results of abstract machines on the command line and in reports: queues, pipelines, densities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.importers.activity import input_densities
from bitwright.models.importers.load import load_model
from bitwright.models.jit import njit
from bitwright.reports.cli import main
from bitwright.reports.densities import densities_of, parse_densities
from bitwright.reports.files import read_result
from bitwright.reports.progress import show_compilation
from bitwright.reports.report import build_page, render_report
from bitwright.sim.sparse_fc import SparseFcMachine, encode_random, random_activations, run_sparse_fc


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_eies_layer_prints_its_analysis(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Alex-8's miss of Han et al. 2016, table IV, with what explains it; the others are in tests/sim."""
    path = tmp_path / "alex.csv"
    path.write_text("Layer, M, N, K,\nfc8, 1, 1000, 4096,\n", encoding="utf-8")
    options = ["--weight-density", "fc8=0.25", "--activation-density", "fc8=0.375"]
    save = ["-o", str(tmp_path / "alex.json")]
    code, out, _ = run(capsys, "simulate", str(path), "--machine", "eie-like", *options, *save)
    assert code == 0
    for part in ("Alex-8: 8.1 µs modelled, 9.9 µs measured, -18.1%", "useful work, evenly spread: 7.5 µs",
                 "fillers: 0.0 µs", "rounding of the densities: 8.0 to 8.3 µs"):  # fmt: skip
        assert part in out
    (layer,) = read_result(tmp_path / "alex.json")["layers"]
    assert layer["queues"]["resident"]
    # 4096 inputs and 1000 outputs of a byte pass DRAM, weights stay.
    assert (layer["dram_read_bytes"], layer["dram_write_bytes"]) == (4096, 1000)
    page = render_report([read_result(tmp_path / "alex.json")])
    assert "alex on eie-like (modelled)" in page
    assert "Alex-8: 8.1 µs modelled, 9.9 µs measured, -18.1%" in page


def test_a_queue_layers_row_is_what_the_model_says_of_its_densities(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.csv"
    path.write_text("Layer, M, N, K,\nfc, 1, 100, 300,\n", encoding="utf-8")
    options = ["--weight-density", "0.2", "--activation-density", "0.5", "--seed", "3", "--json"]
    _, out, _ = run(capsys, "simulate", str(path), "--machine", "eie-like", *options)
    (row,) = json.loads(out)["layers"]
    layer = encode_random("fc", 300, 100, 0.2, seed=3)
    result = run_sparse_fc(layer, random_activations(300, 0.5, seed=4), SparseFcMachine())
    assert (row["cycles"], row["queues"]["useful"]) == (result.cycles, result.useful)
    assert row["queues"]["low_us"] < row["queues"]["modelled_us"] < row["queues"]["high_us"]
    # An entry reads 8 bits of weights, and a sum of 32 bits that it writes back.
    entries = result.useful + result.fillers
    assert row["bytes_by_level"]["weights"]["W"] == entries
    assert row["bytes_by_level"]["sums"]["O"] == 8 * entries
    assert row["energy_by_level"]["sums"] == pytest.approx(2 * 0.88 * entries)


def test_weights_beyond_the_pes_memories_come_from_dram(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.csv"
    path.write_text("Layer, M, N, K,\nfc, 1, 64, 512,\n", encoding="utf-8")
    options = ["--machine", "eie-like", "--set", "levels.weights.size_bits=4088", "--json"]
    _, out, _ = run(capsys, "simulate", str(path), *options)
    (row,) = json.loads(out)["layers"]
    # 512 dense entries of 8 bits a PE are 4096 bits: 32 KiB of all PEs, 64 bits a cycle.
    assert not row["queues"]["resident"]
    assert row["stall_cycles"]["loading"] == 32768 * 8 // 64
    assert row["dram_read_bytes"] == 32768 + 512


@pytest.mark.parametrize(
    ("network", "cycles"),
    [
        ("lfc", [416, 512, 512, 512]),
        ("cnv", [32400, 28224, 20736, 28800, 20736, 18432, 32768, 32768, 8192]),
    ],
    ids=("lfc", "cnv"),
)
def test_published_foldings_give_the_published_cycles(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network: str, cycles: list[int]
) -> None:
    """../shared/reference/README.md: (MH/PE)·(MW/SIMD)·pixels, equal to the shipped figures."""
    path = tmp_path / "run.json"
    options = ["--machine", "finn-mvu", "--bits", "1", "--folding", "published", "-o", str(path)]
    code, out, _ = run(capsys, "simulate", f"zoo:{network}", *options)
    assert code == 0
    value = read_result(path)
    assert [layer["cycles"] for layer in value["layers"]] == cycles
    assert "config.h" in out
    assert f"{network} on finn-mvu (modelled)" in render_report([value])


def test_a_folding_is_given_by_layer_and_padded(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--machine", "finn-mvu", "--folding", "4x8,fc4=16x8", "--json"]
    _, out, _ = run(capsys, "simulate", "zoo:tfc", *options)
    value = json.loads(out)
    # 784 → 64 → 64 → 64 → 10: 16 · 98, twice 16 · 8; ten rows padded to 16: 1 · 8
    assert [layer["cycles"] for layer in value["layers"]] == [16 * 98, 128, 128, 8]
    assert value["pipeline"]["initiation_interval"] == 16 * 98
    # Weights of a bit: each unit reads PE × SIMD a cycle.
    moved = [layer["bytes_by_level"]["block_ram"]["W"] for layer in value["layers"]]
    assert moved[0] == 16 * 98 * 4 * 8 / 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "zoo:tfc --machine finn-mvu --folding 4",
            "--folding takes LAYER=PExSIMD as in fc1=32x64",
        ),
        (
            "zoo:tfc --machine finn-mvu --folding fc9=1x1",
            "--folding: no layer 'fc9'; layers: fc1",
        ),
        (
            "zoo:tfc --machine finn-mvu --folding published",
            "none of tfc: give LAYER=PExSIMD",
        ),
        (
            "zoo:resnet18 --machine finn-mvu",
            "`map` takes such layers one by one, on one unit",
        ),
        (
            "zoo:tfc --machine tpu-like --folding 4x4",
            "--folding is of machines with array.dataflow",
        ),
        (
            "zoo:tfc --machine eie-like --weight-density fc9=0.5",
            "--weight-density: no layer 'fc9'",
        ),
        (
            "zoo:tfc --machine eie-like --weight-density 0",
            "must be above 0 and at most 1, not '0'",
        ),
        (
            "zoo:tfc --machine eie-like --weight-density x",
            "takes LAYER=DENSITY, or one density",
        ),
        (
            "zoo:random-1 --machine core-small --weight-density 1",
            "is of abstract machines",
        ),
        (
            "zoo:tfc --machine systolic --plan",
            "`map --plan` plans it as a hierarchy of memories",
        ),
        (
            "zoo:tfc --machine eie-like --set queues.depth=0",
            "queues.depth must be from 1 to 65536",
        ),
        (
            "zoo:tfc --machine eie-like --set queues.deep=1",
            "unknown key queues.deep; allowed: code_",
        ),
    ],
    ids=lambda value: value if value.startswith("zoo:") else "",
)
def test_bad_options_are_one_line(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    code, out, err = run(capsys, "simulate", *arguments.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_densitys_digits_say_how_far_it_was_rounded() -> None:
    given = parse_densities("--x", ["a=0.09,b=0.351", "0.5"])
    assert [round(d.rounding, 6) for d in given.values()] == [0.005, 0.0005, 0.05]
    assert (given["a"].low, given["a"].high) == pytest.approx((0.085, 0.095))
    found = densities_of("--x", given, ["a", "b", "c"])
    assert {name: d.value for name, d in found.items()} == {"a": 0.09, "b": 0.351, "c": 0.5}
    with pytest.raises(ValueError, match="--x gives a twice"):
        parse_densities("--x", ["a=0.5", "a=0.25"])


def test_densities_of_inputs_are_counted_on_images() -> None:
    """The first layer's inputs are the images themselves: 3 of 8 values that are not zero, then all."""
    model = load_model("zoo:random-1")
    network = model.cores[0].network
    shape = network.tensors[network.input].shape
    x = np.zeros((2, *shape), np.int8)
    x[0].flat[::2] = 5
    expected = np.count_nonzero(x != network.tensors[network.input].zero_point) / x.size
    assert input_densities(model, x)[network.layers[0].name] == pytest.approx(expected)


def test_sparse_layers_of_nests_are_counted_by_their_own_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--machine", "eie-like", "--weight-density", "conv2=0.1", "--time-limit", "2", "--json"]
    code, out, _ = run(capsys, "simulate", "zoo:lenet5", *options)
    assert code == 0
    layers = {layer["name"]: layer for layer in json.loads(out)["layers"]}
    payload = layers["conv2"]["payload"]
    assert layers["conv2"]["payload_exact"] and payload["imbalance"] > 1
    assert payload["mean_bits"] <= payload["worst_bits"] <= 1048576
    (dram,) = (r for r in layers["conv2"]["traffic"] if (r["level"], r["operand"]) == ("dram", "W"))
    # 50 filters of 20 × 5 × 5 weights of 8 bits, each fetched a whole number of times
    fetches = dram["reads"] / 25000
    assert fetches == int(fetches)
    assert dram["read_bytes"] == pytest.approx(fetches * payload["total_bits"] / 8)
    assert "payload" not in layers["conv1"]


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ("nvdla-like", "inputs lie in convolution_buffer, outputs in accumulators, and nothing moves values"),
        ("systolic", "inputs and outputs have parts of their own in cells, buffers: no value changes over"),
        ("eie-like", "inputs lie in activations, outputs in sums, and nothing moves values"),
        ("finn-mvu", "inputs lie in block_ram, outputs in sums, and nothing moves values"),
    ],
)
def test_a_plan_says_why_nothing_stays_on_chip(
    capsys: pytest.CaptureFixture[str], machine: str, why: str
) -> None:
    code, out, _ = run(capsys, "map", "zoo:tfc", "--machine", machine, "--plan")
    assert code == 0
    assert f"No tensor can stay on chip: {why}" in " ".join(out.split())


def modelled(**changes: Any) -> dict[str, Any]:
    layer = {
        "name": "conv", "macs": 100, "cycles": 50, "stall_cycles": {"memory": 10}, "products": 100.0,
        "peak_macs": 200.0, "peak_macs_per_cycle": 4.0, "utilization": 0.5, "energy_pj": 7.0,
        "energy_by_level": {"mac": 3.0, "dram": 4.0}, "bytes_by_level": {"dram": {"W": 20.0, "O": 5.0}},
        "dram_read_bytes": 20.0, "dram_write_bytes": 5.0, "fidelity": "modelled", "optimal": True,
    }  # fmt: skip
    roof = {"name": "conv", "macs_per_byte": 4.0, "macs_per_cycle": 2.0, "peak_macs_per_cycle": 4.0}
    return {
        "kind": "modelled", "network": "net", "machine": "some-like", "machine_digest": "x",
        "fidelity": "modelled", "clock_hz": 1e8, "node_nm": 45, "energy_title": "event energy",
        "total": {
            "cycles": 50, "macs": 100, "energy_pj": 7.0, "dram_read_bytes": 20.0, "dram_write_bytes": 5.0,
            "utilization": 0.5,
        },
        "layers": [layer], "roofline": {"bytes_per_cycle": 8.0, "layers": [roof]},
        "energy_sources": {"dram": "assumed"}, **changes,
    }  # fmt: skip


def test_a_modelled_section_says_so_and_stands_apart_from_an_fpgas() -> None:
    page = build_page([modelled()])
    assert [section.title for section in page.sections] == ["net on some-like (modelled)"]
    assert all("modelled" in fact["note"] for fact in page.facts)
    charts = [block.svg for block in page.sections[0].blocks if block.kind == "figure"]
    assert len(charts) == 4  # cycles, bytes by level, roofline, energy
    without = build_page([modelled(roofline={"bytes_per_cycle": None, "layers": []})])
    assert len([b for b in without.sections[0].blocks if b.kind == "figure"]) == 3


def test_a_modelled_result_that_lacks_a_key_is_named() -> None:
    damaged = modelled()
    del damaged["energy_sources"]
    with pytest.raises(ValueError, match=r"m\.json: it lacks 'energy_sources': write it again"):
        build_page([damaged], ["m.json"])


def test_a_first_compilation_is_announced_once_a_room(capsys: pytest.CaptureFixture[str]) -> None:
    def double(x: Any) -> Any:
        return x + x

    double.__module__ = "bitwright.room.kernel"
    kernel = njit(cache=False)(double)
    show_compilation()
    show_compilation()
    assert (kernel(1), kernel(0.5)) == (2, 1.0)  # compiled twice
    err = capsys.readouterr().err
    assert err.startswith("  compiling the kernels of room, ")
    assert err.count("\n") == 1
