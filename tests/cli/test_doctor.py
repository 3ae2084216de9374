"""`gpucnn doctor` finds known problems, says how to fix them, and reveals nothing private."""

import ctypes
import importlib
import json
import pwd
import re
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest

from gpucnn.cli import doctor, selftest

BASE = dict.fromkeys(doctor.BASE, "9.0") | {"gpucnn": "0.1.0", "numpy": "2.4.6"}
HEADERS = {"nvidia-cuda-runtime-cu12": "12.9"}


@pytest.fixture
def examine(monkeypatch):
    """Examine a machine with these packages and this NVIDIA driver, without running any check."""

    def look(installed=None, driver=None, base=BASE, gpus=1):
        cupy = any(name.startswith("cupy") for name in installed or {})
        packages = {**base, **({"numba-cuda": "0.30.4"} if cupy else {}), **(installed or {})}
        monkeypatch.setattr(doctor, "installed_version", packages.get)
        monkeypatch.setattr(doctor, "driver_version", lambda: driver)
        if driver:
            monkeypatch.setattr(
                doctor.choose, "gpu_state", lambda: (gpus, "NVIDIA H100" if gpus else "no GPU is visible")
            )
        return doctor.examine()

    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(doctor.choose, "gpu_capabilities", lambda: [90])
    monkeypatch.setattr(doctor.nvrtc, "newest_architecture", lambda: 121)
    monkeypatch.setattr(doctor.choose, "gpu_state", lambda: (0, "no NVIDIA driver found"))
    for name in ("NUMBA_DISABLE_JIT", "NUMBA_ENABLE_CUDASIM", "CUDA_PATH", "CUDA_HOME", "GPUCNN_DATA"):
        monkeypatch.delenv(name, raising=False)
    return look


def only(report):
    (problem,) = report.problems
    return problem


def test_a_sound_cpu_machine_is_ready_to_train(examine):
    report = examine()
    assert report.ok
    assert report.problems == []
    assert report.verdict.startswith("ready: CPU with ")
    assert report.verdict.endswith("GPU none (CuPy is not installed)")
    assert report.command == "gpucnn train"


def test_cupy_without_numba_cuda_is_a_warning_with_the_extra_of_the_driver(examine):
    packages = {"cupy-cuda13x": "14.1", "nvidia-cuda-runtime": "13.0", "numba-cuda": None}
    report = examine(packages, driver=13000)
    assert report.ok and only(report).severity == "warning"
    assert only(report).what == "numba-cuda is not installed: the kernels of the backend numba need it"
    assert report.command == 'python -m pip install "gpucnn[cuda13]"'


@pytest.mark.parametrize(("capabilities", "dropped"), [([61], True), ([90, 61], True), ([75], False), ([], False)])
def test_a_gpu_that_cuda_13_has_dropped_needs_cuda_12(examine, monkeypatch, capabilities, dropped):
    packages = {"cupy-cuda13x": "14.1", "nvidia-cuda-runtime": "13.0"}
    monkeypatch.setattr(doctor.choose, "gpu_capabilities", lambda: capabilities)
    report = examine(packages, driver=13000)
    assert report.ok != dropped
    if dropped:
        assert only(report).what == (
            "CUDA 13 has dropped GPUs below compute capability 7.5, and one here has 6.1: it needs cupy-cuda12x"
        )
        assert report.command == 'python -m pip uninstall -y cupy-cuda13x && python -m pip install "gpucnn[cuda12]"'
    assert examine({"cupy-cuda12x": "14.1", **HEADERS}, driver=13000).ok, "CUDA 12 still compiles for it"


def test_a_gpu_newer_than_the_compilers_is_a_warning(examine, monkeypatch):
    packages = {"cupy-cuda12x": "14.1", **HEADERS}
    monkeypatch.setattr(doctor.choose, "gpu_capabilities", lambda: [90, 130])
    monkeypatch.setattr(doctor.nvrtc, "newest_architecture", lambda: 121)
    report = examine(packages, driver=13000)
    assert report.ok and only(report).severity == "warning"
    assert only(report).what == (
        "a GPU here has compute capability 13.0 and the compilers know up to 12.1: the driver compiles its kernels, "
        "from PTX"
    )
    assert report.command == 'python -m pip install --upgrade --upgrade-strategy eager "gpucnn[cuda13]"'
    for newest in (130, None):
        monkeypatch.setattr(doctor.nvrtc, "newest_architecture", lambda newest=newest: newest)
        assert examine(packages, driver=13000).problems == []


def test_two_cupy_wheels_are_an_error_with_one_command_that_fixes_it(examine):
    report = examine({"cupy-cuda12x": "14.1", "cupy-cuda13x": "14.1", **HEADERS}, driver=12080)
    assert not report.ok
    assert only(report).what == "cupy-cuda12x and cupy-cuda13x are both installed: they overwrite each other's files"
    assert "uninstall -y cupy-cuda12x cupy-cuda13x && " in report.command
    assert report.command.endswith('install "gpucnn[cuda12]"')
    assert report.verdict.startswith("not ready: cupy-cuda12x and cupy-cuda13x")


def test_the_newer_driver_gets_the_newer_packages(examine):
    report = examine({"cupy-cuda12x": "14.1", "cupy": "14.1", **HEADERS}, driver=13000)
    assert report.command.endswith('install "gpucnn[cuda13]"')


@pytest.mark.parametrize("version", ["2.5.0", "2.10.1", "3.0"])
def test_numpy_of_2_5_or_newer_with_numba_cuda_is_an_error(examine, version):
    report = examine({"numba-cuda": "0.30.4", "numpy": version})
    assert not report.ok
    assert only(report).what == f"numba-cuda 0.30.4 does not work with NumPy {version}"
    assert report.command == 'python -m pip install "numpy<2.5"'


def test_numpy_before_2_5_goes_with_numba_cuda_and_a_newer_one_without_it(examine):
    assert examine({"numba-cuda": "0.30.4", "numpy": "2.4.6"}).problems == []
    assert examine({"numpy": "2.5.1"}).problems == []


def test_cupy_without_a_driver_is_a_warning_since_the_cpu_is_there(examine):
    report = examine({"cupy-cuda12x": "14.1", **HEADERS})
    assert report.ok
    assert only(report).severity == "warning"
    assert "no NVIDIA driver is found" in only(report).what
    assert report.verdict.endswith("GPU none (no NVIDIA driver found)")


def test_a_driver_older_than_the_wheel_is_an_error(examine):
    report = examine({"cupy-cuda13x": "14.1", "nvidia-cuda-runtime": "13.0"}, driver=12040)
    assert not report.ok
    assert "for CUDA 12.4 and cupy-cuda13x needs CUDA 13" in only(report).what
    assert report.command.endswith('uninstall -y cupy-cuda13x && python -m pip install "gpucnn[cuda12]"')
    assert examine({"cupy-cuda13x": "14.1", "nvidia-cuda-runtime": "13.0"}, driver=13000).problems == []


def test_cupy_without_the_headers_of_cuda_is_an_error(examine, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "TOOLKIT", tmp_path / "nowhere")
    report = examine({"cupy-cuda12x": "14.1"}, driver=12080)
    assert not report.ok
    assert only(report).what == "cupy-cuda12x is installed without the CUDA headers"
    assert report.command == 'python -m pip install "gpucnn[cuda12]"'
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda_runtime.h").touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert examine({"cupy-cuda12x": "14.1"}, driver=12080).problems == []


@pytest.mark.parametrize(("name", "ok"), [("NUMBA_DISABLE_JIT", False), ("NUMBA_ENABLE_CUDASIM", True)])
def test_switches_of_numba_that_were_left_on_are_named(examine, monkeypatch, name, ok):
    monkeypatch.setenv(name, "0")
    assert examine().problems == []
    monkeypatch.setenv(name, "1")
    report = examine()
    assert report.ok is ok
    assert only(report).what.startswith(f"{name}=1 is set: ")
    assert report.command == f"unset {name}"
    assert report.environment[name] == "1"


def test_a_cache_that_cannot_be_written_is_a_warning_that_names_the_variable(examine, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    report = examine()
    assert report.ok
    assert "compiled kernels" in only(report).what
    assert "cannot be written" in only(report).what
    assert report.command.startswith("NUMBA_CACHE_DIR=")
    assert "NOT WRITABLE" in str(report)


def test_the_cache_of_cuda_kernels_counts_where_cupy_is(examine, monkeypatch, tmp_path):
    assert "CUDA kernels" not in {cache.name for cache in examine().caches}
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    caches = examine({"cupy-cuda12x": "14.1", **HEADERS}).caches
    assert {cache.name: cache.path for cache in caches}["CUDA kernels"] == str(tmp_path)


def test_a_user_without_a_home_is_told_where_things_are_kept(examine, monkeypatch, tmp_path):
    for name in ("HOME", "XDG_CACHE_HOME", "GPUCNN_CACHE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    report = examine()
    assert report.ok
    assert {cache.path.partition("/gpucnn-")[0] for cache in report.caches} == {str(tmp_path)}


def test_a_home_at_the_root_leaves_paths_readable(examine, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("GPUCNN_CACHE", "/tmp/cache")
    assert "/tmp/cache" in {cache.path for cache in examine().caches}


def test_a_missing_package_is_an_error_with_its_command(examine):
    base = {name: version for name, version in BASE.items() if name != "pooch"}
    report = examine(base=base)
    assert not report.ok
    assert report.command == "python -m pip install pooch"
    assert "pooch                 not installed" in str(report)


def test_without_the_package_that_names_folders_the_rest_is_reported(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.delenv("GPUCNN_CACHE", raising=False)
    report = examine(base=BASE | {"platformdirs": None})
    assert only(report).what == "not installed: platformdirs"
    assert report.command == "python -m pip install platformdirs"
    assert "data sets" not in [cache.name for cache in report.caches]
    assert "fonts" in [cache.name for cache in report.caches]


def test_errors_come_before_warnings(examine, monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    report = examine({"numba-cuda": "0.30.4", "numpy": "2.5.0"})
    assert [problem.severity for problem in report.problems] == ["error", "warning"]


# -- checks ------------------------------------------------------------------------------------------------------------


def test_every_check_passes_here_and_is_timed():
    report = doctor.examine()
    assert [check.name for check in report.checks] == list(doctor.CHECKS)
    for check in report.checks:
        assert check.ok is not False, check
        assert 0 <= check.seconds < 60
        assert check.detail


def test_a_check_that_fails_is_the_verdict(examine, monkeypatch):
    def fail():
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr(doctor, "CHECKS", {"fine": lambda: "well", "bad": fail})
    report = examine()
    assert not report.ok
    assert [check.ok for check in report.checks] == [True, False]
    assert report.verdict == "not ready: the check 'bad' failed: RuntimeError: the first line"
    assert "force-reinstall" in report.command
    assert "FAILED" in str(report)


@pytest.mark.parametrize(
    ("check", "module", "name", "answer", "detail"),
    [
        ("emulator", "gpucnn.devices.emulator", "unavailable", "no C++ compiler found", "no C++ compiler found"),
        ("compilers", "gpucnn.profiling.static_analysis", "unavailable", "NVRTC is not installed", "NVRTC is not"),
        ("compilers", "gpucnn.profiling.trials", "missing_numba_cuda", "no numba-cuda", "no numba-cuda"),
        ("GPU kernel", "gpucnn.devices.choose", "gpu_state", (0, "no NVIDIA driver found"), "no NVIDIA driver found"),
    ],
)
def test_what_this_machine_lacks_is_absent_and_neither_ok_nor_failed(
    examine, monkeypatch, check, module, name, answer, detail
):
    monkeypatch.setattr(importlib.import_module(module), name, lambda: answer)
    monkeypatch.setattr(doctor, "CHECKS", {check: selftest.CHECKS[check]})
    report = examine()
    (result,) = report.checks
    assert result.ok is None
    assert detail in result.detail
    assert report.ok
    assert re.search(rf"{check} +absent  .*{re.escape(detail)}", str(report))


@pytest.mark.parametrize("wrong", [np.nan, 1.001])
def test_a_wrong_sum_is_seen_and_nan_never_passes(wrong):
    right = np.ones(3)
    selftest._agree(right.astype(np.float32), right, right, 4)
    with pytest.raises(ArithmeticError, match="the error is"):
        selftest._agree(np.array([1, wrong, 1], np.float32), right, right, 4)


def test_the_compiled_kernel_counts_as_python_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", types.SimpleNamespace(njit=lambda function: function))
    assert doctor._attempt("compiled kernel", doctor.CHECKS["compiled kernel"]).ok


@pytest.mark.parametrize("check", ["convolution", "weights file", "training", "compiled kernel"])
def test_each_check_can_fail(monkeypatch, check):
    from gpucnn.models import Sequential, saving
    from gpucnn.ops import conv2d

    monkeypatch.setattr(conv2d.conv2d, "reference", lambda x, *_, **__: np.zeros((8, 14, 14, 16)))
    monkeypatch.setattr(saving, "weights_sha256", lambda model: id(model))
    monkeypatch.setattr(Sequential, "train_on_batch", lambda *_: None)
    monkeypatch.setitem(sys.modules, "numba", types.SimpleNamespace(njit=lambda function: lambda n: -1))
    assert not doctor._attempt(check, doctor.CHECKS[check]).ok


# -- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "answer", "version"), [(0, 12040, 12040), (0, 0, None), (100, 12040, None)])
def test_the_driver_reports_the_newest_cuda_it_supports(monkeypatch, status, answer, version):
    def report(reference):
        reference._obj.value = answer
        return status

    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: types.SimpleNamespace(cuDriverGetVersion=report))
    assert doctor.driver_version() == version


def test_without_a_driver_there_is_no_version(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert doctor.driver_version() is None


def test_a_gpu_that_is_seen_is_named(examine):
    report = examine({"cupy-cuda12x": "14.1", **HEADERS}, driver=12080)
    assert report.machine["gpu"] == "NVIDIA H100"
    assert report.machine["driver"] == "for CUDA 12.8"


@pytest.fixture
def verdict(monkeypatch, tmp_path):
    """A machine with a GPU, and a function that sets what its check would find now."""
    from gpucnn.runs import self_check

    monkeypatch.setenv("GPUCNN_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor.choose, "gpu_state", lambda: (1, "NVIDIA H100"))
    monkeypatch.setattr(self_check, "_kernels", lambda: iter([]))
    return lambda fault: monkeypatch.setattr(self_check, "_training", lambda where: fault)


WITH_GPU = {"cupy-cuda12x": "14.1", **HEADERS}


def test_the_check_of_the_gpu_is_reported_and_repeated_on_demand(examine, verdict):
    assert examine(WITH_GPU, driver=12080).machine["gpu check"].startswith("not yet")
    verdict(None)
    report = doctor.examine(check_gpu=True)
    assert report.ok and report.machine["gpu check"].startswith("passed: 0 kernels in 0 cases (")
    verdict("the losses differ by 1")
    assert doctor.examine().machine["gpu check"] == report.machine["gpu check"], "the verdict is kept"
    report = doctor.examine(check_gpu=True)
    assert report.machine["gpu check"].startswith("FAILED: the losses differ by 1 (")
    assert not report.ok
    assert (
        report.verdict == "not ready: NVIDIA H100 fails its check, and the CPU is used instead: the losses differ by 1"
    )
    assert doctor.examine().command == "gpucnn doctor --self-check"


def test_a_check_of_the_gpu_that_breaks_off_is_reported(examine, verdict, monkeypatch):
    examine(WITH_GPU, driver=12080)
    monkeypatch.setattr(doctor.self_check, "run", lambda where: 1 / 0)
    report = doctor.examine(check_gpu=True)
    assert report.machine["gpu check"] == "ended by ZeroDivisionError: division by zero"
    assert "gpu check" not in examine().machine, "without CuPy there is no GPU"


def test_what_cannot_be_determined_is_unknown(monkeypatch):
    def fail(*_, **__):
        raise OSError("not here")

    monkeypatch.setattr(doctor.Path, "read_text", fail)
    for name in ("processor", "machine"):
        monkeypatch.setattr(doctor.platform, name, str)
    assert doctor._cpu() == "unknown"
    import threadpoolctl

    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    assert doctor._blas() == "unknown"
    monkeypatch.setattr(threadpoolctl, "threadpool_info", fail)
    assert doctor._blas() == "OSError: not here"


# -- the report --------------------------------------------------------------------------------------------------------


def test_the_verdict_stands_first_and_the_blocks_follow_in_order(examine, monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    monkeypatch.setattr(doctor, "CHECKS", {"fine": lambda: "well"})
    report = examine()
    lines = str(report).splitlines()
    assert lines[0] == report.verdict
    titles = [line for line in lines[1:] if line and not line.startswith(" ")]
    assert titles == ["machine", "packages", "environment", "caches", "checks", "problems", "next"]
    assert lines[-1].strip() == report.command


def test_the_json_says_what_the_text_says(examine):
    report = examine()
    described = json.loads(json.dumps(report.to_json()))
    assert list(described) == [
        "verdict", "ok", "machine", "packages", "environment", "caches", "checks", "problems", "command",
    ]  # fmt: skip
    assert described["verdict"] == report.verdict
    assert set(described["caches"][0]) == {"name", "path", "writable"}


def test_neither_home_folder_nor_user_name_is_reported(examine, monkeypatch, tmp_path):
    home = tmp_path / "home" / "ada"
    home.mkdir(parents=True)
    monkeypatch.setattr(doctor.Path, "home", staticmethod(lambda: home))
    monkeypatch.setattr(doctor.getpass, "getuser", lambda: "ada")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("GPUCNN_DATA", str(home / "sets"))
    monkeypatch.setenv("CUPY_CACHE_DIR", "/scratch/ada/cupy")
    report = examine({"cupy": "14.1", **HEADERS})
    assert report.environment["GPUCNN_DATA"] == str(Path("~") / "sets")
    assert report.environment["CUPY_CACHE_DIR"] == "/scratch/<user>/cupy"
    for text in (str(report), json.dumps(report.to_json())):
        assert "ada" not in text.replace("readable", "")
        assert str(home) not in text


def test_a_user_without_a_name_is_no_reason_to_fail(monkeypatch):
    def fail():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(doctor.getpass, "getuser", fail)
    assert doctor._tidy("/scratch/x") == "/scratch/x"


def test_a_folder_of_data_sets_that_is_not_there_is_an_error(examine, monkeypatch, tmp_path):
    monkeypatch.setenv("GPUCNN_DATA", str(tmp_path / "gone"))
    report = examine()
    assert not report.ok
    assert only(report).what == f"GPUCNN_DATA={str(tmp_path / 'gone')!r} is not a folder: no data set can be loaded"
    assert report.command == "unset GPUCNN_DATA"


def test_a_current_folder_that_cannot_be_written_is_a_warning(examine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_writable", lambda folder: folder != Path.cwd())
    report = examine()
    assert report.ok
    assert only(report).what == "the current folder cannot be written: training needs --out"
    assert report.command == "gpucnn train --out /another/folder"


def test_cupy_with_a_driver_and_without_a_gpu_is_a_warning(examine, monkeypatch):
    report = examine({"cupy-cuda12x": "14.1", **HEADERS}, driver=12080, gpus=0)
    assert only(report).severity == "warning"
    assert only(report).what == "cupy-cuda12x and a driver are installed, but no GPU can be used: no GPU is visible"


def test_the_check_of_the_emulator_names_the_kernels_that_it_cannot_run(monkeypatch):
    monkeypatch.setattr(selftest, "_missing_compiler", lambda backend: "no compiler" if backend == "numba" else None)
    detail = selftest.CHECKS["emulator"]()
    assert detail == "as defined: matmul/naive_cuda; not tried: matmul/naive_numba (no compiler)"
