"""Arrays and launches of a test go to the emulator."""

import pytest

import gpucnn


@pytest.fixture
def on_the_emulator():
    with gpucnn.dispatch.choice.using(device="emulator"):
        yield
