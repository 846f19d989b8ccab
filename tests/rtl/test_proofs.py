"""The quick proofs, each with a broken twin that must fail, and what a proof may not be taken for."""

from __future__ import annotations

import pytest
from bitwright.rtl.proofs import Outcome, Proof, Result, prove
from bitwright.rtl.prove import all_proofs, stands

QUICK = {proof.name: proof for proof in all_proofs(quick=True)}

COUNTER = """
module proof(input clk, input go, output ok);
    reg [3:0] count = 0;
    always @(posedge clk) if (go) count <= count + 1;
    assign ok = count < 4;
endmodule
"""

# That a product distributes over a sum takes a solver hours at this width.
PRODUCTS = """
module proof(input [23:0] a, b, output ok);
    wire [47:0] left = (a + 25'd1) * b;
    wire [47:0] right = a * b + b;
    assign ok = left == right;
endmodule
"""


@pytest.mark.parametrize("name", QUICK)
def test_the_claim_is_proved_and_its_broken_twin_refuted(name: str) -> None:
    proof = QUICK[name]
    result, twin = prove(proof, timeout_s=60), prove(proof.twin(), timeout_s=60)
    assert (result.outcome, twin.outcome) == (Outcome.PROVED, Outcome.REFUTED)


def _counter(steps: int) -> Proof:
    broken = ("count < 4", "count < 3")
    return Proof(name="counter", claim="", verilog=COUNTER, broken=broken, steps=steps, reset=True)


def test_a_bound_is_as_deep_as_it_says() -> None:
    """From 0 the counter passes 3 in the fifth step."""
    assert [prove(_counter(steps)).outcome for steps in (4, 5)] == [Outcome.PROVED, Outcome.REFUTED]
    assert prove(_counter(4).twin()).outcome is Outcome.REFUTED


def test_one_refuted_case_refutes_all() -> None:
    proof = Proof(
        name="case",
        claim="",
        verilog="module proof(input [1:0] a, input b, output ok); assign ok = a != 2 || b; endmodule",
        broken=("a != 2", "a != 3"),
        cases=tuple(f"-set a {a}" for a in range(4)),
    )
    assert prove(proof).outcome is Outcome.REFUTED


def test_a_time_out_is_unproved() -> None:
    proof = Proof(name="products", claim="", verilog=PRODUCTS, broken=("+ b", "- b"))
    result = prove(proof, timeout_s=1)
    assert result.outcome is Outcome.UNPROVED
    refuted = Result(proof=proof, outcome=Outcome.REFUTED, seconds=0.0)
    assert not stands(result, refuted)


def test_a_twin_that_breaks_nothing_is_refused() -> None:
    proof = Proof(name="counter", claim="", verilog=COUNTER, broken=("count < 9", "count < 8"))
    with pytest.raises(ValueError, match=r"proof counter: the twin's text is not in the design: 'count < 9'"):
        proof.twin()


def test_a_proved_twin_is_no_proof() -> None:
    proof = _counter(4)
    proved = Result(proof=proof, outcome=Outcome.PROVED, seconds=0.0)
    assert not stands(proved, proved)


@pytest.mark.slow
def test_proofs_have_names_of_their_own() -> None:
    names = [proof.name for proof in all_proofs()]
    assert len(set(names)) == len(names)
