"""Networks that something else made: ONNX, QONNX, TFLite and PyTorch files, read without trust.

Imported as `bitwright.models.importers`.
"""

from .model import CoreStep, HostStep, Model

__all__ = ["CoreStep", "HostStep", "Model"]
