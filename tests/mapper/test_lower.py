import numpy as np
import pytest
from bitwright.mapper.listing import list_program
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.objective import Objective
from bitwright.mapper.program import decode_commands
from bitwright.mapper.sampling import random_machine
from bitwright.mapper.tensors import pack_input, unpack_output
from bitwright.models import (
    Conv,
    Format,
    Network,
    Requantize,
    Rounding,
    Tensor,
    WeightRecord,
)
from bitwright.models.zoo import random_network, resnet8_stack


@pytest.fixture(scope="module")
def tiny() -> Network:
    """A 3×3 convolution with padding 1 of 2 × 4 × 4 to 5 channels."""
    int8 = Format.parse("int8")
    return Network(
        name="tiny",
        input="x",
        output="y",
        tensors={
            "x": Tensor(name="x", shape=(2, 4, 4), fmt=int8, zero_point=-3),
            "acc": Tensor(name="acc", shape=(5, 4, 4), fmt=Format.parse("int32")),
            "y": Tensor(name="y", shape=(5, 4, 4), fmt=int8, zero_point=9),
        },
        layers=(
            Conv(name="conv", input="x", output="acc", padding=(1, 1, 1, 1)),
            Requantize(
                name="quant", input="acc", output="y", multiplier=np.full(5, 1 << 30, np.int32),
                shift=np.zeros(5, np.int32), rounding=Rounding.HALF_EVEN, low=-100, high=90,
            ),
        ),
        weights={
            "conv": WeightRecord.dense(
                layer="conv", values=np.ones((5, 2, 3, 3), np.int8), fmt=int8, scales=np.ones(5)
            )
        },
    )  # fmt: skip


def test_a_small_convolution_is_these_commands(tiny):
    # core-small: 4 rows, 1 column, lanes 4, bus 8 bytes, 16 accumulators; weight lines of 4·4 bytes.
    # A filter row is a run of 3·2 = 6 bytes: 2 sets, so 6 steps and 6 lines a group; the second group
    # has one channel: 4 bytes a line, rounded up to a beat. A row in the bank: 6 pixels · 2 = 12 bytes.
    # Both groups are one K tile: the second's weights follow the first's 6 lines, its parameters 4.
    program = map_network(tiny, load_machine("core-small"), objective=Objective.BYTES)
    lines = list_program(program).splitlines()
    regions = {r.name: r for r in program.regions}
    assert regions["conv.weights"].size == 6 * 16 + 6 * 8
    assert regions["conv.params"].size == 8 * 16
    weights, params = regions["conv.weights"].address, regions["conv.params"].address
    result = program.output.address
    expected = [
        f"LOAD PARAM address={params:#x} run=128 rows=1 planes=1 wrap=2",
        f"LOAD WEIGHT address={weights:#x} run=96 rows=1 planes=1 wrap=2",
        f"LOAD WEIGHT dst=6 address={weights + 96:#x} run=48 rows=1 planes=1 wrap=1 post:WEIGHT_FULL",
        "FILL cols=0x1 value=253 run=14 rows=1 planes=1",
        "FILL cols=0x1 dst=22 dst_row=12 value=253 run=4 rows=3 planes=1",
        "FILL cols=0x1 dst=58 value=253 run=14 rows=1 planes=1",
        f"LOAD ACTIVATION cols=0x1 dst=14 dst_row=12 address={program.input.address:#x} src_row=8 "
        "run=8 rows=4 planes=1 post:ACT_FULL",
        "GEOMETRY tile_x=4 tile_y=4 sets=2 tail=2 fx=1 fy=3 pixel_x=2 pixel_y=12 tap_y=12 weight_group=6",
        "OUTPUT rounding=2 zero_point=9 clamp_low=-100 clamp_high=90 pool_x=1 pool_y=1 pixel_x=5 pixel_y=20 "
        "group=4 param_set=1 param_group=4",
        "EXEC region_x=4 region_y=4 groups=2 cols=1 rows_last=1 first=1 last=1 "
        "wait:ACT_FULL+WEIGHT_FULL post_drain:OUT_FULL",
        f"STORE address={result:#x} run=80 rows=1 planes=1 wait:OUT_FULL",
        "END",
    ]
    assert [line.split("  ", 2)[2].strip() for line in lines] == expected


def test_the_image_holds_commands_and_constants_at_aligned_addresses(tiny):
    program = map_network(tiny, load_machine("core-small"))
    commands = next(r for r in program.regions if r.kind == "commands")
    decoded = decode_commands(program.image[: commands.size].tobytes())
    assert [c.opcode for c in decoded] == [c.opcode for c in program.commands]
    assert all(d[name] == c[name] for d, c in zip(decoded, program.commands, strict=True)
               for name in c.fields)  # fmt: skip
    assert all(region.address % 64 == 0 for region in program.regions)
    assert program.image.size % 64 == 0
    assert program.macs == (5 * 2 * 9 * 16,)


def test_mapping_is_the_same_each_time():
    network, machine = resnet8_stack(0), load_machine("core-medium")
    assert map_network(network, machine).digest() == map_network(network, machine).digest()


def test_tensors_are_packed_as_hwc(tiny):
    program = map_network(tiny, load_machine("core-small"))
    x = np.arange(32).reshape(2, 4, 4)
    data = pack_input(program, x)
    assert list(data[:4]) == [0, 16, 1, 17]
    y = np.random.default_rng(0).integers(-128, 128, (5, 4, 4), dtype=np.int8)
    assert np.array_equal(unpack_output(program, y.transpose(1, 2, 0).tobytes()), y)
    with pytest.raises(ValueError, match=r"must have shape \(2, 4, 4\), not \(4, 4\)"):
        pack_input(program, x[0])
    with pytest.raises(ValueError, match="integers from -128 to 127"):
        pack_input(program, x * 5)
    with pytest.raises(ValueError, match="its output has 80 bytes, not 79"):
        unpack_output(program, bytes(79))


def test_the_next_layers_weights_are_loaded_before_the_tensor_is_done():
    program = map_network(resnet8_stack(0), load_machine("core-large"))
    lines = list_program(program).splitlines()
    second = [line for line in lines if " conv2 " in line]
    weight = next(i for i, line in enumerate(second) if "LOAD WEIGHT" in line)
    tensor = next(i for i, line in enumerate(second) if "wait:TENSOR_DONE" in line)
    assert weight < tensor


def test_random_machines_are_the_same_each_time_and_differ():
    machines = [random_machine(seed) for seed in range(200)]
    assert [m.digest() for m in machines] == [random_machine(s).digest() for s in range(200)]
    assert {m.array.rows for m in machines} == {1, 2, 4, 8, 16}
    assert {m.array.cols for m in machines} == {1, 2, 4}
    assert min(m.buffers.activation_bytes for m in machines) == 512


def test_a_listing_has_one_line_a_command():
    program = map_network(random_network(0), random_machine(0))
    lines = list_program(program).splitlines()
    assert len(lines) == len(program.commands)
    assert lines[-1].split()[-1] == "END"
