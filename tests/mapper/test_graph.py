"""How a network's graph becomes core layers: what is folded, where tensors lie, what is copied."""

import numpy as np
import pytest
from bitwright.mapper.graph import Graph, lower_graph
from bitwright.mapper.isa import Opcode, Token
from bitwright.mapper.lower import map_network
from bitwright.mapper.lowering import progressions
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.objective import Objective
from bitwright.mapper.pe import PeKind
from bitwright.mapper.shape import Place
from bitwright.models import Format, Network, Rounding, Tensor, WeightRecord
from bitwright.models.layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Relu,
    Requantize,
    Shuffle,
)

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


class Sketch:
    """A network drawn layer by layer; only shapes, names and weights' positions matter."""

    def __init__(self, *shape: int) -> None:
        self.tensors = {"x": Tensor(name="x", shape=shape, fmt=INT8, scale=1.0)}
        self.layers: list = []
        self.weights: dict[str, WeightRecord] = {}

    def add(self, layer, shape: tuple[int, ...], fmt: Format = INT8) -> str:
        scale = None if fmt is INT32 else 1.0
        self.tensors[layer.output] = Tensor(name=layer.output, shape=shape, fmt=fmt, scale=scale)
        self.layers.append(layer)
        return layer.output

    def quantized(self, name: str, acc: str) -> str:
        shape = self.tensors[acc].shape
        layer = Requantize(
            name=f"{name}.q", input=acc, output=name, multiplier=np.full(shape[0], 1 << 30),
            shift=np.arange(shape[0]) % 8, rounding=Rounding.SHIFT, low=-128, high=127,
        )  # fmt: skip
        return self.add(layer, shape)

    def conv(self, name: str, source: str, channels: int, groups: int = 1) -> str:
        depth, height, width = self.tensors[source].shape
        values = np.arange(channels * (depth // groups)).reshape(channels, -1, 1, 1) % 100
        self.weights[name] = WeightRecord.dense(
            layer=name, values=values.astype(np.int8), fmt=INT8, scales=np.ones(channels)
        )
        layer = Conv(name=name, input=source, output=f"{name}.acc", groups=groups)
        return self.quantized(name, self.add(layer, (channels, height, width), INT32))

    def shuffle(self, name: str, source: str, groups: int) -> str:
        layer = Shuffle(name=name, input=source, output=name, groups=groups)
        return self.add(layer, self.tensors[source].shape)

    def concat(self, name: str, *sources: str) -> str:
        shape = self.tensors[sources[0]].shape
        count = sum(self.tensors[source].shape[0] for source in sources)
        return self.add(Concat(name=name, inputs=sources, output=name), (count, *shape[1:]))

    def network(self, output: str) -> Network:
        return Network(
            name="sketch", input="x", output=output, tensors=self.tensors, layers=tuple(self.layers),
            weights=self.weights,
        )  # fmt: skip

    def lower(self, output: str) -> Graph:
        return lower_graph(self.network(output))


def names(graph: Graph) -> list[str]:
    return [layer.shape.name for layer in graph.layers]


def test_parts_are_written_into_the_whole():
    sketch = Sketch(3, 4, 4)
    whole = sketch.concat("whole", sketch.conv("a", "x", 5), sketch.conv("b", "x", 6))
    graph = sketch.lower(sketch.conv("c", whole, 2))
    assert names(graph) == ["a", "b", "c"]
    first, second, last = graph.layers
    assert (first.shape.result, second.shape.result) == (Place(0, 11), Place(5, 11))
    assert first.result == second.result == last.sources[0]
    assert last.shape.sources == (Place(0, 11),)


def test_a_part_may_be_read_alone_and_wholes_may_nest():
    sketch = Sketch(3, 4, 4)
    a = sketch.conv("a", "x", 5)
    inner = sketch.concat("inner", sketch.conv("b", a, 2), a)
    outer = sketch.concat("outer", sketch.conv("c", "x", 4), inner)
    graph = sketch.lower(outer)
    assert names(graph) == ["a", "b", "c"]
    places = {layer.shape.name: layer.shape.target for layer in graph.layers}
    assert places == {"a": Place(6, 11), "b": Place(4, 11), "c": Place(0, 11)}
    assert graph.layers[1].shape.sources == (Place(6, 11),)
    assert [storage.kind for storage in graph.storages] == ["input", "output"]


def test_what_can_not_lie_in_its_place_is_copied():
    sketch = Sketch(3, 4, 4)
    a = sketch.conv("a", "x", 5)
    first, second = sketch.concat("first", a, "x"), sketch.concat("second", "x", a)
    both = sketch.concat("both", first, second)
    graph = sketch.lower(both)
    # The input can't be moved, and a is in place in the first whole only.
    assert names(graph) == ["a", "first/copy1", "second/copy2", "second/copy3"]
    copies = graph.layers[1:]
    assert [(c.shape.K, c.shape.sources[0], c.shape.target) for c in copies] == [
        (3, Place(0, 3), Place(5, 16)), (3, Place(0, 3), Place(8, 16)), (5, Place(0, 16), Place(11, 16)),
    ]  # fmt: skip
    assert all(c.shape.pe is PeKind.VECTOR and c.shape.ones and c.shape.macs == 0 for c in copies)


def test_a_shuffle_after_a_dense_convolution_reorders_its_rows():
    sketch = Sketch(2, 3, 3)
    a = sketch.conv("a", "x", 6)
    plain = sketch.lower(a).layers[0]
    (shuffled,) = sketch.lower(sketch.shuffle("mixed", a, 2)).layers
    # out[2c + j] = in[3j + c]
    order = [0, 3, 1, 4, 2, 5]
    assert np.array_equal(shuffled.weights, plain.weights[order])
    assert np.array_equal(shuffled.post.shift, plain.post.shift[order])


def test_a_shuffle_after_a_grouped_convolution_is_a_stride_of_its_stores():
    sketch = Sketch(4, 3, 3)
    graph = sketch.lower(sketch.shuffle("mixed", sketch.conv("a", "x", 6, groups=2), 2))
    assert names(graph) == ["a/g0", "a/g1"]
    assert [layer.shape.sources[0] for layer in graph.layers] == [Place(0, 4), Place(2, 4)]
    assert [layer.shape.target for layer in graph.layers] == [Place(0, 6, 2), Place(1, 6, 2)]
    assert sum(layer.shape.macs for layer in graph.layers) == 6 * 2 * 9


def test_a_shuffled_input_is_read_in_its_order_by_whoever_can():
    sketch = Sketch(6, 3, 3)
    mixed = sketch.shuffle("mixed", "x", 2)
    depth = sketch.conv("depth", mixed, 6, groups=6)
    graph = sketch.lower(sketch.conv("a", depth, 2))
    # Lane-wise work leaves the order as it is, the dense convolution's weights make up for it.
    assert names(graph) == ["depth", "a"]
    lies = [0, 2, 4, 1, 3, 5]  # the shuffled channel that lies at each place
    straight = Sketch(6, 3, 3)
    straight.conv("depth", "x", 6, groups=6)
    plain = straight.lower(straight.conv("a", "depth", 2)).layers
    assert np.array_equal(graph.layers[0].weights, plain[0].weights[lies])
    assert np.array_equal(graph.layers[0].post.shift, plain[0].post.shift[lies])
    assert np.array_equal(graph.layers[1].weights, plain[1].weights[:, lies])


def test_what_lane_wise_work_left_out_of_order_is_copied_to_a_new_place():
    sketch = Sketch(4, 3, 3)
    depth = sketch.conv("depth", sketch.shuffle("mixed", "x", 2), 4, groups=4)
    straight = sketch.conv("groups", depth, 4, groups=2)
    graph = sketch.lower(straight)
    assert names(graph) == ["depth", "groups/copy1", "groups/copy2", "groups/g0", "groups/g1"]
    assert all(layer.result not in layer.sources for layer in graph.layers)


def test_a_shuffled_output_is_copied_by_progressions():
    sketch = Sketch(6, 2, 2)
    graph = sketch.lower(sketch.shuffle("mixed", "x", 3))
    # in channels 0, 1 go to places 0, 3; 2, 3 to 1, 4; 4, 5 to 2, 5
    assert [(c.shape.sources[0], c.shape.target) for c in graph.layers] == [
        (Place(0, 6), Place(0, 6, 3)), (Place(2, 6), Place(1, 6, 3)), (Place(4, 6), Place(2, 6, 3)),
    ]  # fmt: skip


def test_progressions_cover_all_places_in_order():
    assert progressions(np.array([0, 3, 6, 1, 4, 7])) == [(0, 3, 3), (3, 3, 3)]
    assert progressions(np.array([5, 4, 6])) == [(0, 1, 1), (1, 2, 2)]
    assert progressions(np.array([7])) == [(0, 1, 1)]


def test_a_relu_or_pool_whose_input_has_another_reader_stands_alone():
    sketch = Sketch(2, 4, 4)
    a = sketch.conv("a", "x", 3)
    relu = sketch.add(Relu(name="relu", input=a, output="r"), (3, 4, 4))
    pool = sketch.add(MaxPool(name="pool", input=relu, output="p", kernel=(2, 2), stride=(2, 2)), (3, 2, 2))
    small = sketch.add(MaxPool(name="small", input=a, output="s", kernel=(2, 2), stride=(2, 2)), (3, 2, 2))
    graph = sketch.lower(sketch.concat("both", pool, small))
    assert names(graph) == ["a", "relu", "pool", "small"]
    assert graph.layers[1].post.low == 0


def test_overlapping_windows_are_a_tile_each_and_padding_never_wins():
    sketch = Sketch(2, 5, 5)
    layer = MaxPool(name="pool", input="x", output="p", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    (pool,) = sketch.lower(sketch.add(layer, (2, 3, 3))).layers
    shape = pool.shape
    assert (shape.OY, shape.pool_y, shape.window_step_y, shape.overlaps) == (9, 3, 2, True)
    assert pool.fill == 0x80
    machine = override_machine(load_machine("core-small"), [VECTOR])
    program = map_network(sketch.network("p"), machine, objective=Objective.BYTES)
    walk = next(c for c in program.commands if c.opcode is Opcode.GEOMETRY)
    # A window of 3 × 3 in a bank of 7 × 7 pixels of 2 bytes; the next is 2 pixels on.
    assert (walk["tile_x"], walk["tile_y"]) == (3, 3)
    assert (walk["pixel_x"], walk["act_tile_x"], walk["act_tile_y"]) == (2, 4, 28)


VECTOR = 'array.pes=["int8", "vector"]'


def test_a_global_average_takes_one_group_of_ones_and_one_line_of_parameters():
    sketch = Sketch(8, 5, 5)
    pool = AvgPool(name="pool", input="x", output="p.acc", kernel=(5, 5), stride=(1, 1))
    acc = sketch.add(pool, (8, 1, 1), INT32)
    post = Requantize(
        name="mean", input=acc, output="p", multiplier=np.full(8, 1 << 30), shift=np.full(8, 4),
        rounding=Rounding.SHIFT, low=-128, high=127,
    )  # fmt: skip
    sketch.add(post, (8, 1, 1))
    program = map_network(sketch.network("p"), override_machine(load_machine("core-small"), [VECTOR]))
    sizes = {region.name: region.size for region in program.regions}
    # 25 steps of a byte in words of 4, for 4 rows; core-small's parameter line is 16 bytes.
    assert (sizes["pool.weights"], sizes["pool.params"]) == (7 * 4 * 4, 16)
    assert program.macs == (0,)


def test_a_flattened_part_of_a_whole_is_read_tap_by_tap():
    sketch = Sketch(2, 3, 4)
    a = sketch.conv("a", "x", 3)
    flat = sketch.add(Flatten(name="flat", input=a, output="f"), (36,))
    values = np.arange(72, dtype=np.int8).reshape(2, 36)
    sketch.weights["fc"] = WeightRecord.dense(layer="fc", values=values, fmt=INT8, scales=np.ones(2))
    fc = sketch.quantized("y", sketch.add(Linear(name="fc", input=flat, output="fc.acc"), (2,), INT32))
    alone = sketch.lower(fc).layers[-1].shape
    assert (alone.C, alone.FY, alone.FX) == (36, 1, 1)
    # As a part of four channels, a's pixels don't lie side by side.
    b = sketch.conv("b", "x", 1)
    whole = sketch.conv("c", sketch.concat("both", a, b), 2)
    last = sketch.add(Flatten(name="last", input=whole, output="l"), (24,))
    sketch.weights["end"] = WeightRecord.dense(
        layer="end", values=np.ones((2, 24), np.int8), fmt=INT8, scales=np.ones(2)
    )
    end = sketch.quantized("e", sketch.add(Linear(name="end", input=last, output="end.acc"), (2,), INT32))
    out = sketch.concat("out", fc, end)
    graph = sketch.lower(out)
    part = next(layer.shape for layer in graph.layers if layer.shape.name == "fc")
    assert (part.C, part.FY, part.FX, part.sources) == (3, 3, 4, (Place(0, 4),))


# -- waiting for tensors -----------------------------------------------------------------------


def tensor_done(network: Network, settings: str = VECTOR) -> list[tuple[str, str]]:
    """("post" or "wait", layer) of every TENSOR_DONE in the order of the commands; one tile a layer."""
    machine = override_machine(load_machine("core-small"), [settings])
    program = map_network(network, machine, objective=Objective.BYTES)
    return [
        (field, program.layers[layer])
        for command, layer in zip(program.commands, program.layer_of, strict=True)
        for field in ("post", "wait")
        if command[field] >> Token.TENSOR_DONE & 1
    ]


def test_a_chain_waits_layer_by_layer():
    sketch = Sketch(2, 3, 3)
    sketch.conv("c", sketch.conv("b", sketch.conv("a", "x", 2), 2), 2)
    assert tensor_done(sketch.network("c")) == [("post", "a"), ("wait", "b"), ("post", "b"), ("wait", "c")]


def test_a_branch_waits_for_nobody_if_its_tensor_is_long_done():
    sketch = Sketch(2, 3, 3)
    sketch.conv("a", "x", 2)
    sketch.conv("b", "a", 2)
    sketch.conv("c", "a", 2)  # a is known to be done since b
    sketch.conv("d", "x", 2)  # the input is there from the start
    sketch.concat("out", "b", "c", "d")
    assert tensor_done(sketch.network("out")) == [("post", "a"), ("wait", "b")]


@pytest.mark.parametrize("width", [3, 70])
def test_waits_meet_their_posts_and_never_pile_up(width):
    # `width` branches from the input, each read by a second layer after all of them are done.
    sketch = Sketch(1, 1, 1)
    firsts = [sketch.conv(f"a{i}", "x", 1) for i in range(width)]
    seconds = [sketch.conv(f"b{i}", first, 1) for i, first in enumerate(firsts)]
    network = sketch.network(sketch.concat("out", *seconds))
    level = most = 0
    for field, _ in tensor_done(network):
        level += 1 if field == "post" else -1
        most = max(most, level)
    assert level == 0
    assert most <= 61


def test_the_waits_of_an_add_are_those_of_its_later_operand():
    sketch = Sketch(2, 3, 3)
    a, b = sketch.conv("a", "x", 2), sketch.conv("b", "x", 2)
    layer = Add(
        name="add", inputs=(a, b), output="s.acc", multiplier=np.full(2, 1 << 30),
        shift=np.zeros(2, np.int32), left_shift=0, rounding=Rounding.SHIFT,
    )  # fmt: skip
    acc = sketch.add(layer, (2, 3, 3), INT32)
    post = Requantize(
        name="q", input=acc, output="s", multiplier=np.full(2, 1 << 30), shift=np.full(2, 1),
        rounding=Rounding.SHIFT, low=-128, high=127,
    )  # fmt: skip
    sketch.add(post, (2, 3, 3))
    assert tensor_done(sketch.network("s")) == [("post", "b"), ("wait", "add")]
