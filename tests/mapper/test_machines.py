from pathlib import Path

import pytest
from bitwright.mapper.hierarchy import AbstractMachine
from bitwright.mapper.hierarchy_file import build_abstract
from bitwright.mapper.machine import Machine
from bitwright.mapper.machine_file import preset_names
from bitwright.mapper.machines import abstract_names, load_any, override_any

PRESETS = Path(__file__).parents[2] / "mapper" / "presets" / "abstract"


def abstract(name: str) -> AbstractMachine:
    machine = load_any(name)
    assert isinstance(machine, AbstractMachine)
    return machine


def test_core_and_abstract_machines_come_by_name() -> None:
    assert abstract_names() == ["eie-like", "eyeriss-like", "finn-mvu", "nvdla-like", "systolic", "tpu-like"]
    assert all(isinstance(load_any(name), Machine) for name in preset_names())
    sizes = {name: abstract(name).pe_count for name in abstract_names()}
    assert sizes == {  # as the sources that the files cite give them
        "eie-like": 64,
        "eyeriss-like": 12 * 14,
        "finn-mvu": 16 * 16,
        "nvdla-like": 64 * 32,
        "systolic": 32 * 32,
        "tpu-like": 256 * 256,
    }


@pytest.mark.parametrize(
    "name", ["eie-like", "eyeriss-like", "finn-mvu", "nvdla-like", "systolic", "tpu-like"]
)
def test_a_machine_written_as_tables_is_read_as_itself(name: str) -> None:
    machine = abstract(name)
    assert build_abstract(machine.to_dict()) == machine
    assert override_any(machine, []) == machine


def test_settings_override_sizes_loops_and_levels() -> None:
    machine = override_any(abstract("systolic"), ["array.rows=16", "array.dataflow=ws", "clock_hz=3e8"])
    assert [(axis.name, axis.size, axis.loops) for axis in machine.axes] == [
        ("rows", 16, ("C", "FY", "FX")),
        ("cols", 32, ("K",)),
    ]
    assert machine.clock_hz == 3e8
    wider = override_any(abstract("eyeriss-like"), ["levels.global_buffer.size_bits=1000000"])
    assert wider.levels[1].size_bits == 1_000_000


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("array.rows=0", r"array\.rows\.size must be from 1 to 2\^20, not 0"),
        ("array.dataflow=rs", "array.dataflow must be one of os, ws, is, mvu, not 'rs'"),
        ("levels.l2.size_bits=9", "unknown key 'levels.l2.size_bits': levels has cells, buffers, dram"),
        ("levels.buffers=9", "'levels.buffers' is a table; it has operands"),
        ("levels.dram.read_bits_per_cycle=0", r"levels\.dram\.read_bits_per_cycle must be above 0"),
        (
            "levels.dram.read_bits_per_cycle=nan",
            r"levels\.dram\.read_bits_per_cycle must be a number, not nan",
        ),
        ("levels.cells.weight_bits=0", r"levels\.cells\.weight_bits must be from 1 to 2\^50 bits, not 0"),
        ("levels.cells.size=9", r"unknown key levels\.cells\.size; allowed: buffering"),
        ("levels.cells.ports=true", r"levels\.cells\.ports must be of type int, not bool"),
        ("node_nm=0.000000045", r"node_nm must be of type int, not float"),
        ("levels.dram.operands=[]", r"levels\.dram\.operands must name at least one of W, I, O"),
        ("bus.data_bits=64", "unknown key 'bus.data_bits': systolic has name"),
        ("array.rows", "--set takes section.key=value, not 'array.rows'"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_path(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override_any(abstract("systolic"), [setting])


def test_a_file_that_lacks_a_key_is_named_with_it(tmp_path: Path) -> None:
    text = (PRESETS / "eie-like.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('below = "activations"\n', ""), encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.toml: missing key array\.pes\.below"):
        load_any(path)
    path.write_text(text.replace("[levels.sums]", "[sums]"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.toml: unknown key sums; allowed: array"):
        load_any(path)


def test_an_unknown_machine_names_all_that_ship() -> None:
    with pytest.raises(
        ValueError, match=r"unknown machine 'gpu'; presets: core-large, .*core-small, eie-like, .*tpu"
    ):
        load_any("gpu")
