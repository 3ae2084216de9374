"""Benchmarks check before they time, report what they measured, and compare records honestly."""

import json
from dataclasses import replace

import numpy as np
import pytest

import gpucnn
from gpucnn.devices import choose
from gpucnn.devices.cpu import CPU
from gpucnn.devices.device import Peak
from gpucnn.devices.emulator import driver
from gpucnn.dispatch.case import Case
from gpucnn.dispatch.op import Kernel
from gpucnn.errors import ArgumentError, FileError, KernelError
from gpucnn.ops.batchnorm import batchnorm
from gpucnn.ops.conv2d import conv2d, conv2d_grad_weight
from gpucnn.ops.matmul import matmul
from gpucnn.profiling import benchmark, records, timing, torch_ops, trials

QUICK = timing.Effort(min_samples=2, min_time=0.0, max_noise=1e9, timeout=1.0)


def case(op, name):
    return next(c for c in op.cases if c.name == name)


def plan(kernels, **more):
    return benchmark.Plan(kernels, **{"cases": ("ragged",), "effort": QUICK, **more})


def wrong_kernel():
    def launch(y, a, b, **params):
        y[...] = matmul.reference(a, b, **params) + 1

    return Kernel(matmul, "wrong", "numpy", "matmul/wrong_numpy", launch)


def row(**changes):
    times = {"hot": 100.0, "hot_low": 95.0, "hot_high": 105.0, "cold": 200.0, "host": 1.0}
    base = records.Row("matmul", "tiles", "matmul/x_cuda", "cuda", "float32", "gpu:0", 1e6, 1000, **times)
    return replace(base, **changes)


def test_a_row_has_time_spread_and_work():
    (measured,) = benchmark.rows(plan([matmul.kernels()["blas_numpy"]]))
    assert 0 < measured.hot_low <= measured.hot <= measured.hot_high
    assert measured.cold > 0
    assert measured.flops == 2 * 13 * 37 * 11
    assert measured.bytes == 4 * (13 * 37 + 37 * 11 + 13 * 11)
    assert measured.gflops == pytest.approx(measured.flops / measured.hot * 1e-3)
    assert measured.note is None


def test_a_wrong_kernel_gets_no_time():
    (measured,) = benchmark.rows(plan([wrong_kernel()]))
    assert measured.hot is None
    assert measured.note.startswith("WRONG, so not timed: matmul/wrong_numpy")


def test_a_time_beyond_the_roof_is_refused(monkeypatch):
    monkeypatch.setattr(CPU, "peak", lambda: Peak(1.0, 1.0, 0), raising=False)
    (measured,) = benchmark.rows(plan([matmul.kernels()["blas_numpy"]]))
    assert measured.hot is None
    assert measured.note.startswith("refused:")


def test_the_roof_is_arithmetic_or_memory_whichever_binds(monkeypatch):
    monkeypatch.setattr(CPU, "peak", lambda: Peak(1e9, 1e6, 100), raising=False)
    assert benchmark.roof_share(1e9, 50, 2.0) == pytest.approx(0.5)
    assert benchmark.roof_share(1e6, 10**6 + 100, 2.0) == pytest.approx(0.5)
    assert benchmark.roof_share(1e6, 100, 1.0) == pytest.approx(1e-3)


def test_what_the_cache_keeps_from_the_call_before_is_not_read_from_memory(monkeypatch):
    monkeypatch.setattr(CPU, "peak", lambda: Peak(1e9, 1e6, 100_000), raising=False)
    assert benchmark.roof_share(1.0, 150_000, 0.05) == pytest.approx(1.0)
    assert benchmark.roof_share(1.0, 300_000, 0.4) == pytest.approx(0.5)


def test_a_kernel_that_fails_in_its_launch_gets_a_note_and_the_next_one_its_time():
    def launch(y, a, b, **params):
        raise KernelError("gpu:0 is lost to this process")

    failing = Kernel(matmul, "failing", "numpy", "matmul/failing_numpy", launch)
    first, second = benchmark.rows(plan([failing, matmul.kernels()["blas_numpy"]]))
    assert first.hot is None and "gpu:0 is lost to this process" in first.note
    assert second.hot > 0


def test_a_kernel_that_fails_after_its_check_gets_a_note_too(monkeypatch):
    def refuse(*_):
        raise KernelError("gpu:0 is lost to this process")

    monkeypatch.setattr(benchmark, "_timed", refuse)
    (measured,) = benchmark.rows(plan([matmul.kernels()["blas_numpy"]]))
    assert measured.note == "not timed: gpu:0 is lost to this process"


def test_kernels_for_gpus_are_not_timed_in_the_emulator(monkeypatch):
    monkeypatch.setattr(choose, "gpu_state", lambda: (0, "none"))
    (measured,) = benchmark.rows(plan([matmul.kernels()["naive_cuda"]]))
    assert measured.hot is None
    assert "no GPU here" in measured.note


def test_check_only_times_nothing():
    (measured,) = benchmark.rows(plan([matmul.kernels()["blas_numpy"]], check_only=True))
    assert (measured.hot, measured.note) == (None, "agrees with its definition")


@pytest.mark.parametrize(("op", "batch"), [(conv2d, 5), (conv2d_grad_weight, 2)])
def test_the_batch_axis_changes_the_images_alone(op, batch):
    resized = benchmark.resized(op, case(op, "ragged"), batch)
    names = ("x", "weight") if op is conv2d else ("dy", "x")
    for name, before, after in zip(names, case(op, "ragged").operands, resized.operands, strict=True):
        assert after.shape == (before.shape if name == "weight" else (batch, *before.shape[1:]))


def test_the_batch_axis_of_a_product_is_its_rows():
    resized = benchmark.resized(matmul, case(matmul, "tiles"), 8)
    assert [d.shape for d in resized.operands] == [(8, 64), (64, 64)]
    resized = benchmark.resized(matmul, case(matmul, "tiles_grad_weight"), 8)
    assert [d.shape for d in resized.operands] == [(8, 64), (8, 64)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"axes": {"depth": [1]}}, "--axis depth: use one of batch"),
        ({"precision": "int4"}, "--precision int4: use one of float32, tf32, bfloat16"),
        ({"vs": ("tensorflow",)}, "--vs tensorflow: use one of numpy, torch, cublas"),
    ],
)
def test_unknown_settings_are_named(settings, words):
    with pytest.raises(ArgumentError, match=words):
        plan([wrong_kernel()], **settings)


def test_an_unknown_case_is_named_with_its_neighbours():
    with pytest.raises(ArgumentError, match=r"takes the case raged; did you mean 'ragged'"):
        plan([wrong_kernel()], cases=("raged",)).tasks()


def test_without_pytorch_its_row_is_refused(monkeypatch):
    monkeypatch.setattr(torch_ops, "torch_version", lambda: None)
    with pytest.raises(ArgumentError, match="PyTorch is not installed"):
        plan([wrong_kernel()], vs=("torch",))


TORCH_CASES = [
    (op, c)
    for op in trials.every_op()
    if op.name in torch_ops._TORCH
    for c in op.cases
    if not c.bench
    and c.name
    in (
        "ragged",
        "strided",
        "grouped",
        "dilated",
        "halves",
        "overlapping",
        "relu",
        "tanh",
        "gelu",
        "sigmoid",
        "digits",
        "dense",
        "tiles",
        "tiles_grad_input",
    )
]


@pytest.mark.parametrize(("op", "c"), TORCH_CASES, ids=[f"{o.name}-{c.name}" for o, c in TORCH_CASES])
def test_pytorch_computes_the_same_op(op, c):
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    operands = [d.sample(rng) for d in c.operands]
    call = torch_ops.torch_call(op, operands, c.params, "float32")
    assert call is not None
    assert benchmark._rival_fault(op, c, operands, torch_ops.as_numpy(call())) is None


def test_what_pytorch_cannot_do_has_no_row():
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for op, name in ((conv2d, "asymmetric_same"), (batchnorm, "ragged")):
        c = case(op, name)
        operands = [None if d is None else d.sample(rng) for d in c.operands]
        assert torch_ops.torch_call(op, operands, c.params, "float32") is None


def test_a_rival_that_differs_gets_no_time():
    c = case(matmul, "ragged")
    operands = [d.sample(np.random.default_rng(0)) for d in c.operands]
    right = matmul.reference(*operands, **c.params)
    assert benchmark._rival_fault(matmul, c, operands, (right,)) is None
    assert benchmark._rival_fault(matmul, c, operands, (right * np.nan,)) is not None
    assert benchmark._rival_fault(matmul, c, operands, (right[:1],)) is not None


def test_times_of_an_emulated_gpu_are_not_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "running", lambda: True)
    checked = row(hot=None, cold=None, note="agrees with its definition")
    records.save(tmp_path / "checks.json", [checked, row(device="cpu")])
    for timed in (row(), row(hot=None)):
        with pytest.raises(KernelError, match="the GPU is emulated and its times mean nothing: run this on a GPU"):
            records.save(tmp_path / "times.json", [checked, timed])
    assert not (tmp_path / "times.json").exists()


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ({"hot": 101.0, "hot_low": 96.0, "hot_high": 106.0}, "SAME"),
        ({"hot": 50.0, "hot_low": 49.0, "hot_high": 51.0}, "FASTER"),
        ({"hot": 150.0, "hot_low": 149.0, "hot_high": 151.0}, "SLOWER"),
        ({"hot": 110.0, "hot_low": 100.0, "hot_high": 120.0}, "UNSURE"),
    ],
)
def test_records_are_compared_by_their_spread(new, verdict):
    (change,) = records.compare([row()], [row(**new)])
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(100.0 / new["hot"])


def test_rows_without_a_partner_are_not_compared():
    assert records.compare([row()], [row(case="other"), row(hot=None)]) == []


def test_a_record_comes_back_as_it_was(tmp_path):
    records.save(tmp_path / "r.json", [row(device="cpu"), row(device="cpu", hot=None, note="x")])
    assert records.load(tmp_path / "r.json") == [row(device="cpu"), row(device="cpu", hot=None, note="x")]
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["versions"]["numpy"] == np.__version__
    assert set(record) == {"device", "versions", "commit", "date", "rows"}


def test_a_file_that_is_not_a_record_is_named(tmp_path):
    (tmp_path / "r.json").write_text('{"rows": [{"op": 1}]}')
    with pytest.raises(FileError, match="is not a record of gpucnn bench"):
        records.load(tmp_path / "r.json")


def test_profiling_launches_each_kernel_once():
    count = []
    kernel = Kernel(matmul, "counted", "numpy", "matmul/counted_numpy", lambda *_, **__: count.append(1))
    assert benchmark.profile(plan([kernel])) == ["matmul/counted_numpy ragged on cpu"]
    assert count == [1]


def test_timing_stops_when_it_is_precise_or_out_of_time():
    effort = timing.Effort(min_samples=5, min_time=0.0, max_noise=1e9)
    assert timing.measure(lambda: None, effort).hot.samples == 5
    effort = timing.Effort(min_samples=5, min_time=0.0, max_noise=0.0, timeout=0.02)
    ticking = iter(range(10**9))
    assert timing._collect(lambda: 1.0 + next(ticking) % 2, effort).samples > 5


def test_workspace_and_in_place_ops_are_timed_too():
    from gpucnn.ops.update import sgd

    with gpucnn.using("auto", device="cpu"):
        measured = list(benchmark.rows(plan(list(sgd.kernels(("njit",)).values()))))
    assert measured[0].hot


def test_case_without_kernel_support_is_left_out():
    def supports(*_, **__):
        return False

    kernel = Kernel(matmul, "none", "numpy", "matmul/none_numpy", lambda *_: None, supports)
    with pytest.raises(ArgumentError, match="takes the case ragged"):
        plan([kernel]).tasks()
    assert isinstance(case(matmul, "ragged"), Case)
