"""Topology files, layers by their sizes, and graphs as topologies."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bitwright.mapper.problem import layer_problem
from bitwright.models.architectures import architecture
from bitwright.models.graph import Node, Value, layer_counts
from bitwright.models.importers.load import load_model, network_model
from bitwright.models.importers.topology import load_topology, model_topology, topology_graph
from bitwright.models.storage import ImportModelError
from bitwright.models.topology import Topology, TopologyLayer, graph_topology
from bitwright.models.zoo import random_network
from bitwright.sim.systolic import Dataflow, SystolicArray, closed_form

HEADING = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
)
GEMM = "Layer, M, N, K,\n"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "net.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_convolutions_row_is_read_with_and_without_its_last_comma(tmp_path: Path) -> None:
    text = HEADING + "Conv1, 224, 224, 7, 5, 3, 64, 2,\r\n\nFC,1,1,1,1,512,1000,1"
    topology = load_topology(written(tmp_path, text))
    conv, fc = topology.layers
    assert topology.name == "net"
    assert (conv.name, conv.ifmap_h, conv.filter_h, conv.filter_w) == ("Conv1", 224, 7, 5)
    assert (conv.channels, conv.filters, conv.stride_h, conv.stride_w, conv.groups) == (3, 64, 2, 2, 1)
    assert conv.outputs() == (109, 110)  # (224 − 7) // 2 + 1, (224 − 5) // 2 + 1
    assert conv.outputs(round_up=True) == (110, 111)  # ⌈(224 − 7 + 2) / 2⌉, ⌈(224 − 5 + 2) / 2⌉
    assert conv.macs == 109 * 110 * 7 * 5 * 3 * 64
    assert fc.macs == 512_000


def test_a_products_row_is_a_filter_that_slides_down_a_picture(tmp_path: Path) -> None:
    (layer,) = load_topology(written(tmp_path, GEMM + "qkv, 128, 768, 512,\n")).layers
    assert layer == TopologyLayer.product("qkv", 128, 768, 512)
    assert (layer.outputs(), layer.window, layer.filters) == ((128, 1), 512, 768)
    assert layer.macs == 128 * 768 * 512


def test_dense_ratios_width_strides_depthwise_rows_and_equal_names_are_read(tmp_path: Path) -> None:
    text = (
        HEADING
        + "DPConv, 9, 9, 3, 3, 16, 1, 2, 4:4,\nc, 9, 9, 3, 3, 2, 4, 1,\nc, 9, 9, 3, 3, 2, 4, 1, 1:1,\n"
    )
    depthwise, first, second = load_topology(written(tmp_path, text)).layers
    assert (depthwise.groups, depthwise.channels, depthwise.filters) == (16, 1, 1)
    assert depthwise.macs == 16 * 4 * 4 * 9
    assert (first.name, second.name) == ("c", "c_2")
    text = HEADING.replace("Strides", "Stride height, Stride width") + "c, 9, 9, 3, 3, 2, 4, 1, 2,\n"
    assert load_topology(written(tmp_path, text)).layers[0].outputs() == (7, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; row 1 must be the heading"),
        (HEADING, "has a heading and no layers"),
        ("Conv1, 8, 8, 3, 3, 1, 1, 1,\n", "row 1: must be the heading"),
        (HEADING + "c, 8, 8, 3, 3, 1, 1,\n", r"row 2: 7 numbers must follow the name \(IFMAP height.* not 6"),
        (HEADING + "c, 8, 8, 3, 3, 1, x, 1,\n", r"row 2: column 7 \(num filter\): .* not 'x'"),
        (
            HEADING + "\nc, 8, 8, 3, 3, 0, 1, 1,\n",
            r"row 3: column 6 \(channels\): .*from 1 to 268435456, not '0'",
        ),
        (HEADING + "c, 8, 8, 3, 3, 1, 1, -1,\n", r"column 8 \(strides\)"),
        (HEADING + "c, 8, 8, 3, 3, 1, 99999999999999999999, 1,\n", r"column 7 \(num filter\)"),
        (HEADING + "c, 8, 8, 9, 3, 1, 1, 1,\n", r"row 2: layer 'c': filter_h must be at most ifmap_h \(8"),
        (HEADING + "c, 8, 8, 3, 3, 1, 1, 1, 2:4,\n", r"column 9 \(sparsity ratio\): only dense ratios"),
        (HEADING + ", 8, 8, 3, 3, 1, 1, 1,\n", "row 2: column 1: the layer's name must have 1 to 200"),
        (HEADING + "\x1b[31m, 8, 8, 3, 3, 1, 1, 1,\n", "row 2: column 1: the layer's name"),
        (HEADING + "c, 8, 8, 3, 3, 1, ٣, 1,\n", r"column 7 \(num filter\)"),
        (GEMM + "c, 8, 8,\n", r"row 2: 3 numbers must follow the name \(M, N, K\)"),
        (GEMM + "c, 8, 8, 2.5,\n", r"row 2: column 4 \(K\)"),
        (b"\xff\xfe\x00L", "byte 0 is no UTF-8 text"),
        (GEMM + "c, 1, 1, 1,\n" * 10_000, "at most 10000 rows, not 10001"),
        (b" " * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
)
def test_a_damaged_file_is_one_line_with_file_row_and_column(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(ImportModelError, match=message) as caught:
        load_topology(written(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "net.csv")) and "\n" not in str(caught.value)


def test_a_tensor_that_a_graph_cannot_hold_is_refused_with_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, GEMM + "big, 1048576, 1048576, 1,\n")
    with pytest.raises(ImportModelError, match=r"net\.csv: value 'big': its shape"):
        load_model(str(path))


def test_a_topologys_graph_counts_what_its_layers_say_and_comes_back_as_the_same_layers() -> None:
    layers = (
        TopologyLayer(
            name="c", ifmap_h=9, ifmap_w=8, filter_h=3, filter_w=2, channels=4, filters=5, stride_w=2
        ),
        TopologyLayer(
            name="d", ifmap_h=7, ifmap_w=7, filter_h=3, filter_w=3, channels=1, filters=2, groups=6
        ),
        TopologyLayer.product("p", 6, 10, 12),
    )
    topology = Topology(name="net", layers=layers)
    graph = topology_graph(topology)
    counts = {row.name: (row.kind, row.macs, row.parameters) for row in layer_counts(graph)}
    assert counts == {
        "c": ("conv", layers[0].macs, 5 * 4 * 3 * 2),
        "d": ("conv", layers[1].macs, 6 * 2 * 9),
        "p": ("fc", 720, 120),
    }
    assert graph_topology(graph) == topology


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet", "lfc"])
def test_networks_of_the_zoo_have_as_many_macs_as_topologies(name: str) -> None:
    graph = architecture(name)
    products = sum(row.macs for row in layer_counts(graph) if row.kind in ("conv", "fc"))
    assert sum(layer.macs for layer in graph_topology(graph).layers) == products


@pytest.mark.parametrize("seed", range(8))  # 1, 2 and 4 with dilation
def test_an_integer_networks_layers_have_its_macs(seed: int) -> None:
    network = random_network(seed)
    topology = model_topology(network_model(network))
    expected = {layer.name: network.layer_macs(layer.name) for layer in network.layers}
    found = {layer.name: layer.macs for layer in topology.layers}
    assert found == {name: macs for name, macs in expected.items() if macs}


def test_what_has_no_form_as_a_row_is_refused_with_the_layer() -> None:
    graph = topology_graph(Topology(name="net", layers=(TopologyLayer.product("p", 2, 2, 2),)))
    dilated = Node(
        op="Conv",
        name="wide",
        inputs=("x", "w"),
        outputs=("y",),
        attributes={
            "kernel_shape": (2, 2),
            "strides": (1, 1),
            "pads": (0,) * 4,
            "dilations": (2, 2),
            "group": 1,
        },
    )
    values = {
        name: Value(name=name, shape=shape, dtype=np.dtype(np.float32))
        for name, shape in {"x": (1, 1, 5, 5), "w": (1, 1, 2, 2), "y": (1, 1, 3, 3)}.items()
    }
    other = replace(
        graph,
        nodes=(dilated,),
        inputs=("x",),
        outputs=("y",),
        values=values,
        constants={"w": np.zeros((1, 1, 2, 2), np.float32)},
    )
    (layer,) = graph_topology(other).layers
    # Windows of 2 × 2 pixels that lie 2 apart reach over 3: 3 × 3 of them on 5 × 5.
    assert (layer.dilation_h, layer.dilation_w, layer.outputs(), layer.macs) == (2, 2, (3, 3), 36)
    assert (layer_problem(layer).dilation_y, layer_problem(layer).OY) == (2, 3)
    with pytest.raises(ValueError, match=r"layer 'wide': a systolic array's streams have no dilation"):
        closed_form(layer, SystolicArray(rows=2, cols=2, dataflow=Dataflow.OUTPUT_STATIONARY))
    with pytest.raises(ValueError, match=r"filter_h must be at most ifmap_h \(5, .*\), not 7, dilated"):
        replace(layer, dilation_h=6)
    with pytest.raises(ValueError, match="'net': has no convolution and no product of matrices"):
        graph_topology(replace(graph, nodes=(), outputs=()))


def test_alexnets_first_layers_by_hand() -> None:
    first, second, *_ = graph_topology(architecture("alexnet")).layers
    # 227² in, 11 × 11 by 4; then 27² padded by 2 on either side, two groups of 48 channels and 128 filters
    assert (first.ifmap_h, first.filter_h, first.stride_h, first.outputs()) == (227, 11, 4, (55, 55))
    assert (second.ifmap_h, second.channels, second.filters, second.groups) == (31, 48, 128, 2)


def test_info_reads_a_topology_from_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, GEMM + "qkv, 128, 768, 512,\n")
    code = "import sys; from bitwright.reports.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "info", str(path), "--json"]
    reply = subprocess.run(command, capture_output=True, text=True, check=True)
    values = json.loads(reply.stdout)
    assert (values["source"], values["macs"]) == ("topology", 128 * 768 * 512)
    assert values["host"][0]["reason"] == "a topology has sizes, no values"
    path = written(tmp_path, GEMM + "qkv, 128, 768,\n")
    reply = subprocess.run(command, capture_output=True, text=True, check=False)
    assert reply.returncode == 2 and "row 2: 3 numbers must follow" in reply.stderr
