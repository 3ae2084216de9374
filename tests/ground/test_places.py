"""The cache of compiled code: where it lies when the usual place cannot be written, and what heals."""

import os
import stat
import tempfile
import threading

import pytest

from gpucnn import places

NOWHERE = "/dev/null/below"
"""A folder that nobody can make, the superuser included."""


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for name in ("GPUCNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    places._warn.cache_clear()


@pytest.fixture
def temporary(tmp_path):
    """The user's folder in the system's for temporary files."""
    return tmp_path / "tmp" / f"gpucnn-{os.getuid()}"


def test_the_cache_is_where_the_variable_says_else_in_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert places.cache_folder("ptx") == tmp_path / "home/.cache/gpucnn/ptx"
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path / "chosen"))
    assert places.cache_folder("ptx") == tmp_path / "chosen/ptx"
    monkeypatch.setenv("GPUCNN_CACHE", "~/mine")
    assert places.cache_folder("ptx") == tmp_path / "home/mine/ptx"
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(("variable", "value"), [("GPUCNN_CACHE", NOWHERE), ("HOME", NOWHERE)])
def test_a_place_that_cannot_be_written_is_replaced_by_a_temporary_one_with_one_line(
    temporary, monkeypatch, variable, value
):
    monkeypatch.setenv(variable, value)
    with pytest.warns(UserWarning, match=rf"cannot write {value}.*kept in {temporary}: set GPUCNN_CACHE to") as warned:
        assert places.cache_folder("ptx") == temporary / "ptx"
        assert places.cache_folder("emulator") == temporary / "emulator"
    assert len(warned) == 1
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700


def test_a_user_without_a_home_gets_no_folder_called_tilde(temporary, tmp_path, monkeypatch):
    pwd = pytest.importorskip("pwd")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.warns(UserWarning, match=f"this user has no home folder; compiled code is kept in {temporary}"):
        assert places.cache_folder("ptx") == temporary / "ptx"
    assert places.cache_location() == temporary
    assert places.user_folder("~/.cache/x") == temporary
    assert not (tmp_path / "~").exists()


def test_a_temporary_folder_in_which_others_can_write_is_not_used(temporary, monkeypatch):
    """What is cached is executed."""
    temporary.mkdir()
    temporary.chmod(0o777)
    monkeypatch.setenv("GPUCNN_CACHE", NOWHERE)
    with pytest.warns(UserWarning, match="compiled code is not kept from run to run: set GPUCNN_CACHE"):
        assert places.cache_folder("ptx") is None
    assert places.cached("ptx", "a", lambda: b"made") == b"made"


def test_a_temporary_folder_that_is_a_link_is_not_used(temporary, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    temporary.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("GPUCNN_CACHE", NOWHERE)
    with pytest.warns(UserWarning, match="not kept"):
        assert places.cache_folder("ptx") is None


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Calls of `entry()`, which makes an entry of the cache if there is none."""
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path / "cache"))
    calls = []

    def entry():
        return places.cached("ptx", "entry", lambda: calls.append("made") or b"content")

    entry.calls, entry.path = calls, tmp_path / "cache/ptx/entry"
    return entry


def test_an_entry_is_made_once(made):
    assert [made(), made()] == [b"content", b"content"]
    assert made.calls == ["made"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 5),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(b"content, as an old version wrote it, without a digest"),
        lambda path: path.unlink(),
    ],
    ids=["cut", "empty", "changed", "old", "gone"],
)
def test_a_damaged_entry_is_made_again_and_stays_whole(made, damage):
    made()
    damage(made.path)
    assert [made(), made()] == [b"content", b"content"]
    assert made.calls == ["made", "made"]


def test_an_entry_that_cannot_be_written_costs_time_only_and_one_line(made, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="the disk is full.*not kept.*set GPUCNN_CACHE") as warned:
        assert [made(), made()] == [b"content", b"content"]
    assert made.calls == ["made", "made"]
    assert len(warned) == 1


def test_builders_at_once_leave_a_whole_entry(made):
    threads = [threading.Thread(target=made) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.calls.clear()
    assert made() == b"content"
    assert made.calls == []
