"""Every planted leak and loss is caught by the tests that are named for it; see tests/mutations.py."""

import pytest

from tests.mutations import MUTATIONS, NOTHING, ROOT, Mutation, run_tests


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
@pytest.mark.timeout(600)
def test_it_is_caught(mutation: Mutation):
    """With the mutation in the code, its tests fail."""
    outcome = run_tests(mutation, [mutation.caught_by])

    assert outcome.failed, f"nobody noticed: {mutation.name}\n{outcome.said}"


@pytest.mark.timeout(900)
def test_without_a_mutation_they_pass():
    """A test that always fails would catch everything."""
    outcome = run_tests(None, sorted({mutation.caught_by.partition("::")[0] for mutation in MUTATIONS}))

    assert (outcome.mutation, outcome.failed) == (NOTHING, ()), outcome.said


def test_the_table_names_every_mutation():
    """docs/mutations.md is of these mutations, and says that each was caught."""
    table = (ROOT / "docs" / "mutations.md").read_text("utf-8")

    assert [mutation.name for mutation in MUTATIONS if f"| {mutation.name} |" not in table] == []
    assert f"Caught: {len(MUTATIONS)} of {len(MUTATIONS)}." in table
