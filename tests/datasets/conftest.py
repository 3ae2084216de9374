"""An isolated place for tests of data sets."""

import socket

import pooch  # noqa: F401 - it cannot be imported once there are no sockets
import pytest


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty home folder, no environment variables, and no network."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    home = tmp_path / "home"
    work = tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    for name in ("GPUCNN_DATA", "GPUCNN_OFFLINE", "KERAS_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(work)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path
