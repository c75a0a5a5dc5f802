"""Every planted leak and loss is caught by the tests that are named for it; see tests/mutations/."""

import pytest

from tests.mutations import DAILY, MUTATIONS, ROOMS, Mutation
from tests.mutations.running import NOTHING, ROOT, run_tests


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(each, id=f"planted_in_{room.replace(' ', '_')}_: {each.name}", marks=() if each in DAILY else pytest.mark.proof)
        for room, rows in ROOMS.items()
        for each in rows
    ],
)
@pytest.mark.timeout(600)
def test_it_is_caught(mutation: Mutation):
    """With the mutation in the code, its tests fail."""
    outcome = run_tests(mutation, mutation.caught_by)

    assert outcome.failed, f"nobody noticed: {mutation.name}\n{outcome.said}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "tests",
    [
        pytest.param({"tests/conversations/test_channel.py"}, id="some"),
        pytest.param({test.partition("::")[0] for each in MUTATIONS for test in each.caught_by}, id="all", marks=pytest.mark.proof),
    ],
)
def test_without_a_mutation_they_pass(tests: set[str]):
    """A test that always fails would catch everything. Outside of the copy, all of them are run every day."""
    outcome = run_tests(None, sorted(tests))

    assert (outcome.mutation, outcome.failed) == (NOTHING, ()), outcome.said


def test_the_table_names_every_mutation():
    """docs/mutations.md is of these mutations, and none of them was planted and caught by nobody."""
    table = (ROOT / "docs" / "mutations.md").read_text("utf-8")

    assert [mutation.name for mutation in MUTATIONS if f"| {mutation.name} |" not in table] == []
    assert "**nobody**" not in table
