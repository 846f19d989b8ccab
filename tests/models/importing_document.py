"""The tables of docs/importing.md, made from what the importers themselves look up.

python tests/models/importing_document.py     writes them into the document
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bitwright.models.graph.evaluate import ARITHMETIC
from bitwright.models.graph.evaluate import OPERATORS as EVALUATED
from bitwright.models.importers import quantised
from bitwright.models.importers.onnx_schema import QONNX_OPERATORS
from bitwright.models.importers.tflite_core import HARDWARE as TFLITE
from bitwright.models.importers.torch_operators import OPERATORS as TORCH

__all__ = ["DOCUMENT", "TABLES", "with_tables"]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "importing.md"

HOST = "host"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def _core(op: str) -> str:
    return quantised.OPERATORS.get(op, HOST)


def _onnx() -> str:
    qonnx = {ours for ours, _, _ in QONNX_OPERATORS.values()}
    rows = [(f"`{op}`", ARITHMETIC[op], _core(op)) for op in sorted(set(EVALUATED) - qonnx)]
    return _table(("operator", "rounding of the framework, and on the host", "on the core"), rows)


def _qonnx() -> str:
    rows = [(f"`{op}`", ARITHMETIC[ours], _core(ours)) for op, (ours, _, _) in QONNX_OPERATORS.items()]
    return _table(("operator", "rounding of the framework, and on the host", "on the core"), rows)


def _tflite() -> str:
    rows = [(f"`{op}`", path, rounding) for op, (path, rounding) in TFLITE.items()]
    return _table(("int8 operator", "hardware path", "rounding"), rows)


def _torch() -> str:
    kinds: dict[str, list[str]] = {}
    for call, (op, _) in TORCH.items():
        kinds.setdefault(op, []).append(f"`{call.removesuffix('.default')}`")
    rows = [(", ".join(calls), f"`{op}`" if op in EVALUATED else "nothing") for op, calls in kinds.items()]
    return _table(("`torch.ops.aten`", "becomes"), rows)


TABLES: dict[str, Callable[[], str]] = {"onnx": _onnx, "qonnx": _qonnx, "tflite": _tflite, "torch": _torch}


def with_tables(text: str) -> str:
    """The document's text with every table between its marks as the importers have it now."""
    for name, make in TABLES.items():
        start, end = f"<!-- table {name} -->\n", f"<!-- end {name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{DOCUMENT.name} must have the marks of the table {name}")
        text = f"{before}{start}{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
