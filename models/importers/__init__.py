"""Networks that something else made: ONNX, QONNX, TFLite and PyTorch files, read without trust.

Imported as `bitwright.models.importers`.
"""

from .model import CoreStep, HostStep, Model
from .onnx_file import load_onnx

__all__ = ["CoreStep", "HostStep", "Model", "load_onnx"]
