"""What the tests of several processes share."""

import pytest


@pytest.fixture
def at_end():
    """A list of processes that are killed when the test is over."""
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()
