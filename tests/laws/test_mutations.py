"""Every planted leak and loss is caught by the tests that are named for it; see tests/mutations.py."""

import pytest

from tests.mutations import MUTATIONS, NOTHING, ROOT, Mutation, run_tests


def is_a_leak(mutation: Mutation) -> bool:
    """Whether it breaks a law, or reads what was known too late; these are planted every day, all others in `make proof`."""
    return mutation.breaks.startswith("law") or "known too late" in mutation.breaks


@pytest.mark.parametrize(
    "mutation", [pytest.param(each, id=each.name, marks=() if is_a_leak(each) else pytest.mark.proof) for each in MUTATIONS]
)
@pytest.mark.timeout(600)
def test_it_is_caught(mutation: Mutation):
    """With the mutation in the code, its tests fail."""
    outcome = run_tests(mutation, [mutation.caught_by])

    assert outcome.failed, f"nobody noticed: {mutation.name}\n{outcome.said}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "tests",
    [
        pytest.param({"tests/conversations/test_channel.py"}, id="some"),
        pytest.param({each.caught_by.partition("::")[0] for each in MUTATIONS}, id="all", marks=pytest.mark.proof),
    ],
)
def test_without_a_mutation_they_pass(tests: set[str]):
    """A test that always fails would catch everything. Outside of the copy, all of them are run every day."""
    outcome = run_tests(None, sorted(tests))

    assert (outcome.mutation, outcome.failed) == (NOTHING, ()), outcome.said


def test_the_table_names_every_mutation():
    """docs/mutations.md is of these mutations, and says that each was caught."""
    table = (ROOT / "docs" / "mutations.md").read_text("utf-8")

    assert [mutation.name for mutation in MUTATIONS if f"| {mutation.name} |" not in table] == []
    assert f"Caught: {len(MUTATIONS)} of {len(MUTATIONS)}." in table
