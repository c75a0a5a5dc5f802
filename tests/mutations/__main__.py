"""`python -m tests.mutations`: plant, run, and write docs/mutations.md."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.mutations import MUTATIONS, ROOMS, Mutation
from tests.mutations.running import ROOT, run_tests

TABLE = ROOT / "docs" / "mutations.md"
NOBODY, NOT_RUN = "**nobody**", "(not run)"


def table_of(caught_by: Mapping[str, str]) -> str:
    """docs/mutations.md, of what caught each mutation by its name."""
    rows = [
        line
        for room, mutations in ROOMS.items()
        for line in (
            "",
            f"## {room}",
            "",
            "| planted | breaks | caught first by |",
            "|---|---|---|",
            *(f"| {each.name} | {each.breaks} | {caught_by.get(each.name, NOT_RUN)} |" for each in mutations),
        )
    ]
    caught = sum(caught_by.get(each.name, NOT_RUN) not in (NOBODY, NOT_RUN) for each in MUTATIONS)
    return "\n".join(
        [
            "# Planted leaks and losses",
            "",
            "Would the tests notice a mistake? Each row is a change to a copy of the code that breaks a law of the README or a rule of the docs, and the test that caught it.",
            "`make mutations` plants each change, runs the tests that [tests/mutations](../tests/mutations) names for it, and writes this table; `make mutations ARGS=alerts`",
            "does so with the rows of a room, or with those whose name has these words (`--left`: with those that nothing has caught yet). `make test` plants one change for",
            "each law, `make proof` all of them.",
            "",
            f"Caught: {caught} of {len(MUTATIONS)}.",
            *rows,
            "",
        ]
    )


def caught_before() -> dict[str, str]:
    """By name: what caught each mutation in the table as it stands."""
    if not TABLE.exists():
        return {}
    rows = re.findall(r"^\| (.+?) \| .+? \| (.+) \|$", TABLE.read_text("utf-8"), re.MULTILINE)
    return dict(rows)


def short(test: str) -> str:
    """A test's name without its folder and parameters."""
    return re.sub(r"\[.*", "", test.removeprefix("tests/"))


def chosen(words: str) -> tuple[Mutation, ...]:
    """All mutations; those of a room, or with words in their name."""
    return ROOMS.get(words) or tuple(each for each in MUTATIONS if words in each.name)


def main() -> int:
    """Plants mutations, writes the table, and fails if one was not caught."""
    words = [each for each in sys.argv[1:] if each != "--left"]
    wanted, caught_by = chosen(" ".join(words)), caught_before()
    if "--left" in sys.argv:
        wanted = tuple(each for each in wanted if caught_by.get(each.name, NOT_RUN) in (NOBODY, NOT_RUN))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for each, running in [(each, pool.submit(run_tests, each, each.caught_by, seconds=1800)) for each in wanted]:
            name = each.name
            try:
                outcome = running.result()
            except ValueError as error:  # the others run all the same
                caught_by[name] = NOT_RUN
                print(f"NOT RUN {name}  {error}", flush=True)
                continue
            caught_by[name] = ", ".join(f"`{short(test)}`" for test in outcome.failed[:2]) or NOBODY
            print(f"{'caught' if outcome.failed else 'MISSED'}  {name}  {caught_by[name]}", flush=True)
            TABLE.write_text(table_of(caught_by), "utf-8")
    return 0 if {NOBODY, NOT_RUN}.isdisjoint(caught_by[each.name] for each in wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
