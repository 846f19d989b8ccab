"""The command set: encoding, decoding, and its table in the documentation."""

import random
import re
from pathlib import Path

import pytest
from bitwright.mapper.isa import (
    COMMAND_BITS,
    COMMAND_BYTES,
    FIELDS,
    SIGNED_FIELDS,
    Command,
    Opcode,
    Unit,
    decode,
    encode,
    unit_of,
)
from bitwright.mapper.program import ProgramError, decode_commands, encode_commands

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"


def random_command(rng: random.Random, opcode: Opcode) -> Command:
    values = {}
    for name, width in FIELDS[opcode][1:]:
        corner = rng.random() < 0.3
        bits = rng.choice([0, (1 << width) - 1]) if corner else rng.getrandbits(width)
        values[name] = bits - (1 << width) * (bits >> (width - 1)) if name in SIGNED_FIELDS else bits
    return Command(opcode, values)


@pytest.mark.parametrize("opcode", list(Opcode))
def test_decode_undoes_encode(opcode: Opcode) -> None:
    rng = random.Random(opcode)
    for _ in range(50):
        command = random_command(rng, opcode)
        assert decode(encode(command)) == command


def test_fields_lie_from_bit_0_up_in_the_order_of_the_table() -> None:
    # opcode 6 in bits 3…0, wait 0x81 in 11…4, post 0x40 in 19…12, pack 3 in 21…20, src 5 from bit 22 on.
    word = encode(Command(Opcode.STORE, {"wait": 0x81, "post": 0x40, "pack": 3, "src": 5}))
    assert word == 6 | 0x81 << 4 | 0x40 << 12 | 3 << 20 | 5 << 22


def test_negative_values_are_twos_complement_in_their_field() -> None:
    # zero_point is 9 bits from bit 22 on: −1 sets them all.
    assert encode(Command(Opcode.OUTPUT, {"zero_point": -1})) == 4 | 0x1FF << 22


def test_every_command_fits_its_bits() -> None:
    for opcode, fields in FIELDS.items():
        assert sum(width for _, width in fields) <= COMMAND_BITS, opcode


def test_commands_go_to_their_units() -> None:
    units = {opcode: unit_of(opcode) for opcode in Opcode}
    assert units.pop(Opcode.END) is None
    assert set(units.values()) == set(Unit)


def test_a_value_beyond_its_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=re.escape("LOAD.rows must be from 0 to 4095, not 4096")):
        encode(Command(Opcode.LOAD, {"rows": 4096}))
    with pytest.raises(ValueError, match=re.escape("OUTPUT.clamp_low must be from -256 to 255, not -257")):
        encode(Command(Opcode.OUTPUT, {"clamp_low": -257}))


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="END has no field rows"):
        encode(Command(Opcode.END, {"rows": 1}))


def test_a_program_is_its_commands_little_endian_one_after_the_other() -> None:
    commands = (Command(Opcode.STORE, {"src": 1}), Command(Opcode.END, {}))
    data = encode_commands(commands)
    assert len(data) == 2 * COMMAND_BYTES
    assert int.from_bytes(data[:COMMAND_BYTES], "little") == encode(commands[0])
    assert [c.opcode for c in decode_commands(data)] == [Opcode.STORE, Opcode.END]


def test_decoding_names_the_command_at_fault() -> None:
    good = encode_commands((Command(Opcode.END, {}),))
    with pytest.raises(ProgramError, match="command 1: unknown opcode 15"):
        decode_commands(good + b"\x0f" + bytes(31))
    with pytest.raises(ProgramError, match="whole number of 32-byte commands, not 33 bytes"):
        decode_commands(good + b"\x00")


def test_cleared_memory_is_no_command() -> None:
    with pytest.raises(ProgramError, match="command 0: unknown opcode 0"):
        decode_commands(bytes(COMMAND_BYTES))


def test_the_documented_table_is_the_command_set() -> None:
    rows = re.findall(r"^\| ([A-Z]+) (\d+) \| (.+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {
        (name, int(code)): [(f, int(w)) for f, w in re.findall(r"`(\w+)` (\d+)", fields)]
        for name, code, fields in rows
    }
    assert documented == {(op.name, op.value): list(fields[3:]) for op, fields in FIELDS.items()}
