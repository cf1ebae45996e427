"""The proof in short: hypothesis, which shrinks what it finds, and a piece of the long run."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.proof.conftest import Benched
from tests.proof.proving import decide, make_world, prove_canonical, prove_index, prove_sql

small = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
randoms = st.randoms(use_true_random=False)


@settings(small, max_examples=20)
@given(r=randoms)
def test_sql_and_python_select_the_same_records(benched: Benched, r: Random) -> None:
    found = decide(r, records=4, filters=4)
    event("some match" if any(0 < len(ids) < 4 for ids in found.matches) else "all or none match")
    benched.run(prove_sql(benched.bench, found, range(4), by_store=True))


@pytest.mark.parametrize("number", range(3))
def test_a_piece_of_the_long_proof(benched: Benched, number: int) -> None:
    found = make_world(f"short/{number}", records=40, filters=60)
    benched.run(prove_sql(benched.bench, found, range(0, 60, 6)))


@settings(small, max_examples=50)
@given(r=randoms)
def test_the_canonical_form_is_the_meaning(r: Random) -> None:
    prove_canonical(r, decide(r, records=4, filters=6))


@settings(small, max_examples=50)
@given(r=randoms)
def test_the_index_answers_as_the_predicates_do(r: Random) -> None:
    prove_index(r, decide(r, records=4, filters=6), 4)


@pytest.mark.parametrize("number", range(12))
def test_form_and_index_in_larger_worlds(number: int) -> None:
    found = make_world(f"larger/{number}", records=20, filters=100)
    prove_canonical(Random(number), found)
    prove_index(Random(number), found, 40)
