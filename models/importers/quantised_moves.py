"""The layers that hand stored values on: max pools, concatenations, channel shuffles, flattening."""

from __future__ import annotations

import math

from ..graph import Node
from ..graph.attributes import integer
from ..layers import Concat, Flatten, MaxPool, Shuffle
from .quantised_draft import DraftTensor
from .quantised_operands import Operands, flat_window, picture_shape
from .quantised_values import NotLowered, Parts, State, Stored

__all__ = ["concat", "join", "max_pool", "pad", "reshape", "shaped"]


def max_pool(at: Operands, node: Node, x: Stored) -> Stored:
    """The maxima of windows; NotLowered for a window that the core doesn't have."""
    window = at.pool_window(node, at.graph.values[node.inputs[0]].shape[2:])
    kernel, stride, padding = flat_window(window)
    out = at.draft.fresh(f"{node.name}.out")
    layer = MaxPool(
        name=at.draft.fresh(node.name),
        input=x.tensor,
        output=out,
        kernel=kernel,
        stride=stride,
        padding=padding,
    )
    at.draft.tensors[out] = at.draft.shaped(
        x.tensor, out, layer.output_shape(at.draft.tensors[x.tensor].shape)
    )
    at.draft.append(layer)
    return Stored(tensor=out, unit=x.unit, zero=x.zero)


def pad(at: Operands, node: Node) -> State:
    """Stored values with zeros around them, which the next layer inserts; else NotLowered."""
    x, rank = at.plain(node.inputs[0]), len(at.graph.values[node.inputs[0]].shape)
    pads = at.integers_at(1, node)
    if node.attributes.get("mode", "constant") != "constant" or pads is None or len(node.inputs) > 3:
        raise NotLowered("the core pads with zeros")
    sides = [int(n) for n in pads.reshape(-1)]
    if at.number_at(2, node) != 0 or (x.unit == 1 and x.zero != 0):
        raise NotLowered("the core pads with zeros")
    if rank != 4 or any(sides[:2]) or any(sides[4:6]) or min(sides) < 0:
        raise NotLowered("the core pads pictures around their edges")
    return Stored(tensor=x.tensor, unit=x.unit, zero=x.zero, pad=(sides[2], sides[3], sides[6], sides[7]))


def concat(at: Operands, node: Node) -> State:
    """Joined channels, or parts that a quantiser must give one step first; else NotLowered."""
    parts = [at.plain(name) for name in node.inputs]
    rank = len(at.graph.values[node.outputs[0]].shape)
    if integer(node, "axis") % rank != 1:
        raise NotLowered("the core joins channels")
    tensors = [at.draft.tensors[x.tensor] for x in parts]
    if len({(x.unit, x.zero) for x in parts}) > 1:
        return Parts(parts=tuple(parts))
    if len({(tensor.scale, tensor.zero_point) for tensor in tensors}) > 1:
        raise NotLowered("integers of different steps are joined as if they had one")
    return join(at, node, parts)


def join(at: Operands, node: Node, parts: list[Stored]) -> Stored:
    """The channels of tensors with one step, one after the other."""
    tensors = [at.draft.tensors[x.tensor] for x in parts]
    out = at.draft.fresh(f"{node.name}.out")
    layer = Concat(name=at.draft.fresh(node.name), inputs=tuple(x.tensor for x in parts), output=out)
    shape = layer.output_shape([tensor.shape for tensor in tensors])
    at.draft.tensors[out] = DraftTensor(
        name=out,
        shape=shape,
        low=min(tensor.low for tensor in tensors),
        high=max(tensor.high for tensor in tensors),
        step=min(tensor.step for tensor in tensors),
        scale=tensors[0].scale,
        zero_point=tensors[0].zero_point,
    )
    at.draft.append(layer)
    return Stored(tensor=out, unit=parts[0].unit, zero=parts[0].zero)


def reshape(at: Operands, node: Node, x: Stored) -> State:
    """Stored values in another shape: flattened, split, swapped or shuffled.

    Raises:
        NotLowered: the core has no such move.
    """
    shape, tensor = at.graph.values[node.outputs[0]].shape, at.draft.tensors[x.tensor]
    if any(x.pad):
        raise NotLowered("its input is padded")
    channels, pixels = tensor.shape[0], math.prod(tensor.shape[1:])
    if node.op == "Transpose":
        perm = tuple(int(n) for n in node.attributes.get("perm", ()))
        if x.groups and not x.swapped and perm == (0, 2, 1, *range(3, len(perm))):
            return Stored(tensor=x.tensor, unit=x.unit, zero=x.zero, groups=x.groups, swapped=True)
        if x.groups or math.prod(tensor.shape) != max(tensor.shape):
            raise NotLowered("the core's only transposition is a channel shuffle")
    split = len(shape) >= 4 and shape[1] * shape[2] == channels and math.prod(shape[3:]) == pixels
    if not x.groups and len(tensor.shape) == 3 and split and shape[1:] != tensor.shape:
        return Stored(tensor=x.tensor, unit=x.unit, zero=x.zero, groups=shape[1])
    moved = picture_shape(shape)
    source = x.tensor
    if x.groups and moved != tensor.shape:
        raise NotLowered("its split channels must come together again")
    if x.swapped:
        source = at.draft.like(x.tensor, f"{node.name}.out", tensor.shape)
        layer = Shuffle(name=at.draft.fresh(node.name), input=x.tensor, output=source, groups=x.groups)
        at.draft.append(layer)
    return Stored(tensor=shaped(at, node, source, moved), unit=x.unit, zero=x.zero)


def shaped(at: Operands, node: Node, tensor: str, shape: tuple[int, ...]) -> str:
    """A tensor of `shape` with the same values: itself, or flattened."""
    given = at.draft.tensors[tensor].shape
    if given == shape:
        return tensor
    if len(shape) != 1 or math.prod(given) != shape[0]:
        raise NotLowered(f"the core flattens pictures, it makes no {shape} of {given}")
    out = at.draft.like(tensor, f"{node.name}.flat", shape)
    at.draft.append(Flatten(name=at.draft.fresh(f"{node.name}.flatten"), input=tensor, output=out))
    return out
