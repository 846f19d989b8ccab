"""Nodes of a file held against their operators' schemas: domain, operands, attributes and types."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ..graph.evaluate import OPERATORS
from ..graph.graph import Node, Value
from ..graph.quantised import ROUNDINGS
from .onnx_tensors import TensorReader, dtype_of

__all__ = ["QONNX_DOMAINS", "QONNX_OPERATORS", "check_types", "conform"]

QONNX_DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general")
QONNX_OPERATORS: Mapping[str, tuple[str, tuple[int, int], Mapping[str, Any]]] = {
    "Quant": ("Quant", (4, 4), {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}),
    "IntQuant": ("Quant", (4, 4), {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}),
    "BipolarQuant": ("BipolarQuant", (2, 2), {}),
    "Trunc": ("Trunc", (5, 6), {"signed": 1, "narrow": 0, "rounding_mode": "FLOOR"}),
    "MultiThreshold": (
        "MultiThreshold",
        (2, 2),
        {"out_dtype": "", "out_scale": 1.0, "out_bias": 0.0, "data_layout": ""},
    ),
}
"""By operator of QONNX: its name here, how many operands it has, and its attributes with their defaults."""
_FROM_ELSEWHERE = ("Constant", "Upsample")
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 6, 7, 8
_ONNX_TYPES = {"float32": "float", "float64": "double"}


@cache
def _schema(op: str, opset: int) -> Any:
    """ONNX's schema of an operator, as it is in an opset."""
    import onnx

    try:
        return onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        raise ValueError(f"opset {opset} has no operator {op!r:.40}") from None


def conform(proto: Any, name: str, opset: int, tensors: TensorReader) -> Node:
    """A NodeProto as a node under `name`, with the defaults of attributes that it leaves out.

    Raises:
        ValueError: an unknown domain or operator, too many or too few operands, an attribute that the
            operator doesn't have or of another type.
    """
    inputs, outputs = tuple(proto.input), tuple(proto.output)
    if not any(outputs):
        raise ValueError("it makes nothing")
    given = {}
    for attribute in proto.attribute:
        if attribute.name in given:
            raise ValueError(f"attribute {attribute.name!r:.40} stands twice")
        given[attribute.name] = attribute
    if proto.domain in QONNX_DOMAINS:
        return _conform_qonnx(proto.op_type, name, inputs, outputs, given, tensors)
    if proto.domain not in ("", "ai.onnx"):
        raise ValueError(f"the domain {proto.domain!r:.60} is not known")
    if proto.op_type not in OPERATORS and proto.op_type not in _FROM_ELSEWHERE:
        raise ValueError(f"the operator {proto.op_type!r:.40} is not supported")
    schema = _schema(proto.op_type, opset)
    _check_count("operands", len(inputs), schema.min_input, schema.max_input)
    _check_count("results", len(outputs), schema.min_output, schema.max_output)
    attributes = {}
    for key, formal in schema.attributes.items():
        if key in given:
            value = _plain(given.pop(key), int(formal.type), tensors)
        elif formal.required:
            raise ValueError(f"its attribute {key} is missing")
        elif formal.default_value.name:
            value = _plain(formal.default_value, int(formal.type), tensors)
        else:
            continue
        attributes[key] = value
    if given:
        raise ValueError(f"opset {opset} knows no attribute {next(iter(given))!r:.40} of it")
    return _finished(Node(op=proto.op_type, name=name, inputs=inputs, outputs=outputs, attributes=attributes))


def _check_count(what: str, count: int, low: int, high: int) -> None:
    if not low <= count <= high:
        allowed = str(low) if low == high else f"{low} to {high}" if high < 1 << 20 else f"at least {low}"
        raise ValueError(f"it must have {allowed} {what}, not {count}")


def _finished(node: Node) -> Node:
    """The node with attributes of ONNX that hold codes or alternatives brought to plain values."""
    attributes = dict(node.attributes)
    if node.op == "Cast":
        attributes["to"] = dtype_of(attributes["to"]).name
        attributes.pop("saturate", None)
        attributes.pop("round_mode", None)
    if node.op == "Constant":
        if len(attributes) != 1 or next(iter(attributes)) in ("value_string", "value_strings"):
            raise ValueError("it must have one value, of numbers")
        ((key, value),) = attributes.items()
        kind = None if key == "value" else np.float32 if "float" in key else np.int64
        attributes = {"value": np.asarray(value, kind)}
    return Node(op=node.op, name=node.name, inputs=node.inputs, outputs=node.outputs, attributes=attributes)


def _conform_qonnx(
    op: str,
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    given: Mapping[str, Any],
    tensors: TensorReader,
) -> Node:
    if op not in QONNX_OPERATORS:
        raise ValueError(f"the QONNX operator {op!r:.40} is not supported")
    here, (low, high), defaults = QONNX_OPERATORS[op]
    _check_count("operands", len(inputs), low, high)
    _check_count("results", len(outputs), 1, 1)
    if not all(inputs):
        raise ValueError("none of its operands may be left out")
    attributes = dict(defaults)
    for key, attribute in given.items():
        if key not in defaults:
            raise ValueError(f"QONNX knows no attribute {key!r:.40} of it")
        kind = {int: _INT, float: _FLOAT, str: _STRING}[type(defaults[key])]
        attributes[key] = _plain(attribute, kind, tensors)
    mode = attributes.get("rounding_mode", "ROUND").upper()
    if mode not in ROUNDINGS:
        raise ValueError(f"rounding_mode must be one of {', '.join(ROUNDINGS)}, not {mode!r:.40}")
    return Node(op=here, name=name, inputs=inputs, outputs=outputs, attributes=attributes)


def _plain(attribute: Any, kind: int, tensors: TensorReader) -> Any:
    """An AttributeProto of type `kind` as int, float, str, array, or a tuple of the first three."""
    # files older than IR version 2 leave the type out
    if attribute.type not in (0, kind) or attribute.ref_attr_name:
        raise ValueError(f"attribute {attribute.name!r:.40} has another type than its operator wants")
    if kind == _FLOAT:
        return float(attribute.f)
    if kind == _INT:
        return int(attribute.i)
    if kind == _STRING:
        return attribute.s.decode("utf-8")
    if kind == _FLOATS:
        return tuple(attribute.floats)
    if kind == _INTS:
        return tuple(attribute.ints)
    if kind == _STRINGS:
        return tuple(text.decode("utf-8") for text in attribute.strings)
    if kind == _TENSOR:
        return tensors.read(attribute.t)
    raise ValueError(f"attribute {attribute.name!r:.40} is of a type that is not supported")


def check_types(node: Node, opset: int, values: Mapping[str, Value]) -> None:
    """Nothing; the types of a node's operands are those that its schema allows.

    Raises:
        ValueError: a type that the operator doesn't take, two that must be equal and aren't, or an operand
            that may not be left out is.
    """
    if node.op in ("Quant", "BipolarQuant", "Trunc", "MultiThreshold"):
        for name in node.inputs:
            if values[name].dtype != np.float32:
                raise ValueError(f"operand {name!r:.80} must be float32, not {values[name].dtype}")
        return
    schema = _schema(node.op, opset)
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    chosen: dict[str, np.dtype[Any]] = {}
    for i, name in enumerate(node.inputs):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        if not name:
            if formal.option.name == "Single":
                raise ValueError(f"its operand {formal.name} may not be left out")
            continue
        dtype = values[name].dtype
        text = f"tensor({_ONNX_TYPES.get(dtype.name, dtype.name)})"
        if text not in allowed.get(formal.type_str, {formal.type_str}):
            raise ValueError(f"its operand {formal.name} may not be of type {dtype}")
        if formal.is_homogeneous and chosen.setdefault(formal.type_str, dtype) != dtype:
            raise ValueError(f"its operand {formal.name} must be {chosen[formal.type_str]}, not {dtype}")
