"""Model files run by the frameworks that they were made for, which judge what the importers make of them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAMEWORKS", "run_framework"]

Arrays = dict[str, NDArray[Any]]


def _package(name: str, framework: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f"--against {framework} needs the package {name.partition('.')[0]}, which isn't installed: "
            "pip install 'bitwright[oracle]'"
        ) from None


def _onnxruntime(path: Path, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Arrays:
    runtime = _package("onnxruntime", "onnxruntime")
    import onnx

    model = onnx.load(str(path))
    made = {name for node in model.graph.node for name in node.output}
    listed = {value.name for value in model.graph.output}
    types = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    extra = [name for name in wanted if name in made - listed and name in types]
    model.graph.output.extend(types[name] for name in extra)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    # Rewritten graphs would join the very operators whose results are compared.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = []
    for index in range(_examples(inputs)):
        feeds = {name: x[index : index + 1] for name, x in inputs.items()}
        rows.append(dict(zip(names, session.run(names, feeds), strict=True)))
    return _stacked(rows)


def _qonnx(path: Path, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Arrays:
    wrapper = _package("qonnx.core.modelwrapper", "qonnx").ModelWrapper(str(path))
    shapes = _package("qonnx.transformation.infer_shapes", "qonnx")
    executor = _package("qonnx.core.onnx_exec", "qonnx")
    wrapper = wrapper.transform(shapes.InferShapes())
    keep = {*wanted, *(output.name for output in wrapper.graph.output)}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files state shapes that don't hold: () for (1, 10)
        for index in range(_examples(inputs)):
            feeds = {name: x[index : index + 1] for name, x in inputs.items()}
            context = executor.execute_onnx(wrapper, feeds, return_full_exec_context=True)
            rows.append({name: np.asarray(context[name]) for name in keep if name in context})
    return _stacked(rows)


def _litert(path: Path, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Arrays:
    from .tflite_file import read_tflite
    from .tflite_graph import TfliteGraph

    runtime = _package("ai_edge_litert.interpreter", "litert")
    interpreter = runtime.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    sources, results = interpreter.get_input_details(), interpreter.get_output_details()
    named = {value: number for number, value in TfliteGraph(read_tflite(path), "file").value_of.items()}
    rows = []
    for index in range(_examples(inputs)):
        for detail, x in zip(sources, inputs.values(), strict=True):
            interpreter.set_tensor(detail["index"], _channels_last(x[index : index + 1], detail["shape"]))
        interpreter.invoke()
        row = {name: interpreter.get_tensor(named[name]) for name in wanted if name in named}
        # Results go by their place, since a file may call them as it likes.
        row |= {f"#{place}": interpreter.get_tensor(d["index"]) for place, d in enumerate(results)}
        rows.append({name: _channels_first(value) for name, value in row.items()})
    return _stacked(rows)


def _channels_last(x: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x.reshape(shape)


def _channels_first(x: NDArray[Any]) -> NDArray[Any]:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def _examples(inputs: Mapping[str, NDArray[Any]]) -> int:
    return len(next(iter(inputs.values())))


def _stacked(rows: Sequence[Arrays]) -> Arrays:
    # A value without the batch axis is one example's.
    return {name: np.stack([row[name].reshape(-1) for row in rows]) for name in rows[0]}


FRAMEWORKS: Mapping[str, tuple[str, Callable[..., Arrays]]] = MappingProxyType(
    {
        "onnxruntime": (".onnx", _onnxruntime),
        "qonnx": (".onnx", _qonnx),
        "litert": (".tflite", _litert),
    }
)
"""The suffix of a framework's files, and what runs them."""


def run_framework(
    name: str, path: str | Path, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]
) -> Arrays:
    """What a framework makes of images, a row of values each, by the value's name or '#' and output number.

    Args:
        name: a key of FRAMEWORKS. LiteRT runs its reference kernels.
        path: the model's file.
        inputs: by name, (B, …), pictures (B, C, H, W), of the types that the file takes.
        wanted: values besides the file's outputs; those that the framework doesn't show are left out.

    Raises:
        ValueError: the framework isn't installed, unknown, or can't run the file.
    """
    if name not in FRAMEWORKS:
        raise ValueError(f"--against takes {', '.join(FRAMEWORKS)}, not {name!r:.40}")
    suffix, run = FRAMEWORKS[name]
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"{path}: {name} runs {suffix} files")
    try:
        return run(Path(path), inputs, wanted)
    except (ValueError, OSError):
        raise
    except Exception as fault:  # each framework has errors of its own
        raise ValueError(f"{path}: {name} can't run it ({type(fault).__name__}: {fault})") from None
