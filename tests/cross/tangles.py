"""Random tangled networks: tensors with many readers, shuffles of shuffles, wholes within wholes.

A network is grown layer by layer with a calibration batch that has run as far as it reaches, so that results
spread over int8, which all tensors are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from bitwright.models import Format, Network, Rounding, Tensor, WeightRecord
from bitwright.models.layers import Add, Concat, Conv, Flatten, Linear, MaxPool, Relu, Requantize, Shuffle
from bitwright.models.numerics import quantize_multiplier
from bitwright.models.reference import run_layer

INT8, INT32 = Format.parse("int8"), Format.parse("int32")
ZERO_POINT = 7
"""Of all tensors but the sums, so that any two can be concatenated."""
MOST_CHANNELS = 100


class Tangle:
    """A network under construction; most methods return the name of the tensor that they make."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 97])
        self.seed = seed
        shape = (4 * self.draw(1, 10), self.draw(1, 8), self.draw(1, 8))
        self.tensors = {"x": Tensor(name="x", shape=shape, fmt=INT8, scale=1.0, zero_point=ZERO_POINT)}
        self.values = {"x": self.rng.integers(-128, 128, (4, *shape)).astype(np.int8)}
        self.layers: list[Any] = []
        self.weights: dict[str, WeightRecord] = {}

    def draw(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def divisor(self, count: int) -> int:
        return int(self.rng.choice([n for n in range(1, count + 1) if count % n == 0]))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def network(self, output: str) -> Network:
        """What the output needs of the layers so far."""
        needed, layers = {output}, []
        for layer in reversed(self.layers):
            if layer.output in needed:
                needed.update(layer.inputs)
                layers.insert(0, layer)
        names = {layer.name for layer in layers}
        return Network(
            name=f"tangle_{self.seed}", input="x", output=output,
            tensors={name: tensor for name, tensor in self.tensors.items() if name in needed},
            layers=tuple(layers),
            weights={name: record for name, record in self.weights.items() if name in names},
        )  # fmt: skip

    def append(self, layer: Any, shape: tuple[int, ...], fmt: Format = INT8) -> str:
        sums = fmt is INT32
        self.tensors[layer.output] = Tensor(
            name=layer.output, shape=shape, fmt=fmt, scale=None if sums else 1.0,
            zero_point=0 if sums else ZERO_POINT,
        )  # fmt: skip
        self.layers.append(layer)
        network = self.network(layer.output)
        self.values[layer.output] = run_layer(network, layer, *(self.values[name] for name in layer.inputs))
        return layer.output

    def fresh(self, kind: str) -> str:
        return f"{kind}{len(self.layers)}"

    # -- sums ----------------------------------------------------------------------------------

    def weighted(self, layer: Conv | Linear, shape: tuple[int, ...], weights: tuple[int, ...]) -> str:
        values = self.rng.integers(-128, 128, weights).astype(np.int8)
        self.weights[layer.name] = WeightRecord.dense(
            layer=layer.name, values=values, fmt=INT8, scales=np.ones(len(values)),
            bias=self.rng.integers(-40, 40, len(values)),
        )  # fmt: skip
        return self.requantize(self.append(layer, shape, INT32), Rounding(self.draw(0, 3)), same=False)

    def conv(self, source: str, count: int, groups: int = 1) -> str:
        name, (depth, *pixels) = self.fresh("conv"), self.shape(source)
        layer = Conv(name=name, input=source, output=f"{name}.acc", groups=groups)
        return self.weighted(layer, (count, *pixels), (count, depth // groups, 1, 1))

    def linear(self, source: str, count: int) -> str:
        name = self.fresh("linear")
        layer = Linear(name=name, input=source, output=f"{name}.acc")
        return self.weighted(layer, (count,), (count, *self.shape(source)))

    def add(self, first: str, second: str) -> str:
        name, rounding = self.fresh("add"), Rounding(self.draw(0, 3))
        layer = Add(
            name=name, inputs=(first, second), output=f"{name}.acc",
            multiplier=self.rng.integers(1 << 29, 1 << 31, 2), shift=self.rng.integers(0, 3, 2),
            left_shift=self.draw(0, 20), rounding=rounding,
        )  # fmt: skip
        return self.requantize(self.append(layer, self.shape(first), INT32), rounding, same=True)

    def requantize(self, acc: str, rounding: Rounding, same: bool) -> str:
        """Results with a standard deviation of some 60; `same` gives all channels one scale and no bias."""
        name, sums = self.fresh("requantize"), self.values[acc].astype(np.float64)
        count = sums.shape[1]
        deviation = np.full(count, sums.std())
        wanted = np.minimum(60 / np.maximum(deviation, 1.0), 0.999)
        bias = None
        if not same:
            wanted = wanted * self.rng.uniform(0.5, 1.0, count)
            bias = np.rint(self.rng.uniform(-1, 1, count) * deviation).astype(np.int32)
        pairs = np.array([quantize_multiplier(float(real)) for real in wanted])
        layer = Requantize(
            name=name, input=acc, output=name, multiplier=pairs[:, 0], shift=pairs[:, 1], rounding=rounding,
            low=-128, high=127, bias=bias,
        )  # fmt: skip
        return self.append(layer, self.shape(acc))

    # -- moves ---------------------------------------------------------------------------------

    def shuffle(self, source: str) -> str:
        name, groups = self.fresh("shuffle"), self.divisor(self.shape(source)[0])
        layer = Shuffle(name=name, input=source, output=name, groups=groups)
        return self.append(layer, self.shape(source))

    def relu(self, source: str) -> str:
        name = self.fresh("relu")
        return self.append(Relu(name=name, input=source, output=name), self.shape(source))

    def pool(self, source: str) -> str:
        """An overlapping max pool that keeps the picture's size."""
        name = self.fresh("pool")
        layer = MaxPool(
            name=name, input=source, output=name, kernel=(2, 3), stride=(1, 1), padding=(1, 1, 0, 1)
        )
        return self.append(layer, self.shape(source))

    def concat(self, sources: list[str]) -> str:
        name = self.fresh("concat")
        count = sum(self.shape(source)[0] for source in sources)
        layer = Concat(name=name, inputs=tuple(sources), output=name)
        return self.append(layer, (count, *self.shape(sources[0])[1:]))

    def flatten(self, source: str) -> str:
        name = self.fresh("flatten")
        return self.append(Flatten(name=name, input=source, output=name), (math.prod(self.shape(source)),))

    def grow(self, made: list[str]) -> str:
        """A tensor from one of the last four, and others of all that are `made`."""
        source = str(self.rng.choice(made[-4:]))
        count = self.shape(source)[0]
        choice = self.draw(0, 8)
        if choice == 0:
            return self.conv(source, self.draw(1, 36))
        if choice == 1:
            groups = self.divisor(count)
            return self.conv(source, groups * self.draw(1, max(1, 36 // groups)), groups)
        if choice == 2:
            return self.conv(source, count, groups=count)
        if choice == 3:
            return self.relu(source)
        if choice == 4:
            return self.pool(source)
        if choice == 5:
            alike = [name for name in made if self.shape(name) == self.shape(source)]
            return self.add(source, str(self.rng.choice(alike)))
        if choice == 6:
            return self.shuffle(source)
        parts = [str(name) for name in self.rng.choice(made, self.draw(2, 3))]
        if sum(self.shape(name)[0] for name in parts) > MOST_CHANNELS:
            return self.conv(source, 8)
        return self.concat(parts)


def tangled_network(seed: int) -> Network:
    """A network of up to ten tangled layers, at times with linear layers at its end."""
    tangle = Tangle(seed)
    made = ["x"]
    for _ in range(tangle.draw(3, 10)):
        made.append(tangle.grow(made))
    if tangle.rng.random() < 0.3:
        flat = [tangle.flatten(name) for name in made[-2:]]
        made.append(tangle.concat([tangle.linear(name, tangle.draw(1, 9)) for name in flat]))
    return tangle.network(made[-1])
