"""Proofs: a design and a literal statement of what it must do, and a broken twin that must fail.

By SAT, or by exhaustion where the operands are few: see `exhaust`.
"""

from __future__ import annotations

import enum
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .exhaust import exhaust
from .toolchain import ToolError, run_tool

__all__ = ["Outcome", "Proof", "Result", "prove"]

TOP = "proof"
"""The module with the output `ok`."""

# A Yosys error ends the process that called it: each proof has one of its own.
_RUN_YOSYS = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
ys.run_pass("script " + sys.argv[1], design)
"""
_PROVED = "SAT proof finished - no model found: SUCCESS!"
_REFUTED = "SAT proof finished - model found: FAIL!"
_TIMEOUT = "Interrupted SAT solver: TIMEOUT!"


class Outcome(enum.Enum):
    """What a solver said."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNPROVED = "unproved"
    """The time ran out: nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That the output `ok` of module `proof` is 1 in every step after `skip`, whatever the inputs.

    Without `reset` the registers start anywhere, so a design without feedback whose latency is `skip` is
    proved for all time by `steps` = `skip` + 1. With it, they start at their reset values, and it holds
    within the bound of `steps`. With `every` no solver is asked: a simulation sees all values of an input.
    """

    name: str
    claim: str
    verilog: str
    broken: tuple[str, str]
    """Text of `verilog`, and what replaces it (once) in the twin that must fail."""
    steps: int = 1
    skip: int = 0
    reset: bool = False
    cases: tuple[str, ...] = ("",)
    """Constants for inputs, as options of Yosys's `sat`, that together cover all; one SAT problem each."""
    libraries: tuple[str, ...] = ()
    """Verilog models of vendors' primitives, as Yosys names them."""
    every: int = 0
    """Bits of the input `every`, whose values are all tried, `ok` being of the value of `skip` cycles ago."""
    quick: bool = False

    def twin(self) -> Proof:
        """The broken design with the claim of the last case.

        Raises:
            ValueError: the text that should break is not in the design.
        """
        old, new = self.broken
        if old not in self.verilog:
            raise ValueError(f"proof {self.name}: the twin's text is not in the design: {old!r}")
        text = self.verilog.replace(old, new, 1)
        return replace(self, name=f"{self.name}, broken", verilog=text, cases=self.cases[-1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a proof."""

    proof: Proof
    outcome: Outcome
    seconds: float


def prove(proof: Proof, *, timeout_s: int = 120) -> Result:
    """What the solver says of `proof`; a case that runs out of time leaves it unproved.

    Args:
        proof: the claim.
        timeout_s: seconds for each of its cases; a simulation has no limit.

    Raises:
        ToolError: Yosys or Verilator rejects the design, or says nothing that is understood.
    """
    start = time.monotonic()
    if proof.every:
        right = exhaust(proof.verilog, top=TOP, bits=proof.every, skip=proof.skip)
        outcome = Outcome.PROVED if right else Outcome.REFUTED
        return Result(proof=proof, outcome=outcome, seconds=time.monotonic() - start)
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(proof.verilog, encoding="utf-8")
        (folder / "job.ys").write_text("\n".join(_script(proof, timeout_s)) + "\n", encoding="ascii")
        log = run_tool([sys.executable, "-c", _RUN_YOSYS, "job.ys"], cwd=folder)
    said = [line.strip() for line in log.splitlines()]
    proved, refuted, late = (said.count(line) for line in (_PROVED, _REFUTED, _TIMEOUT))
    if refuted:
        outcome = Outcome.REFUTED
    elif late:
        outcome = Outcome.UNPROVED
    elif proved == len(proof.cases):
        outcome = Outcome.PROVED
    else:
        raise ToolError(f"proof {proof.name}: {proved} of {len(proof.cases)} cases answered", log=log)
    return Result(proof=proof, outcome=outcome, seconds=time.monotonic() - start)


def _script(proof: Proof, timeout_s: int) -> Sequence[str]:
    libraries = [f"read_verilog -sv -overwrite +/{library}" for library in proof.libraries]
    options = f"-seq {proof.steps} -prove-skip {proof.skip}" if proof.steps > 1 else ""
    return [
        *libraries,
        "read_verilog -formal -sv design.v",
        f"hierarchy -check -top {TOP}",
        "proc",
        "flatten",
        "memory -nordff",
        "opt",
        "dffunmap",
        *([] if proof.reset else ["setattr -unset init w:*"]),
        "setundef -undriven -expose",
        "opt_clean",
        *(f"sat {options} {case} -timeout {timeout_s} -prove ok 1 {TOP}" for case in proof.cases),
    ]
