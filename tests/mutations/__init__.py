"""Leaks and losses, planted one at a time in a copy of the code: the tests must catch each. A module for each room.

`python -m tests.mutations` plants all of them, runs the tests that are named here against each, and writes docs/mutations.md;
`tests/laws/test_mutations.py` is the same as a test.
"""

from tests.mutations import (
    alerts,
    audit,
    connectors,
    conversations,
    dataflows,
    holes,
    ingest,
    kafka,
    labeling,
    library,
    others,
    sqlite,
    training,
)
from tests.mutations.mutation import Mutation

ROOMS: dict[str, tuple[Mutation, ...]] = {
    "conversations": conversations.ROWS,
    "dataflows": dataflows.ROWS,
    "connectors": connectors.ROWS,
    "kafka": kafka.ROWS,
    "sqlite": sqlite.ROWS,
    "training": training.ROWS,
    "labeling": labeling.ROWS,
    "alerts": alerts.ROWS,
    "audit": audit.ROWS,
    "library": library.ROWS,
    "ingest": ingest.ROWS,
    "holes": holes.ROWS,
    "runtime and pages": others.ROWS,
}
MUTATIONS = tuple(each for rows in ROOMS.values() for each in rows)
DAILY = tuple({each.breaks: each for each in reversed(MUTATIONS) if each.breaks.startswith("law ")}.values())
"""One for each law, planted in `make test`; the others in `make proof`."""

__all__ = ["DAILY", "MUTATIONS", "ROOMS", "Mutation"]
