"""What somebody else's file says: a graph of operators in ONNX's vocabulary, its shapes, counts and values.

Imported as `bitwright.models.graph`. A graph is float or mixed; `bitwright.models.importers` reads it from
files and makes the integer `Network` of what can be one.
"""

from .graph import Graph, Node, Value

__all__ = ["Graph", "Node", "Value"]
