"""What all tests share: how long Hypothesis looks, where the real data is, and what runs when."""

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

pytest_plugins = ["tests.support.broker", "tests.support.openai_server", "tests.support.slack_server", "tests.support.slack_web_api"]

settings.register_profile("default", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("planted", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])  # found is enough: no shrinking
settings.register_profile("proof", settings.get_profile("default"), max_examples=3000)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
settings.load_profile(PROFILE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Proofs take too long for every day: they run with their profile only."""
    if PROFILE != "proof":
        proofs = [item for item in items if item.get_closest_marker("proof")]
        config.hook.pytest_deselected(items=proofs)
        items[:] = [item for item in items if item not in proofs]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the real data, beside the checkout and never in it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the real data is not here: ../shared/data is missing")
    return folder


@pytest.fixture(autouse=True)
def _real_data(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("realdata"):
        request.getfixturevalue("shared")
