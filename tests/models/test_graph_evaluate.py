from pathlib import Path

import numpy as np
import pytest
from bitwright.models.graph import run_graph
from bitwright.models.graph.evaluate import ARITHMETIC, OPERATORS
from bitwright.models.importers import load_onnx
from onnx_cases import CASES, Case, opsets

runtime = pytest.importorskip("onnxruntime")
runtime.set_default_logger_severity(4)


def runtime_says(model: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray] | str:
    """What ONNX Runtime makes of a model, or why it makes nothing."""
    try:
        session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception as fault:
        return str(fault)


def assert_near(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name
    if theirs.dtype.kind == "f":
        size = max(1.0, float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0)))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * size, err_msg=name)
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_equals_onnx_runtime_in_every_opset(name: str, tmp_path: Path) -> None:
    since, make = CASES[name]
    ran, refused = 0, []
    for opset in opsets(name.split(maxsplit=1)[0], since):
        for seed in range(12 if name in ("Conv", "MaxPool", "AveragePool", "Resize", "Pad") else 4):
            case: Case = make(np.random.default_rng([opset, seed]), opset)
            data = case.model(opset).SerializeToString()
            theirs = runtime_says(data, case.feeds)
            if isinstance(theirs, str):
                refused.append(theirs)
                continue
            path = tmp_path / "case.onnx"
            path.write_bytes(data)
            graph = load_onnx(path)
            where = f"opset {opset}, seed {seed}: {case.attributes}"
            for result, wanted in zip(run_graph(graph, case.feeds).values(), theirs, strict=True):
                assert_near(where, result, wanted)
            for output, wanted in zip(graph.outputs, theirs, strict=True):
                assert graph.values[output].shape == wanted.shape, where
            ran += 1
    # ONNX Runtime lacks kernels for a few pairs of operator and opset, and refuses some pads
    assert ran >= 3 * len(refused), refused


def test_every_operator_that_graphs_may_hold_is_tried_against_a_runtime() -> None:
    tried = {name.split()[0] for name in CASES}
    elsewhere = {"ConstantOfShape", "Range"}
    quantised = {
        *("BipolarQuant", "MultiThreshold", "Quant", "Trunc", "ConvInteger", "DequantizeLinear"),
        *("DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear"),
    }
    assert set(OPERATORS) == set(ARITHMETIC) == tried | elsewhere | quantised
