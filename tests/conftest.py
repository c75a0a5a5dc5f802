"""What all tests share: how long Hypothesis looks, where the real data is, and what runs when."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.support.speed import slowness

pytest_plugins = [f"tests.support.{name}" for name in ("broker", "browser", "logs", "openai_server", "slack_server", "slack_web_api")]

settings.register_profile("quick", max_examples=15, deadline=None, derandomize=True, print_blob=True)  # `make test`
settings.register_profile("default", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("planted", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])  # found is enough: no shrinking
settings.register_profile("proof", settings.get_profile("default"), max_examples=1000)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
settings.load_profile(PROFILE)

NOBODY = 65534
"""The user of that name, on any Unix."""

NOT_RUN = pytest.StashKey[Counter[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Proofs take too long for every day: they run with their profile only. Time-outs are longer on a busy machine.

    What may take longest begins first, so that no process waits at the end for another one's last test.
    """
    if PROFILE != "proof":
        proofs = [item for item in items if item.get_closest_marker("proof")]
        config.hook.pytest_deselected(items=proofs)
        items[:] = [item for item in items if item not in proofs]
    patience = {item: _patience(item) for item in items}
    items.sort(key=lambda item: -patience[item])
    for item, seconds in patience.items():
        item.add_marker(pytest.mark.timeout(seconds * slowness()), append=False)


def _patience(item: pytest.Item) -> float:
    """Seconds that a test may take on a quiet machine."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was not run, and why."""
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.config.stash[NOT_RUN] = reasons


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line: what a green run did not show."""
    reasons = config.stash.get(NOT_RUN, None)
    if reasons is None or hasattr(config, "workerinput") or PROFILE == "planted":  # of each of hundreds of runs nobody reads it
        return
    skipped = (
        f"{sum(reasons.values()):,} tests were skipped: " + "; ".join(f"{count:,} as {reason}" for reason, count in reasons.items())
        if reasons
        else "no test was skipped"
    )
    from tests.proof import parts, stale_parts

    stale = stale_parts()
    proofs = f"{len(stale)} of {len(parts())} parts have not passed on this code" if stale else "every part passed on this code"
    print(f"Not run: {skipped}. Of `make proof`, {proofs}.")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the real data, beside the checkout and never in it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the real data is not here: ../shared/data is missing")
    return folder


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which permissions hold: where the tests are root's, who may do everything, they go on as `nobody` meanwhile."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(folder)
        finally:
            os.setresuid(0, 0, 0)


@pytest.fixture(autouse=True)
def _real_data(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("realdata"):
        request.getfixturevalue("shared")
