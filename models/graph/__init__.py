"""What somebody else's file says: a graph of operators in ONNX's vocabulary, its shapes, counts and values.

Imported as `bitwright.models.graph`. A graph is float or mixed; `bitwright.models.importers` reads it from
files and makes the integer `Network` of what can be one. Only running convolutions and pools imports torch.
"""

from .batch_norm import fold_batch_norm
from .counts import LayerCount, layer_counts
from .evaluate import run_graph, run_node, trace_graph
from .fold import fold_constants
from .graph import Graph, Node, Value
from .shapes import ShapeTracker, infer_values

__all__ = [
    "Graph",
    "LayerCount",
    "Node",
    "ShapeTracker",
    "Value",
    "fold_batch_norm",
    "fold_constants",
    "infer_values",
    "layer_counts",
    "run_graph",
    "run_node",
    "trace_graph",
]
