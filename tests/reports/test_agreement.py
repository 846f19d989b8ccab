import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine, MemoryTiming
from bitwright.mapper.machine_file import load_machine
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, random_network
from bitwright.reports.agreement import CaseResult, Job, compare, draw_memory, summarize
from bitwright.reports.cli import main
from bitwright.rtl.runner import RtlCase, RtlRun
from bitwright.sim.cycle import simulate

SMALL = load_machine("core-small")
NETWORK = random_network(3)  # one linear layer
X = random_input(NETWORK, 0)
GOOD = CaseResult(
    name="case",
    mismatches=0,
    rtl_cycles=100,
    model_cycles=100,
    rtl_read_bytes=64,
    model_read_bytes=64,
    rtl_write_bytes=8,
    model_write_bytes=8,
    faults=(),
)


def case(**changes: Any) -> CaseResult:
    values = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    return CaseResult(**{**values, **changes})


def test_equal_cases_agree() -> None:
    value = summarize([GOOD, GOOD], 1.0)
    figures = ("agrees", "cases", "mismatches", "cycle_difference", "byte_difference", "rtl_cycles")
    assert [value[name] for name in figures] == [True, 2, 0, 0, 0, 200]
    assert value["failures"] == []


def test_no_case_is_no_agreement() -> None:
    assert summarize([], 0.0)["agrees"] is False


@pytest.mark.parametrize(
    ("changes", "figure", "expected", "words"),
    [
        ({"mismatches": 3}, "mismatches", 1, "3 output values differ"),
        ({"rtl_cycles": 93}, "cycle_difference", 7, "93 cycles in RTL, 100 in the model"),
        ({"model_read_bytes": 72}, "byte_difference", 8, "72 and 8 in the model"),
        ({"model_write_bytes": 9}, "byte_difference", 1, "64 and 9 in the model"),
        ({"faults": ("never done",)}, "mismatches", 1, "never done"),
    ],
)
def test_one_difference_of_any_kind_is_no_agreement(
    changes: dict[str, Any], figure: str, expected: int, words: str
) -> None:
    value = summarize([GOOD, case(**changes)], 1.0)
    assert not value["agrees"]
    assert value[figure] == expected
    (line,) = value["failures"]
    assert words in line


def _job() -> Job:
    program = map_network(NETWORK, SMALL)
    return Job(name="job", network=NETWORK, program=program, x=X[0], memory=MemoryTiming())


@pytest.mark.parametrize("fault", ["output", "cycles", "read_bytes", "write_bytes", "faults", "none"])
def test_what_the_rtl_does_otherwise_is_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    job = _job()
    model = simulate(job.program, job.memory)
    values: dict[str, Any] = {
        "output_bytes": b"",
        "output": run_reference(NETWORK, X)[0].astype(np.int8),
        "cycles": model.cycles,
        "read_bytes": model.read_bytes,
        "write_bytes": model.write_bytes,
        "status": 2,
        "seconds": 0.0,
    }
    if fault == "output":
        values["output"][0] ^= 1
    elif fault == "faults":
        values["faults"] = ("it broke",)
    elif fault != "none":
        values[fault] += 1

    def run(machine: Machine, cases: Sequence[RtlCase], **_: Any) -> list[RtlRun]:
        return [RtlRun(**values) for _ in cases]

    monkeypatch.setattr("bitwright.rtl.runner.run_cases", run)
    (result,) = compare(SMALL, [job])
    assert result.agrees == (fault == "none")


def test_drawn_memories_are_valid_and_some_never_stall() -> None:
    memories = [draw_memory(seed) for seed in range(60)]
    assert sum(memory.stall_rate == 0 for memory in memories) >= 20
    assert max(memory.stall_rate for memory in memories) > 100
    assert draw_memory(7) == draw_memory(7)


def test_a_network_agrees_with_the_rtl_and_the_keys_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", "zoo:random-1", "--machine", "core-small", "--images", "2", "--json"])
    value = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (value["cases"], value["mismatches"], value["cycle_difference"]) == (2, 0, 0)
    assert value["rtl_cycles"] == value["model_cycles"] > 0


@pytest.mark.slow
def test_random_networks_agree_with_the_rtl_of_random_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", "--random", "24", "--seed", "5000", "--jobs", "2", "--json"])
    value = json.loads(capsys.readouterr().out)
    assert value["failures"] == []
    assert code == 0
    assert value["cases"] + value["unmapped"] == 24
    assert value["cases"] >= 12
