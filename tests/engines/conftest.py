"""What the tests of engines share."""

from collections.abc import Iterator

import pytest

from comity.engines.api.client import ApiClient


@pytest.fixture
def clients() -> Iterator[list[ApiClient]]:
    """API clients that a test appends; closed after it."""
    made: list[ApiClient] = []
    yield made
    for client in made:
        client.close()
