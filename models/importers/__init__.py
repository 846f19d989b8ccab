"""Networks that something else made: ONNX, QONNX, TFLite and PyTorch files, read without trust.

Imported as `bitwright.models.importers`.
"""

from .model import Code, CoreStep, HostStep, Model
from .onnx_file import load_onnx
from .quantised import lower_graph
from .run import run_model, trace_model
from .torch_program import import_torch, load_torch

__all__ = [
    "Code",
    "CoreStep",
    "HostStep",
    "Model",
    "import_torch",
    "load_onnx",
    "load_torch",
    "lower_graph",
    "run_model",
    "trace_model",
]
