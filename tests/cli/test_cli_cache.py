"""What a shell sees of the cache and of warming up."""

import json

import needs
import pytest
from click.testing import CliRunner

from gpucnn import places
from gpucnn.cli import main
from gpucnn.devices.emulator.device import Emulator


def gpucnn(*arguments):
    """The command in this process: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="gpucnn")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path))
    return tmp_path


def test_info_counts_files_and_bytes_of_each_folder(cache):
    places.cached("figures", "one.json", lambda: b"12345")
    shown = json.loads(gpucnn("cache", "info", "--json").stdout)
    assert shown["path"] == str(cache)
    folders = {f["name"]: (f["files"], f["bytes"]) for f in shown["folders"]}
    assert folders == {name: (0, 0) for name in places.CACHES} | {"figures": (1, 5 + 32)}
    assert "figures      1" in gpucnn("cache", "info").stdout


def test_clear_removes_compiled_code_and_leaves_data_sets(cache):
    places.cached("figures", "one.json", lambda: b"12345")
    places.cached("ptx", "two.ptx", lambda: b"1")
    data = cache / "datasets" / "mnist.npz"
    data.parent.mkdir()
    data.write_bytes(b"images")
    assert gpucnn("cache", "clear").stdout == f"removed 2 files, 70 bytes, from {cache}\n"
    assert [path for path in cache.rglob("*") if path.is_file()] == [data]
    assert json.loads(gpucnn("cache", "clear", "--json").stdout) == {"path": str(cache), "files": 0, "bytes": 0}


def test_every_folder_of_compiled_code_is_in_the_cache_that_is_shown(cache):
    for name in ("emulator", "numba", "self-check"):  # those that are not written by `cached`
        assert name in places.CACHES


def test_a_file_that_cannot_be_removed_is_named(cache, monkeypatch):
    places.cached("figures", "one.json", lambda: b"12345")
    monkeypatch.setattr("pathlib.Path.unlink", lambda self: (_ for _ in ()).throw(PermissionError(13, "denied")))
    done = gpucnn("cache", "clear")
    assert done.exit_code == 1
    assert "cannot remove" in done.stderr and "one.json" in done.stderr


@needs.emulator_here
def test_warmup_compiles_each_file_once_and_says_so(monkeypatch):
    prepared = []
    monkeypatch.setattr(Emulator, "prepare_cuda", lambda self, function: prepared.append(function))
    for name in ("fit", "predict"):  # the step itself takes long in the emulator
        monkeypatch.setattr(f"gpucnn.models.sequential.Sequential.{name}", lambda *_, **__: None)
    done = gpucnn("warmup", "--model", "slides", "--device", "emulator", "--json")
    assert done.exit_code == 0, done.stderr
    (report,) = json.loads(done.stdout)["models"]
    assert report["files"] == len(prepared) == len({(f.path, *sorted(f.defines.items())) for f in prepared}) > 10
    assert {f.path.parent.name for f in prepared} >= {"batch", "dense", "fused", "update"}


def test_warmup_on_the_cpu_runs_a_step():
    done = gpucnn("warmup", "--model", "slides", "--device", "cpu")
    assert done.exit_code == 0
    assert done.stdout.startswith("slides on cpu (njit): one step of training and one of inference in ")


def test_a_kernel_that_cannot_be_compiled_stops_the_warmup_with_its_name(monkeypatch):
    def refused(self, function):
        raise function.refused("fused.cu(3): error: no")

    monkeypatch.setattr(Emulator, "prepare_cuda", refused)
    done = gpucnn("warmup", "--model", "slides", "--device", "emulator")
    assert done.exit_code == 1
    assert "cannot be compiled here" in done.stderr
