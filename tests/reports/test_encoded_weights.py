"""Encoded weights in a run on a core: the dense image is loaded, and the output says so."""

import json
from pathlib import Path

import numpy as np
from bitwright.models.weights import WeightRecord
from bitwright.models.zoo import random_network
from bitwright.reports.cli import main


def test_simulate_says_what_is_encoded_and_what_the_run_loads(tmp_path: Path) -> None:
    network = random_network(0, max_channels=6, max_image=6)
    before, after = tmp_path / "dense.bw", tmp_path / "encoded.bw"
    network.save(before)
    name, old = list(network.weights.items())[-1]
    record = WeightRecord.encoded(
        layer=name, values=old.values, fmt=old.fmt, scales=old.scales, bias=old.bias, encoding="bitmap"
    )
    type(network)(
        name=network.name, input=network.input, output=network.output, tensors=network.tensors,
        layers=network.layers, weights={**network.weights, name: record},
    ).save(after)  # fmt: skip
    found = []
    for path in (before, after):
        target = path.with_suffix(".json")
        assert main(["simulate", str(path), "--machine", "core-small", "-o", str(target)]) == 0
        found.append(json.loads(target.read_text()))
    assert "encoded_weights" not in found[0]
    values = old.values
    bitmap = -(-values.size // 8) + int(np.count_nonzero(values))  # int8
    assert found[1]["encoded_weights"] == {
        "layers": 1, "payload_bytes": bitmap, "dense_bytes": values.size, "fidelity": "modelled"
    }  # fmt: skip
    assert found[1]["total"] == found[0]["total"]
