"""The server that these tests ask."""

import pytest

from tests.support.openai_server import Server


@pytest.fixture
def server(openai_server: Server) -> Server:
    """Without faults, until a test sets a script."""
    return openai_server
