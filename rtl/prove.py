"""`python -m bitwright.rtl.prove`: a table of all proofs and broken twins; exit code 1 if one is amiss."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .proof_cases import arithmetic_proofs
from .proof_cells import cell_proofs
from .proof_streams import stream_proofs
from .proofs import Outcome, Proof, Result, prove

__all__ = ["all_proofs", "main", "stands"]


def all_proofs(*, quick: bool = False) -> list[Proof]:
    """All proofs, or those that are done in seconds."""
    proofs = cell_proofs() + arithmetic_proofs() + stream_proofs()
    return [proof for proof in proofs if proof.quick or not quick]


def stands(result: Result, twin: Result) -> bool:
    """Whether the claim is proved and its broken twin refuted: a time-out of either is not enough."""
    return result.outcome is Outcome.PROVED and twin.outcome is Outcome.REFUTED


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every proof stands, else 1; prints a line for each as it ends."""
    parser = argparse.ArgumentParser(
        prog="prove", description="Prove the core's units by SAT and by exhaustion."
    )
    parser.add_argument("--quick", action="store_true", help="only those that are done in seconds")
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one SAT problem")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many run at once")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {given.jobs}")
    start = time.monotonic()
    amiss = 0
    proofs = all_proofs(quick=given.quick)
    print(f"{'proof':58}{'result':>10}{'seconds':>9}{'broken twin':>13}{'seconds':>9}")
    # Threads are enough: each waits for a process of its own.
    with ThreadPoolExecutor(given.jobs) as pool:
        begun = [
            [pool.submit(prove, each, timeout_s=given.timeout) for each in (proof, proof.twin())]
            for proof in proofs
        ]
        for proof, (claim, broken) in zip(proofs, begun, strict=True):
            result, twin = claim.result(), broken.result()
            fine = stands(result, twin)
            amiss += not fine
            print(
                f"{proof.name:58}{result.outcome.value:>10}{result.seconds:9.1f}"
                f"{twin.outcome.value:>13}{twin.seconds:9.1f}{'' if fine else '  <-'}",
                flush=True,
            )
    print(f"{len(proofs) - amiss} of {len(proofs)} stand; {time.monotonic() - start:.0f} s")
    return int(bool(amiss))


if __name__ == "__main__":
    sys.exit(main())
