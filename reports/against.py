"""A model run beside the framework that its file was made for, value by value."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.importers.frameworks import FRAMEWORKS, run_framework
from ..models.importers.load import load_model
from ..models.importers.model import Model
from ..models.importers.ranges import images_at_once
from ..models.importers.run import trace_model
from .inputs import Preparation, load_images
from .model_summary import host_rows

__all__ = ["RELATIVE", "compare_values", "verify_against"]

_STORED_BITS = 16
"""Wider tensors of a network are sums."""
RELATIVE = 1e-4
"""The largest difference of floats, relative to the largest value of the tensor, that agrees."""


def verify_against(
    spec: str,
    framework: str,
    *,
    data: str | Path | None,
    images: int,
    preparation: Preparation | None,
    seed: int,
) -> dict[str, Any]:
    """The `verify` result of a model file against its framework on the same images.

    The outputs are compared, and every value within a core step that the framework shows. Integers must be
    equal. A core step's stored values, which are floats to the framework, must be within 1 unit in the last
    place of them; its sums, which the framework forms in float32, and what the host computes, within 1e-4 of
    the tensor's largest value.

    Args:
        spec: a `.onnx` or `.tflite` file.
        framework: a key of FRAMEWORKS.
        data: an `.npz` file with images; without, seeded random ones.
        images: how many.
        preparation: of the file's images.
        seed: of random images.

    Raises:
        ValueError: the framework isn't installed, or can't run the file; the images don't fit.
    """
    started = time.perf_counter()
    if framework not in FRAMEWORKS:
        raise ValueError(f"--against takes {', '.join(FRAMEWORKS)}, not {framework!r:.40}")
    if Path(spec).suffix.lower() != FRAMEWORKS[framework][0]:
        raise ValueError(f"{spec}: {framework} runs {FRAMEWORKS[framework][0]} files")
    model = load_model(spec)
    graph = model.graph
    if data is None:
        inputs = _random_inputs(model, images, seed)
    else:
        inputs = {graph.inputs[0]: load_images(data, model, count=images, preparation=preparation).x}
    made = list(dict.fromkeys(name for core in model.cores for name in (*core.tensors, core.makes)))
    wanted = list(dict.fromkeys([*made, *graph.outputs]))
    stored = {
        name
        for core in model.cores
        for name, key in core.tensors.items()
        if core.network.tensors[key].fmt.bits <= _STORED_BITS
    }
    cases = len(next(iter(inputs.values())))
    found: dict[str, dict[str, Any]] = {}
    step = images_at_once(model)
    for start in range(0, cases, step):
        batch = {name: x[start : start + step] for name, x in inputs.items()}
        theirs = run_framework(framework, spec, batch, made)
        ours = trace_model(model, batch)
        for name in wanted:
            other = theirs.get(name)
            if other is None and name in graph.outputs:
                other = theirs.get(f"#{graph.outputs.index(name)}")
            if other is not None:
                mine = ours[name].reshape(len(other), -1)
                row = compare_values(name, mine, other, exact=name in stored)
                found[name] = _joined(found[name], row) if name in found else row
    rows = list(found.values())
    missing = [name for name in graph.outputs if name not in {row["value"] for row in rows}]
    failures = [f"{framework} shows no value {name}" for name in missing]
    failures += [_words(row) for row in rows if not row["agrees"]]
    return {
        "kind": "against",
        "agrees": bool(rows) and not failures,
        "network": graph.name,
        "framework": framework,
        "cases": cases,
        "mismatches": sum(row["images_differing"] for row in rows if not row["agrees"]),
        "values": rows,
        "failures": failures,
        "host": host_rows(model),
        "seed": seed if data is None else None,
        "seconds": time.perf_counter() - started,
    }


def _random_inputs(model: Model, images: int, seed: int) -> dict[str, NDArray[Any]]:
    """Seeded inputs: every integer of an integer type, or floats from 0 to 1."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, NDArray[Any]] = {}
    for name in model.graph.inputs:
        value = model.graph.values[name]
        shape = (images, *value.shape[1:])
        if value.dtype.kind in "iu":
            bounds = np.iinfo(value.dtype)
            inputs[name] = rng.integers(bounds.min, bounds.max, shape, value.dtype, endpoint=True)
        else:
            inputs[name] = rng.random(shape, np.float32).astype(value.dtype)
    return inputs


def compare_values(name: str, ours: NDArray[Any], theirs: NDArray[Any], *, exact: bool) -> dict[str, Any]:
    """How one value differs over all images.

    Args:
        name: of the value.
        ours, theirs: (B, N).
        exact: whether floats must be within 1 unit in the last place.
    """
    row: dict[str, Any] = {"value": name, "values": int(theirs.size), "images_differing": len(theirs)}
    if ours.shape != theirs.shape:
        return row | {"agrees": False, "reason": f"shape {ours.shape}, theirs {theirs.shape}"}
    if ours.dtype.kind in "iub" and theirs.dtype.kind in "iub":
        apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        differing = int(np.count_nonzero(apart.any(axis=1)))
        most = int(apart.max(initial=0))
        return row | {
            "images_differing": differing,
            "values_differing": int(np.count_nonzero(apart)),
            "largest_difference": most,
            "agrees": most == 0,
        }
    a, b = ours.astype(np.float32), theirs.astype(np.float32)
    both = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~both], b[~both], equal_nan=True):
        return row | {"agrees": False, "reason": "infinities or not-a-numbers at different places"}
    a, b = np.where(both, a, 0), np.where(both, b, 0)
    steps = np.abs(_ordered(a) - _ordered(b))
    apart = np.abs(a.astype(np.float64) - b)
    scale = float(np.abs(b).max(initial=0))
    relative = float(apart.max(initial=0)) / scale if scale else float(apart.max(initial=0))
    most = int(steps.max(initial=0))
    agreed = most <= 1 if exact else relative <= RELATIVE
    return row | {
        "images_differing": int(np.count_nonzero(steps.any(axis=1))),
        "values_differing": int(np.count_nonzero(steps)),
        "largest_difference": float(apart.max(initial=0)),
        "largest_ulp": most,
        "largest_relative": relative,
        "agrees": agreed,
    }


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """How a value differs over the images of two batches."""
    row = {**a, **b, "agrees": a["agrees"] and b["agrees"]}
    for key in ("values", "images_differing", "values_differing"):
        row[key] = a.get(key, 0) + b.get(key, 0)
    for key in ("largest_difference", "largest_ulp", "largest_relative"):
        if key in a and key in b:
            row[key] = max(a[key], b[key])
    return row


def _ordered(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integers whose differences are counts of float32 values in between; both zeros are 0."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _words(row: dict[str, Any]) -> str:
    if "reason" in row:
        return f"{row['value']}: {row['reason']}"
    text = f"{row['value']}: {row['values_differing']} of {row['values']} values differ, by at most "
    text += f"{row['largest_difference']:g}"
    return text + (f" ({row['largest_ulp']} units in the last place)" if "largest_ulp" in row else "")
