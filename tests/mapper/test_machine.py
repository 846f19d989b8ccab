"""Machine files: what they may say, and how a fault is named."""

import re
from pathlib import Path

import pytest
from bitwright.mapper.machine import Machine
from bitwright.mapper.machine_file import load_machine, override_machine, preset_names
from bitwright.mapper.pe import PeKind

SMALL = """
name = "tiny"
[array]
rows = 4
cols = 1
act_word_bits = 128
weight_word_bits = 32
[buffers]
activation_bytes = 1024
weight_bytes = 1024
output_bytes = 512
param_channels = 32
[post]
lanes = 1
"""


def machine_file(folder: Path, text: str) -> Path:
    path = folder / "machine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_presets_are_the_machines_that_the_design_names() -> None:
    assert preset_names() == ["core-large", "core-medium", "core-small"]
    for name in preset_names():
        assert load_machine(name).name == name


def test_core_small_has_at_most_four_rows_and_core_large_four_columns() -> None:
    assert load_machine("core-small").array.rows <= 4
    assert load_machine("core-large").array.cols >= 4


def test_low_bit_weights_fill_more_lanes_of_the_same_words() -> None:
    # core-small: 128-bit activation words, 32-bit weight words.
    array = load_machine("core-small").array
    lanes = {"int8": 4, "ternary_int8": 16, "binary_int8": 16, "ternary": 16, "binary": 32, "vector": 1}
    assert {kind.key: array.lanes(kind) for kind in PeKind} == lanes
    # Weight words of 32 bits: four steps of a byte a row where a lane is all there is.
    assert {kind.key: array.sets_per_word(kind) for kind in PeKind} == {
        "int8": 1, "ternary_int8": 1, "binary_int8": 2, "ternary": 1, "binary": 1, "vector": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows = 4", "rows = 12", "array.rows must be a power of two, not 12"),
        ("rows = 4", "rows = 0", "array.rows must be from 1 to 64, not 0"),
        ("rows = 4", 'rows = "4"', "array.rows must be of type int, not str ('4')"),
        ("rows = 4", "rows = true", "array.rows must be of type int, not bool (True)"),
        ("rows = 4", "rows = 4\nrow = 1", "unknown key array.row; allowed: acc_bits"),
        (
            "rows = 4",
            'rows = 4\nmultiplier = "booth"',
            "array.multiplier must be one of 'inferred', 'dsp', 'lut', 'pair'",
        ),
        (
            "rows = 4",
            'rows = 1\nmultiplier = "pair"',
            "array.rows must be at least 2 where array.multiplier is 'pair'",
        ),
        ("cols = 1\n", "", "missing key array.cols"),
        ("lanes = 1", "lanes = 8", "post.lanes must be at most array.rows (4), not 8"),
        ('name = "tiny"', 'name = "../tiny"', "name must be letters, digits"),
        ('name = "tiny"', 'name = "tiny"\nclock_hz = 5', "clock_hz must be from 1e3 to 1e11 (hertz), not 5"),
        (
            "[post]",
            "[bus]\ndata_bits = 256\n[post]",
            "bus.data_bits must be at most array.act_word_bits (128)",
        ),
        (
            "rows = 4",
            'rows = 32\npes = ["int8", "vector"]',
            "array.rows must be at most 16 (a byte of the activation word a row) where array.pes has",
        ),
        ("rows = 4", 'rows = 4\npes = ["int4"]', "array.pes must name PE kinds among int8, ternary_int8"),
        (
            "rows = 4",
            'rows = 4\npes = ["int8", "int8"]',
            "array.pes must name at least one PE kind, each once",
        ),
        ("[post]", "post = 1\n[bus]\n[bus]", "machine.toml: "),
        (
            "[post]",
            "[memory]\nstall_mask = 5\n[post]",
            "memory.stall_mask must be one less than a power of two",
        ),
    ],
)
def test_a_bad_key_is_named_with_its_path_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in SMALL
    path = machine_file(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_machine(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_machine_is_told_the_presets() -> None:
    with pytest.raises(ValueError, match="unknown machine 'core-tiny'; presets: core-large, core-medium"):
        load_machine("core-tiny")


def test_settings_override_keys_and_are_checked_alike() -> None:
    machine = load_machine("core-small")
    changed = override_machine(machine, ["array.rows=8", "memory.read_latency=7"])
    assert (changed.array.rows, changed.memory.read_latency) == (8, 7)
    with pytest.raises(ValueError, match=re.escape("array.rows must be a power of two, not 3")):
        override_machine(machine, ["array.rows=3"])
    with pytest.raises(ValueError, match=re.escape("unknown key 'array.row'; allowed: array.acc_bits")):
        override_machine(machine, ["array.row=3"])
    with pytest.raises(ValueError, match=re.escape("--set takes section.key=value, not 'array.rows'")):
        override_machine(machine, ["array.rows"])


def test_the_digest_changes_with_the_hardware_and_not_with_the_memory() -> None:
    machine = load_machine("core-small")

    def digest(setting: str) -> str:
        return override_machine(machine, [setting]).digest()

    assert digest("memory.seed=5") == machine.digest()
    assert digest("array.acc_bits=30") != machine.digest()


def test_tables_make_the_same_machine_again(tmp_path: Path) -> None:
    machine = load_machine(machine_file(tmp_path, SMALL))
    assert isinstance(machine, Machine)
    assert override_machine(machine, []) == machine
