"""The network as the core runs it: each core layer is conv or linear, requantise and max pool in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.layers import Conv, Flatten, Layer, Linear, MaxPool, Relu, Requantize
from ..models.network import Network, Tensor
from .machine import Machine
from .mapping import LayerShape, MappingError
from .pe import PeKind

__all__ = ["CoreLayer", "check_accumulators", "check_served", "group_layers"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreLayer:
    """One pass through array and POST."""

    shape: LayerShape
    weights: NDArray[np.int8]
    """(K, C, FY, FX); a linear layer's inputs in the order in which they lie in memory."""
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    """(K,) each, as is `multiplier`."""
    rounding: int
    in_zero_point: int
    out_zero_point: int
    clamp_low: int
    clamp_high: int
    output_shape: tuple[int, ...]
    """(K, H, W) or (K,) of the tensor that lies in memory as HWC."""


_SUPPORTED = (
    "a core layer is Conv (groups 1) or Flatten and Linear, then Requantize, then at will Relu and "
    "a MaxPool whose stride is its kernel"
)


def _refuse(layer: Layer, fault: str, way: str) -> MappingError:
    return MappingError(f"layer {layer.name}: {fault}; {_SUPPORTED}: {way}")


def _check_chain(network: Network) -> None:
    """Nothing; MappingError where a layer doesn't take what the layer before it made."""
    current = network.input
    for layer in network.layers:
        if layer.input != current:
            raise _refuse(
                layer,
                f"it takes {layer.input!r}, the layer before it made {current!r}",
                "map a network without branches",
            )
        current = layer.output
    if current != network.output:
        raise _refuse(
            network.layers[-1],
            f"it makes {current!r}, the network's output is {network.output!r}",
            "leave out the layers after the output",
        )


def _check_format(layer: Layer, what: str, name: str) -> None:
    if name != "int8":
        raise _refuse(layer, f"{what} must be int8, not {name}", "requantise it to int8")


def _linear_weights(values: NDArray[np.int8], image: tuple[int, ...] | None) -> NDArray[np.int8]:
    """Weights (K, N, 1, 1) of a linear layer whose input lies as (C, H, W) `image` in HWC order."""
    count = values.shape[0]
    if image is not None:
        values = values.reshape(count, *image).transpose(0, 2, 3, 1)
    return values.reshape(count, -1, 1, 1)


@dataclass(slots=True)
class _Cursor:
    """Where in the network's layers the grouping is, and how the current tensor lies in memory."""

    network: Network
    position: int = 0
    image: tuple[int, ...] | None = None
    """(C, H, W) before the Flatten that the current tensor went through; None without one."""

    def peek(self) -> Layer | None:
        layers = self.network.layers
        return layers[self.position] if self.position < len(layers) else None

    def tensor(self, name: str) -> Tensor:
        return self.network.tensors[name]

    def skip_flatten(self) -> Layer | None:
        """The next layer that isn't a Flatten; remembers what was flattened."""
        layer = self.peek()
        while isinstance(layer, Flatten):
            shape = self.tensor(layer.input).shape
            if len(shape) == 3:
                self.image = shape
            self.position += 1
            following = self.peek()
            if following is None and shape[1:] not in ((), (1, 1)):
                raise _refuse(
                    layer,
                    "a Flatten at the end would reorder the output",
                    "end with the layer before it",
                )
            layer = following
        return layer


def group_layers(network: Network) -> tuple[CoreLayer, ...]:
    """The core layers of `network`, in order.

    Raises:
        MappingError: a layer that the core doesn't run; the message names it and what is supported.
    """
    _check_chain(network)
    cursor = _Cursor(network)
    result = []
    while (layer := cursor.skip_flatten()) is not None:
        result.append(_take_core_layer(cursor, layer))
    if not result:
        raise MappingError(f"network {network.name} has nothing to compute; {_SUPPORTED}")
    return tuple(result)


def _take_core_layer(cursor: _Cursor, layer: Layer) -> CoreLayer:
    network = cursor.network
    if not isinstance(layer, Conv | Linear):
        where = "" if cursor.position else " at the network's input"
        raise _refuse(layer, f"a {layer.kind} can't stand here{where}", "put it after a Requantize")
    source, record = cursor.tensor(layer.input), network.weights[layer.name]
    _check_format(layer, f"its input {source.name}", source.fmt.name)
    kind = PeKind.of(record.fmt.name, source.fmt.name)
    if kind is None:
        served = ", ".join(kind.weight_format for kind in PeKind)
        raise _refuse(
            layer, f"its weights must be {served}, not {record.fmt.name}", "quantise it to one of them"
        )
    values = record.values.astype(np.int8)
    if isinstance(layer, Conv):
        if layer.groups != 1:
            raise _refuse(layer, f"groups must be 1, not {layer.groups}", "use an ordinary convolution")
        if len(source.shape) != 3:
            raise _refuse(layer, "its input must be (C, H, W)", "leave out the Flatten")
        weights = values
    else:
        weights = _linear_weights(values, cursor.image)
    cursor.image = None
    cursor.position += 1

    requantize = cursor.peek()
    if not isinstance(requantize, Requantize):
        raise _refuse(layer, "no Requantize follows it", "put one after it")
    result = cursor.tensor(requantize.output)
    _check_format(requantize, f"its output {result.name}", result.fmt.name)
    cursor.position += 1
    low, high, pool = requantize.low, requantize.high, None
    while isinstance(after := cursor.peek(), Relu | MaxPool):
        if isinstance(after, Relu):
            # A maximum commutes with the pool's maximum, so it may stand on either side.
            low, high = max(low, result.zero_point), max(high, result.zero_point)
        elif pool is not None:
            raise _refuse(after, "a second pool follows the first", "make it one pool")
        else:
            pool = _check_pool(after)
        cursor.position += 1

    accumulators = cursor.tensor(layer.output).shape
    oy, ox = accumulators[1:] if len(accumulators) == 3 else (1, 1)
    py, px = pool.kernel if pool is not None else (1, 1)
    oy, ox = oy // py * py, ox // px * px
    image = source.shape if isinstance(layer, Conv) else (weights.shape[1], 1, 1)
    stride, padding, dilation = (
        (layer.stride, layer.padding, layer.dilation)
        if isinstance(layer, Conv)
        else ((1, 1), (0, 0, 0, 0), (1, 1))
    )
    shape = LayerShape(
        name=layer.name,
        K=weights.shape[0],
        C=image[0],
        H=image[1],
        W=image[2],
        FY=weights.shape[2],
        FX=weights.shape[3],
        OY=oy,
        OX=ox,
        stride_y=stride[0],
        stride_x=stride[1],
        dilation_y=dilation[0],
        dilation_x=dilation[1],
        pad_top=padding[0],
        pad_left=padding[1],
        pool_y=py,
        pool_x=px,
        pe=kind,
    )
    return CoreLayer(
        shape=shape,
        weights=np.ascontiguousarray(weights),
        bias=np.asarray(record.bias_or_zero, np.int32),
        multiplier=requantize.multiplier,
        shift=requantize.shift,
        rounding=int(requantize.rounding),
        in_zero_point=source.zero_point,
        out_zero_point=result.zero_point,
        clamp_low=low,
        clamp_high=high,
        output_shape=(
            (shape.K, oy // py, ox // px) if len(accumulators) == 3 else (shape.K,)
        ),
    )  # fmt: skip


def _check_pool(pool: MaxPool) -> MaxPool:
    if pool.stride != pool.kernel or any(pool.padding):
        raise _refuse(
            pool,
            f"its kernel is {pool.kernel}, its stride {pool.stride}, its padding {pool.padding}",
            "make the stride equal to the kernel and the padding 0",
        )
    if max(pool.kernel) > 15:
        raise _refuse(pool, f"its kernel is {pool.kernel}", "use at most 15 × 15")
    return pool


def check_served(layer: CoreLayer, machine: Machine) -> None:
    """Nothing; MappingError, with the layer's name, when no PE of the machine serves its formats."""
    kind = layer.shape.pe
    if kind not in machine.array.kinds:
        raise MappingError(
            f"layer {layer.shape.name}: no PE of {machine.name} serves {kind.weight_format} weights on "
            f"{kind.act_format} activations, only "
            f"{', '.join(machine.array.pes)}: add {kind.key!r} to array.pes"
        )


def check_accumulators(layer: CoreLayer, machine: Machine) -> None:
    """Prove that no sum of this layer overflows, whatever the int8 input and the order of terms.

    Every product's interval holds 0, so the bounds of the whole sum bound each partial sum too.

    Raises:
        MappingError: naming the layer and the bits it needs.
    """
    flat = layer.weights.reshape(layer.shape.K, -1).astype(np.int64)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    low, high = positive * -128 + negative * 127, positive * 127 + negative * -128
    for what, bits, least, most, way in (
        ("accumulators", machine.array.acc_bits, low, high, "raise array.acc_bits to {}"),
        ("sums with bias", 32, low + layer.bias, high + layer.bias, "use fewer or smaller weights"),
    ):
        need = max(
            (-int(least.min()) - 1).bit_length() + 1 if int(least.min()) < 0 else 1,
            max(int(most.max()), 0).bit_length() + 1,
        )
        if need > bits:
            raise MappingError(
                f"layer {layer.shape.name}: its {what} need {need} bits, there are {bits}: "
                + (way.format(need) if need <= 32 else "use fewer or smaller weights")
            )
