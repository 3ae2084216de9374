"""What a shell sees of the kernels: kernels list and show, check, bench."""

import csv
import io
import json

import needs
import pytest
from click.testing import CliRunner

from gpucnn.cli import main
from gpucnn.dispatch import op as op_module
from gpucnn.profiling import catalogue, static_analysis

pytestmark = pytest.mark.xdist_group("cli-kernels")

WRONG = """
from gpucnn import kernel
from gpucnn.ops.matmul import matmul

@kernel(matmul, "wrong", "numpy")
def launch(y, a, b, *, transpose_a, transpose_b):
    y[...] = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    y[0, 0] += 1
"""
QUICK = ("--min-samples", "2", "--min-time", "0", "--max-noise", "1e9")


def gpucnn(*arguments):
    """The command in this process: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="gpucnn")


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """The file of a wrong kernel; what a test loads is forgotten after it."""
    monkeypatch.setattr(
        "gpucnn.dispatch.op._kernels", {op: dict(kernels) for op, kernels in op_module._kernels.items()}
    )
    path = tmp_path / "wrong_numpy.py"
    path.write_text(WRONG)
    return path


def test_list_says_where_each_kernel_runs():
    done = gpucnn("kernels", "list", "matmul", "--arch", "none", "--json")
    rows = {row["id"]: row for row in json.loads(done.stdout)["kernels"]}
    assert {"matmul/blas_numpy", "matmul/naive_numba", "matmul/naive_cuda", "matmul/cublas_cuda"} <= set(rows)
    assert rows["matmul/blas_numpy"]["runs"] == "cpu"
    assert rows["matmul/naive_cuda"]["runs"] in ("gpu", "emulator", None)
    assert rows["matmul/naive_cuda"]["language"] == "CUDA C++"
    assert rows["matmul/naive_cuda"]["idea"].startswith("Naive matmul: one thread per output value")
    assert set(rows["matmul/naive_cuda"]) == {
        *("id", "op", "algorithm", "backend", "language", "needs", "runs", "why_not", "idea", "figures"),
    }


def test_list_of_a_backend_has_its_kernels_alone_and_names_the_ops_without_one():
    done = gpucnn("kernels", "list", "--backend", "njit", "--arch", "none", "--json")
    listed = json.loads(done.stdout)
    ops = {row["op"] for row in listed["kernels"]}
    assert {row["backend"] for row in listed["kernels"]} == {"njit"}
    assert {"activation", "softmax_grad", "avgpool2d", "bias", "huber", "nadam", "max_norm"} <= ops
    # the CPU has a product and its parts, and picks values by their cells
    gaps = {gap["op"]: gap["instead"] for gap in listed["gaps"]}
    assert gaps == {
        "conv2d_bias_activation_dropout": "fused/few_channels_numpy",
        "conv2d_bias_activation_grad_weight": "fused/few_channels_numpy",
        "conv2d_maxpool_grad_sums": "fused/rows_numpy",
        "dense_softmax_cross_entropy": "dense/blas_numpy",
        "dense_grad": "dense/blas_numpy",
        "matmul_bias_activation_dropout": "fused/few_channels_numpy",
    }
    assert ops | gaps.keys() == set(op_module.declared())
    done = gpucnn("kernels", "list", "softmax", "--backend", "njit", "--arch", "none")
    assert "  dense_grad: dense/blas_numpy computes it. Both ops of a dense layer by the definition" in done.stdout
    assert "rows_cuda" not in done.stdout


@needs.compilers_here
def test_list_reports_what_the_compiler_says():
    done = gpucnn("kernels", "list", "matmul/naive_cuda", "--json")
    (row,) = json.loads(done.stdout)["kernels"]
    (row,) = row["figures"]
    assert row["arch"] == "sm_90" and row["function"] == "matmul_naive"
    assert 0 < row["registers"] < 256 and row["spill_bytes"] == 0
    assert row["blocks"] * row["threads"] >= 512 * 512
    done = gpucnn("kernels", "list", "matmul/naive_cuda", "--arch", "sm_80")
    assert "matmul/naive_cuda" in done.stdout and "regs" in done.stdout


def test_without_compilers_the_list_says_why(monkeypatch):
    monkeypatch.setattr(static_analysis, "unavailable", lambda: "NVRTC is not here")
    done = gpucnn("kernels", "list", "matmul/naive_cuda")
    assert done.exit_code == 0
    assert "no compiler figures: NVRTC is not here" in done.stderr


def test_show_prints_the_source_with_its_idea_on_top():
    done = gpucnn("kernels", "show", "matmul/naive_cuda", "--arch", "none")
    assert done.stdout.index("Naive matmul") < done.stdout.index("@kernel") < done.stdout.index("__global__")
    sources = json.loads(gpucnn("kernels", "show", "matmul/naive_cuda", "--arch", "none", "--json").stdout)
    assert [file["name"] for file in sources["files"]] == ["naive_cuda.py", "naive_cuda.cu"]
    assert sources["ops"] == ["matmul"]


def test_show_prints_the_source_at_once_and_what_takes_time_after_it_with_progress(monkeypatch):
    """Compiling for all large cases takes up to minutes."""

    def figures(ident, arch, progress):
        progress(0, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(static_analysis, "unavailable", lambda: None)
    monkeypatch.setattr(catalogue, "figures", figures)
    done = gpucnn("kernels", "show", "matmul/naive_cuda")
    assert done.exit_code == 130
    assert "Naive matmul" in done.stdout and "__global__" in done.stdout
    assert "compiling for the figures" in done.stderr
    done = gpucnn("kernels", "show", "matmul/naive_cuda", "--arch", "sm_12")
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.skipif(static_analysis.unavailable() is not None, reason=str(static_analysis.unavailable()))
@needs.emulator_here
def test_show_prints_figures_and_traffic_after_the_source():
    done = gpucnn("kernels", "show", "bias/rows_cuda")
    assert done.exit_code == 0
    order = ["rows_cuda.py", "rows_cuda.cu", "op", "regs", "op", "sectors"]
    places = [done.stdout.index(order[0])]
    for words in order[1:]:
        places.append(done.stdout.index(words, places[-1]))
    assert "counting the memory traffic" in done.stderr
    document = json.loads(gpucnn("kernels", "show", "bias/rows_cuda", "--json").stdout)
    assert list(document) == ["id", "ops", "files", "figures", "traffic"]
    assert {row["op"] for row in document["figures"]} == {"bias", "bias_grad"}
    assert {row["op"] for row in document["traffic"]} == {"bias", "bias_grad"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("kernels", "show", "matmul/x"),
            "there is no kernel 'matmul/x': this family has matmul/blas_njit, matmul/blas_numpy",
        ),
        (
            ("kernels", "show", "matmul/warptile_cuda"),
            "there is no kernel 'matmul/warptile_cuda': did you mean 'matmul/wa",
        ),
        (("kernels", "list", "mtmul"), "no kernel matches 'mtmul': did you mean 'matmul"),
        (("kernels", "show", "x/y"), "`gpucnn kernels list` shows all"),
        (("kernels", "list", "nothing"), "no kernel matches 'nothing'"),
        (("kernels", "list", "bias", "--arch", "sm_12"), "--arch sm_12 is unknown: use one of sm_75"),
        (("check", "nothing"), "no kernel matches 'nothing'"),
        (("check", "matmul/blas", "--device", "emulator"), "none of these 2 kernels has such a case on emulator"),
        (("check", "--load", "missing.py"), "missing.py is not a Python file"),
        (("check", "matmul", "--device", "tpu"), "device='tpu' is unknown"),
        (("bench", "matmul", "--case", "slides_dens_1"), "did you mean 'slides_dense_1'"),
        (("bench", "matmul", "--axis", "batch"), "--axis 'batch' must be NAME=A,B"),
        (("bench", "matmul", "--axis", "batch=0"), "must be NAME=A,B with numbers from 1"),
        (("bench", "matmul", "--axis", "depth=2"), "--axis depth: use one of batch"),
        (("bench", "matmul", "--backend", "cobol"), "--backend cobol is unknown"),
        (("bench", "matmul", "--vs", "jax"), "--vs jax: use one of numpy, torch, cublas"),
        (("bench", "matmul", "--precision", "int8"), "'int8' is not one of 'float32', 'tf32', 'bfloat16'"),
        (("bench", "matmul", "--compare", "missing.json"), "missing.json"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments, words):
    done = gpucnn(*arguments)
    assert done.exit_code in (1, 2)
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@needs.emulator_here
def test_check_prints_a_line_for_each_case_and_a_count():
    done = gpucnn("check", "matmul/naive_cuda", "--mode", "check")
    assert done.exit_code == 0
    *lines, last = done.stdout.splitlines()
    assert all(line.endswith("emulator check  ok") for line in lines)
    assert last == f"{len(lines)} checks of 1 kernel: 0 wrong"


def test_check_ends_with_1_for_a_wrong_kernel(wrong):
    done = gpucnn("check", "--load", wrong, "--json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["failed"] == len(result["trials"]) and result["kernels"] == 1
    assert "output 0[0, 0] is" in result["trials"][0]["fault"]
    assert set(result["trials"][0]) == {"kernel", "op", "case", "device", "mode", "seconds", "fault", "not_compiled"}
    assert "WRONG" in gpucnn("check", "--load", wrong).stdout


def test_bench_writes_a_record_and_compares(tmp_path):
    path = tmp_path / "record.json"
    base = ("bench", "matmul", "--backend", "numpy", "--case", "ragged", *QUICK)
    done = gpucnn(*base, "--json", path)
    assert done.exit_code == 0, done.stderr
    assert "matmul/blas_numpy" in done.stdout
    record = json.loads(path.read_text())
    assert [row["kernel"] for row in record["rows"]] == ["matmul/blas_numpy"]
    done = gpucnn(*base, "--compare", path)
    assert done.exit_code in (0, 1)
    assert any(verdict in done.stdout for verdict in ("SAME", "FASTER", "SLOWER", "UNSURE"))
    record["rows"][0].update(hot=1e-6, hot_low=1e-6, hot_high=1e-6)
    path.write_text(json.dumps(record))
    done = gpucnn(*base, "--compare", path)
    assert (done.exit_code, "SLOWER" in done.stdout) == (1, True)
    record["rows"][0]["case"] = "other"
    path.write_text(json.dumps(record))
    assert "no row in common" in gpucnn(*base, "--compare", path).stderr


def test_bench_speaks_json_csv_and_markdown():
    base = ("bench", "matmul", "--backend", "numpy", "--case", "ragged", *QUICK)
    rows = json.loads(gpucnn(*base, "-q", "--json", "-").stdout)["rows"]
    assert rows[0]["op"] == "matmul" and rows[0]["hot"] > 0
    (row,) = csv.DictReader(io.StringIO(gpucnn(*base, "-q", "--csv", "-").stdout))
    assert row["kernel"] == "matmul/blas_numpy"
    assert gpucnn(*base, "--md").stdout.splitlines()[1].startswith("| --- |")


def test_bench_sweeps_the_batch_and_compares_with_the_definition():
    done = gpucnn(
        "bench", "conv2d", "--backend", "njit", "--case", "ragged", "-a", "batch=1,2", "--vs", "numpy", *QUICK
    )
    assert done.exit_code == 0, done.stderr
    for words in ("ragged@1", "ragged@2", "numpy (the definition)", "conv2d/implicit_gemm_njit"):
        assert words in done.stdout


def test_bench_refuses_a_wrong_kernel(wrong):
    done = gpucnn("bench", "--load", wrong, "--case", "ragged", *QUICK)
    assert done.exit_code == 1
    assert "WRONG, so not timed" in done.stdout
    assert "matmul/blas_numpy" in done.stdout, "gpucnn's kernels stand next to a user's"


def test_bench_lists_checks_and_profiles():
    assert "slides_dense_1" in gpucnn("bench", "matmul", "--list").stdout
    base = ("bench", "matmul", "--backend", "numpy", "--case", "ragged")
    assert "agrees with its definition" in gpucnn(*base, "--check-only").stdout
    assert gpucnn(*base, "--profile").stdout == "matmul/blas_numpy ragged on cpu\n"


def test_kernels_for_gpus_get_no_time_from_the_emulator(monkeypatch):
    from gpucnn.devices import choose

    monkeypatch.setattr(choose, "gpu_state", lambda: (0, "none"))
    done = gpucnn("bench", "matmul/naive_cuda", "--case", "ragged")
    assert done.exit_code == 0
    assert "not timed: no GPU here" in done.stdout


def test_what_cannot_run_is_left_out_with_the_reason(monkeypatch):
    from gpucnn.profiling import trials

    monkeypatch.setattr(trials, "missing", lambda backend, where: "no compiler" if backend == "cuda" else None)
    done = gpucnn("check", "matmul/naive", "--json")
    assert "cuda kernels are not checked: no compiler" in done.stderr
    assert {row["kernel"] for row in json.loads(done.stdout)["trials"]} == {"matmul/naive_numba"}
    done = gpucnn("check", "matmul/naive_cuda")
    assert done.exit_code == 1 and "nothing can be checked on this machine" in done.stderr


CANNOT_BE_COMPILED = "cannot be compiled here: "
IN_CUDA = """
from gpucnn import cuda_function, kernel
from gpucnn.ops.bias import bias

typo = cuda_function(__file__, "typo")


@kernel(bias, "typo", "cuda")
def launch(y, x, b):
    typo[1, 1](y)
"""
FOR_ONE_SHAPE = """
from gpucnn import kernel
from gpucnn.ops.bias import bias


@njit
def add(y, x, b):
    for i in range(x.size):
        y.flat[i] = x.flat[i] + b[i % b.size]
    if y.ndim == 2:
        y[0, 0] = "text"


@kernel(bias, "typo", "njit")
def launch(y, x, b):
    add(y, x, b)
"""


@pytest.fixture
def forgotten(monkeypatch):
    """Kernels that a test loads are forgotten after it."""
    monkeypatch.setattr(
        "gpucnn.dispatch.op._kernels", {op: dict(kernels) for op, kernels in op_module._kernels.items()}
    )


@needs.emulator_here
def test_a_kernel_that_cannot_be_compiled_is_neither_right_nor_wrong(tmp_path, forgotten):
    (tmp_path / "typo.cu").write_text('extern "C" __global__ void typo(float* y) { y[0] = nothing; }')
    (tmp_path / "typo.py").write_text(IN_CUDA)
    done = gpucnn("check", "--load", tmp_path / "typo.py")
    assert done.exit_code == 3
    assert CANNOT_BE_COMPILED in done.stdout
    assert "'nothing' was not declared" in done.stdout.replace("‘", "'").replace("’", "'")
    assert "WRONG" not in done.stdout
    count = len(done.stdout.splitlines()) - 1
    assert done.stdout.splitlines()[-1].endswith(f"checks of 1 kernel: 0 wrong, {count} could not be compiled")


@pytest.mark.parametrize(
    "importing", ["from numba import njit", "from gpucnn.devices.njit import njit as jit; njit = jit()"]
)
def test_a_kernel_that_cannot_be_compiled_for_one_shape_is_checked_on_the_others(tmp_path, forgotten, importing):
    (tmp_path / "typo.py").write_text(f"{importing}\n{FOR_ONE_SHAPE}")
    done = gpucnn("check", "--load", tmp_path / "typo.py", "--json")
    assert done.exit_code == 3
    result = json.loads(done.stdout)
    assert result["failed"] == 0
    assert 0 < result["not_compiled"] < len(result["trials"])
    for row in result["trials"]:
        assert row["fault"] is None
        if row["not_compiled"]:
            assert row["not_compiled"].startswith(f"bias/typo {CANNOT_BE_COMPILED}")
            assert "\n" not in row["not_compiled"]
    (tmp_path / "typo.py").write_text(f"{importing}\n{FOR_ONE_SHAPE.replace('b[i % b.size]', '1')}")
    assert gpucnn("check", "--load", tmp_path / "typo.py").exit_code == 1, "what is wrong comes first"


def test_an_error_of_a_launch_function_is_a_fault_with_its_place(tmp_path, forgotten):
    (tmp_path / "odd.py").write_text(
        "from gpucnn import kernel\nfrom gpucnn.ops.bias import bias\n\n"
        "@kernel(bias, 'odd', 'numpy')\ndef launch(y, x, b):\n    y[...] = x + b.nothing\n"
    )
    done = gpucnn("check", "--load", tmp_path / "odd.py")
    assert done.exit_code == 1
    assert "AttributeError: 'numpy.ndarray' object has no attribute 'nothing' (odd.py:6)" in done.stdout


def test_training_with_a_kernel_that_cannot_be_compiled_ends_in_one_line(tmp_path, forgotten):
    (tmp_path / "typo.py").write_text(f"from numba import njit\n{FOR_ONE_SHAPE}")
    options = ("--model", "slides", "--epochs", 1, "--no-pictures", "--out", tmp_path / "run")
    done = gpucnn("train", "--load", tmp_path / "typo.py", "--algorithm", "bias=typo", *options)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"gpucnn: error: bias/typo {CANNOT_BE_COMPILED}")


def test_bench_does_not_call_it_wrong(tmp_path, forgotten):
    (tmp_path / "typo.py").write_text(f"from numba import njit\n{FOR_ONE_SHAPE}")
    done = gpucnn("bench", "--load", tmp_path / "typo.py", "--case", "ragged,one_channel", *QUICK)
    assert "WRONG" not in done.stdout


def needs_machine_code(test):
    from gpucnn.profiling import compilers

    missing = compilers.disassembler() is None
    return needs.compilers_here(pytest.mark.skipif(missing, reason="nvdisasm is not installed")(test))


@needs_machine_code
def test_a_predicted_step_says_that_it_is_predicted_and_how_well():
    done = gpucnn("bench", "train", "--model", "slides", "--predict", "h100")
    assert done.exit_code == 0
    assert "predicted µs" in done.stdout and "bound by" in done.stdout
    assert "slides, batch 128, float32, on NVIDIA H100 SXM 80 GB: " in done.stdout
    assert "predicted, ± 25%: " in done.stdout
    assert "measured" not in done.stdout


@needs_machine_code
def test_a_predicted_step_as_json():
    done = gpucnn("bench", "train", "--model", "slides", "--predict", "t4", "--json")
    shown = json.loads(done.stdout)
    (one,) = shown["steps"]
    assert shown["card"]["multiprocessors"] == 40
    assert one["predicted_us_per_step"] > 100 and one["tolerance"] == 0.6
    assert one["nodes"] == len(one["kernels"])
    assert sum(kernel["bytes"] for kernel in one["kernels"]) == one["bytes"]


@needs_machine_code
def test_the_plan_of_a_model_on_a_card():
    done = gpucnn("kernels", "plan", "slides", "--card", "t4")
    assert done.exit_code == 0
    assert "pooled_gemm: tiles of 32×32, slabs of 32" in done.stdout
    assert "why: tensor does not serve it" in done.stdout
    assert "predicted, ± 60%: " in done.stdout
    assert done.stdout.rstrip().endswith("all times are predicted, none is measured")
    rows = json.loads(gpucnn("kernels", "plan", "slides", "--card", "t4", "--json").stdout)["ops"]
    assert max(len(line) for line in done.stdout.splitlines()) <= 110
    assert len(rows) == sum(line.startswith("    why: ") for line in done.stdout.splitlines())


@needs_machine_code
def test_kernels_are_predicted_on_their_cases_for_a_card():
    arguments = ("bench", "matmul/naive", "--backend", "cuda", "--case", "cifar_dense_1", "--predict", "h100")
    done = gpucnn(*arguments)
    assert done.exit_code == 0
    assert "predicted for NVIDIA H100" in done.stdout and "measured" not in done.stdout
    (row,) = json.loads(gpucnn(*arguments, "--json", "-").stdout)["rows"]
    assert row["kernel"] == "matmul/naive_cuda"
    assert row["predicted_us"] > 2 * 512 * 7200 * 512 / 67e6  # the peak of an H100
    assert gpucnn(*arguments, "--json", "record.json").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bench", "train", "--predict", "t5"], "card 't5' is unknown: use one of h100, "),
        (["bench", "train", "--predict", "t4", "--vs", "torch"], "--predict predicts and --vs measures: give one"),
        (["bench", "train", "--vs", "torhc"], "--vs torhc is unknown: did you mean 'torch'?"),
        (["bench", "train", "--device", "emulator"], "--device emulator is not timed: use cpu or gpu"),
        (
            ["bench", "train", "--kernels", "--vs", "torch"],
            "--kernels times the kernels of gpucnn's own step: leave out",
        ),
        (["bench", "train", "--kernels", "--device", "gpu"], "--kernels with --device gpu: use cpu, or a profiler"),
        (["kernels", "plan", "slides", "--card", "rtx3061"], "card 'rtx3061' is unknown: did you mean 'rtx3060'?"),
    ],
)
def test_what_cannot_be_predicted_or_measured_is_refused_at_once(arguments, sentence):
    done = gpucnn(*arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not done.stdout


def test_a_step_is_measured_on_the_cpu():
    done = gpucnn("bench", "train", "--model", "slides", "--device", "cpu", "--seconds", "0", "--json")
    record = json.loads(done.stdout)
    (row,) = record["rows"]
    assert (row["model"], row["contender"], row["device"], row["variant"]) == ("slides", "gpucnn", "cpu", "njit")
    assert row["milliseconds"] > 0 and row["ratio"] == 1
    assert {"device", "versions", "commit", "date"} <= record.keys()


def test_the_kernels_of_a_step_are_timed_on_the_cpu():
    done = gpucnn("bench", "train", "--model", "slides", "--kernels", "--seconds", "0", "--json")
    (profile,) = json.loads(done.stdout)["models"]
    kernels, first = profile["kernels"], profile["kernels"][0]
    assert (profile["model"], profile["batch_size"], profile["optimizer"]) == ("slides", 128, "sgd")
    assert (first["op"], first["operand"]) == ("conv2d_bias_activation_maxpool", [128, 28, 28, 1])
    assert first["result"] == [128, 12, 12, 10] and first["flops"] == 2 * 128 * 24 * 24 * 25 * 10
    assert kernels[-1]["op"] == "sgd"
    assert all(one["low"] <= one["microseconds"] <= one["high"] for one in kernels)
    assert sum(one["share"] for one in kernels) == pytest.approx(1)


def test_the_kernels_of_a_step_that_is_not_recorded_are_not_timed():
    done = gpucnn("bench", "train", "--model", "slides", "--kernels", "--backend", "numpy", "--seconds", "0")
    assert done.exit_code == 1
    assert "the step is not recorded: that takes the CPU, the backend njit" in done.stderr


def test_the_times_of_kernels_as_a_table():
    done = gpucnn("bench", "train", "--model", "slides", "--kernels", "--seconds", "0")
    assert done.exit_code == 0
    assert "GFLOP/s" in done.stdout and "128×28×28×1" in done.stdout
    assert "slides, batch 128, sgd, threads: " in done.stdout and "; medians of 10 steps" in done.stdout


def test_bench_without_train_is_still_about_kernels():
    assert "--min-samples" in gpucnn("bench", "--help").stdout
    assert "--predict" in gpucnn("bench", "train", "--help").stdout
