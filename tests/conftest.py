"""Shared fixtures: the event loop, and what a test needs of the machine."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Every asynchronous test runs on the loop that the daemon runs on."""
    return "asyncio", {"use_uvloop": True}
