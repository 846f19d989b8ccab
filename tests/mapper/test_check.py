import dataclasses

import numpy as np
import pytest
from bitwright.mapper.check import check_program
from bitwright.mapper.isa import Command, LoadTarget, Opcode, PostMode, Token, unit_of
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.pe import PeKind
from bitwright.mapper.program import Program, ProgramError, encode_commands
from bitwright.mapper.sampling import random_machine
from bitwright.models import Format, Network, Requantize, Rounding, Tensor, WeightRecord
from bitwright.models.layers import Add, Conv, MaxPool, Thresholds
from bitwright.models.zoo import random_network, resnet8_stack

ALL_PES = f"array.pes={[kind.key for kind in PeKind]}"


@pytest.fixture(scope="module")
def program() -> Program:
    machine = override_machine(load_machine("core-small"), ["queues.commands=2"])
    return map_network(resnet8_stack(0), machine)


def with_commands(program: Program, commands: list[Command], **changes) -> Program:
    image = program.image.copy()
    data = np.frombuffer(encode_commands(commands), np.uint8)
    image[: data.size] = data
    return dataclasses.replace(program, commands=tuple(commands), image=image, **changes)


def mutate(program: Program, index: int, **fields: int) -> Program:
    commands = list(program.commands)
    commands[index] = Command(commands[index].opcode, {**commands[index].fields, **fields})
    return with_commands(program, commands)


def find(program: Program, opcode: Opcode, nth: int = 0, **fields: int) -> int:
    found = [
        i
        for i, c in enumerate(program.commands)
        if c.opcode is opcode and all(c[name] == value for name, value in fields.items())
    ]
    return found[nth]


def find_token(program: Program, field: str, token: Token, nth: int = 0) -> int:
    return [i for i, c in enumerate(program.commands) if c[field] >> token & 1][nth]


def test_a_mapped_program_passes(program):
    check_program(program)


ALL_TOKENS = [
    (field, token)
    for token in Token
    for field in ("wait", "post", "post_drain")
    if (token in (Token.OUT_FULL, Token.PARAM_FREE)) == (field == "post_drain") or field == "wait"
]


@pytest.mark.parametrize(("field", "token"), ALL_TOKENS)
@pytest.mark.parametrize("nth", [0, 1])
def test_a_dropped_token_is_refused(program, field, token, nth):
    index = find_token(program, field, token, nth)
    value = program.commands[index][field] & ~(1 << token)
    with pytest.raises(ProgramError, match=r"^command|^deadlock"):
        check_program(mutate(program, index, **{field: value}))


def test_a_missing_post_is_a_deadlock_that_names_commands_and_layer(program):
    index = find_token(program, "post", Token.ACT_FULL)
    with pytest.raises(ProgramError, match=r"deadlock: command \d+ \(EXEC, layer conv\d\) waits for"):
        check_program(mutate(program, index, post=0))


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (Token.ACT_FREE, "overwrites activations read by command"),
        (Token.PARAM_FREE, "overwrites parameters read by command"),
        (Token.ACT_FULL, "reads activations written by command"),
    ],
)
def test_moving_a_wait_to_the_units_next_command_is_a_race(program, token, text):
    # The counts stay right, so nothing but the order can tell. Some of these waits are implied by
    # others of the same unit (TENSOR_DONE, say), so not each of them is missed; many are.
    commands, races = program.commands, []
    for index, command in enumerate(commands):
        if not command["wait"] >> token & 1:
            continue
        unit = unit_of(command.opcode)
        later = (i for i in range(index + 1, len(commands)) if unit_of(commands[i].opcode) is unit)
        following = next(later, None)
        if following is None or commands[following]["wait"] >> token & 1:
            continue
        moved = mutate(program, index, wait=command["wait"] & ~(1 << token))
        moved = mutate(moved, following, wait=commands[following]["wait"] | 1 << token)
        try:
            check_program(moved)
        except ProgramError as fault:
            races.append(str(fault))
    assert len(races) >= 3
    assert all(text in race and race.endswith("no token orders them") for race in races)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (LoadTarget.WEIGHT, "weights"),
        (LoadTarget.PARAM, "parameters"),
        (LoadTarget.ACTIVATION, "activations"),
    ],
)
def test_a_load_into_the_other_half_is_refused(program, target, text):
    index = find(program, Opcode.LOAD, 2, target=int(target))
    half = {
        LoadTarget.WEIGHT: program.machine.weight_lines // 2,
        LoadTarget.PARAM: program.machine.param_lines // 2,
        LoadTarget.ACTIVATION: program.machine.buffers.activation_bytes // 2,
    }[target]
    dst = program.commands[index]["dst"]
    with pytest.raises(ProgramError, match=f"{text} (read|written) by|{text} that no"):
        check_program(mutate(program, index, dst=dst + (half if dst < half else -half)))


def test_results_in_the_other_half_are_refused(program):
    index = find(program, Opcode.EXEC, 2)
    half = program.machine.buffers.output_bytes // 2
    out = program.commands[index]["out"]
    with pytest.raises(ProgramError, match="results"):
        check_program(mutate(program, index, out=(out + half) % (2 * half)))


def test_accesses_outside_buffers_and_regions_are_refused(program):
    machine = program.machine
    act = find(program, Opcode.LOAD, target=int(LoadTarget.ACTIVATION))
    weight = find(program, Opcode.LOAD, target=int(LoadTarget.WEIGHT))
    store, execute = find(program, Opcode.STORE), find(program, Opcode.EXEC)
    weights = next(r for r in program.regions if r.kind == "weights")
    for index, fields, text in (
        (act, {"dst": machine.buffers.activation_bytes - 1}, "reaches activation byte"),
        (act, {"address": program.image.size}, "lie in no single region"),
        (act, {"address": weights.address, "run": 1, "rows": 1}, "must touch input or activations"),
        (act, {"cols": 2}, "cols must name banks from 0 to 0"),
        (act, {"rows": 0}, "rows must be at least 1"),
        (weight, {"address": program.input.address}, "must touch weights|no single region"),
        (weight, {"dst": machine.weight_lines}, "reaches line"),
        (weight, {"wrap": 1000}, "wrap must be from 1 to"),
        (weight, {"run": 3}, "must be multiples of 8"),
        (store, {"address": program.input.address}, "must touch activations or output|no single"),
        (store, {"src": machine.buffers.output_bytes - 1}, "reaches output byte"),
        (execute, {"out": machine.buffers.output_bytes - 1}, "writes output byte"),
        (execute, {"weight": machine.weight_lines - 1}, "weights"),
        (execute, {"act": machine.buffers.activation_bytes}, "outside the activation bank"),
        (execute, {"groups": 0}, "groups must be at least 1"),
        (execute, {"last": 0}, "post_drain needs last|within one tile"),
        (find(program, Opcode.GEOMETRY), {"tile_x": 17}, "passes array.acc_depth"),
    ):
        with pytest.raises(ProgramError, match=text):
            check_program(mutate(program, index, **fields))


@pytest.fixture(scope="module")
def mixed() -> Program:
    """A binary convolution with a threshold, a max pool that overlaps, an add and an average."""
    machine = override_machine(load_machine("core-small"), [ALL_PES])
    return map_network(mixed_network(), machine)


def mixed_network() -> Network:
    int8, binary, int32 = (Format.parse(name) for name in ("int8", "binary", "int32"))
    rng = np.random.default_rng(0)
    shapes = {
        "x": ((4, 6, 6), int8), "a_acc": ((20, 6, 6), int32), "a": ((20, 6, 6), binary),
        "b_acc": ((8, 6, 6), int32), "b": ((8, 6, 6), int8), "c": ((8, 5, 5), int8),
        "d_acc": ((8, 5, 5), int32), "d": ((8, 5, 5), int8),
    }  # fmt: skip
    tensors = {
        name: Tensor(name=name, shape=shape, fmt=fmt, scale=None if fmt is int32 else 1.0)
        for name, (shape, fmt) in shapes.items()
    }

    def requantize(name: str, source: str) -> Requantize:
        return Requantize(
            name=f"{name}.requantize", input=source, output=name, multiplier=np.full(8, 1 << 30),
            shift=np.full(8, 2), rounding=Rounding.SHIFT, low=-128, high=127,
        )  # fmt: skip

    values = {
        "conv": rng.integers(-128, 128, (20, 4, 3, 3), dtype=np.int8),
        "bits": (rng.integers(0, 2, (8, 20, 1, 1)) * 2 - 1).astype(np.int8),
    }
    return Network(
        name="mixed", input="x", output="d", tensors=tensors,
        layers=(
            Conv(name="conv", input="x", output="a_acc", padding=(1, 1, 1, 1)),
            Thresholds(name="sign", input="a_acc", output="a", values=np.zeros((20, 1), np.int32), low=-1,
                       step=2),
            Conv(name="bits", input="a", output="b_acc"),
            requantize("b", "b_acc"),
            MaxPool(name="pool", input="b", output="c", kernel=(2, 2), stride=(1, 1)),
            Add(name="add", inputs=("c", "c"), output="d_acc", multiplier=np.full(2, 1 << 30),
                shift=np.zeros(2, np.int32), left_shift=8, rounding=Rounding.SHIFT),
            requantize("d", "d_acc"),
        ),
        weights={
            name: WeightRecord.dense(layer=name, values=array, fmt=fmt, scales=np.ones(len(array)))
            for (name, array), fmt in zip(values.items(), (int8, binary), strict=True)
        },
    )  # fmt: skip


def test_modes_and_packing_beyond_the_machine_are_refused(mixed):
    check_program(mixed)
    steps = find(mixed, Opcode.OUTPUT, mode=int(PostMode.THRESHOLDS))
    adding = find(mixed, Opcode.OUTPUT, mode=int(PostMode.ADD))
    lanes = find(mixed, Opcode.GEOMETRY, pe=int(PeKind.VECTOR))
    for index, fields, text in (
        (steps, {"mode": 3}, "planes must divide the 4 lane sets of a pixel, not be 0"),
        (steps, {"levels": 5}, "levels must be from 1 to 4, not 5"),
        (steps, {"step": 0}, "step must be from 1 to 2, not 0"),
        (adding, {"pool_x": 2}, "an add's window must be 2 × 1 pixels, not 2 × 2"),
        (lanes, {"tail": 2}, "tail must be from 1 to 1, not 2"),
    ):
        with pytest.raises(ProgramError, match=text):
            check_program(mutate(mixed, index, **fields))
    only_int8 = load_machine("core-small")
    no_packing = dataclasses.replace(mixed, machine=only_int8)
    with pytest.raises(ProgramError, match=r"pe must be one of \[0\]|pack must be 0|mode 2 \(add\) needs"):
        check_program(no_packing)


def test_a_tree_that_reads_parameters_that_nobody_loaded_is_refused(mixed):
    steps = find(mixed, Opcode.OUTPUT, mode=int(PostMode.THRESHOLDS))
    with pytest.raises(ProgramError, match="reads parameters"):
        check_program(mutate(mixed, steps, levels=4))


def test_results_that_overlap_within_packed_rows_are_seen(mixed):
    # Rows of 3 bytes that start 2 apart: the pixel after is overwritten, and bytes are missing at the end.
    packed = find(mixed, Opcode.STORE, pack=3)
    row = mixed.commands[packed]["dst_row"]
    assert row == 3
    with pytest.raises(ProgramError, match="before any STORE writes them"):
        check_program(mutate(mixed, packed, dst_row=row - 1))


def test_a_group_beyond_the_bank_of_lane_wise_work_is_refused(mixed):
    walk = find(mixed, Opcode.GEOMETRY, pe=int(PeKind.VECTOR))
    with pytest.raises(ProgramError, match="reads activation"):
        check_program(mutate(mixed, walk, act_group=mixed.machine.buffers.activation_bytes - 64))


def test_end_is_last_and_once(program):
    commands = list(program.commands)
    with pytest.raises(ProgramError, match="last command must be END"):
        check_program(with_commands(program, commands[:-1], layer_of=program.layer_of[:-1]))
    commands[0] = Command(Opcode.END, {})
    with pytest.raises(ProgramError, match=r"command 0 .*END stands before"):
        check_program(with_commands(program, commands))


def test_the_image_must_hold_the_commands(program):
    image = program.image.copy()
    image[40] ^= 1
    with pytest.raises(ProgramError, match=r"command 1 .*the image holds another word"):
        check_program(dataclasses.replace(program, image=image))


def test_a_counter_with_two_waiting_units_is_refused(program):
    index = find(program, Opcode.STORE)
    wait = program.commands[index]["wait"] | 1 << Token.ACT_FULL
    with pytest.raises(ProgramError, match="waited on by one unit only"):
        check_program(mutate(program, index, wait=wait))


def test_a_counter_with_two_posters_is_refused(program):
    index = find(program, Opcode.STORE)
    post = program.commands[index]["post"] | 1 << Token.ACT_FULL
    with pytest.raises(ProgramError, match="with two posters"):
        check_program(mutate(program, index, post=post))


def test_a_counter_that_may_overflow_is_refused(program):
    fill = next(c for c in program.commands if c.opcode is Opcode.FILL)
    plain = Command(Opcode.FILL, {k: v for k, v in fill.fields.items() if k != "wait"})
    post = Command(Opcode.FILL, {**plain.fields, "post": 1 << 7})
    geometry = next(c for c in program.commands if c.opcode is Opcode.GEOMETRY)
    take = Command(Opcode.GEOMETRY, {**geometry.fields, "wait": 1 << 7})
    for count, refused in ((63, False), (64, True)):
        commands = [post] * count + [take] * count + [Command(Opcode.END, {})]
        machine = override_machine(program.machine, ["queues.commands=64"])
        made = with_commands(program, commands, layer_of=(0,) * len(commands), machine=machine)
        with pytest.raises(ProgramError, match="to 64; a counter" if refused else "no STORE writes"):
            check_program(made)


def test_queues_that_are_too_short_for_the_order_are_a_deadlock(program):
    # The first EXEC is dispatched before its loads; with the LOAD queue full nothing can move on.
    load = find_token(program, "wait", Token.ACT_FREE)
    commands, owners = list(program.commands), list(program.layer_of)
    freeing = max(i for i in range(load) if commands[i].opcode is Opcode.EXEC)
    commands.append(commands.pop(freeing))
    commands[-2:] = commands[-1:] + commands[-2:-1]  # END stays last
    owners = [owners[0]] * len(commands)
    with pytest.raises(ProgramError, match="deadlock"):
        check_program(with_commands(program, commands, layer_of=tuple(owners)))


@pytest.mark.parametrize("seed", range(1000, 1030))
def test_random_networks_map_to_random_machines(seed):
    check_program(map_network(random_network(seed, max_layers=2), random_machine(seed)))
