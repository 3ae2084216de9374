"""What a shell sees of the kernels: kernels list and show, check, bench."""

import csv
import io
import json

import needs
import pytest
from click.testing import CliRunner

from gpucnn.cli import main
from gpucnn.dispatch import op as op_module
from gpucnn.profiling import static_analysis

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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kernels", "show", "matmul/x"), "there is no kernel 'matmul/x': this family has matmul/blas_numpy"),
        (("kernels", "show", "x/y"), "`gpucnn kernels list` shows all"),
        (("kernels", "list", "nothing"), "no kernel matches 'nothing'"),
        (("kernels", "list", "bias", "--arch", "sm_12"), "--arch sm_12 is unknown: use one of sm_75"),
        (("check", "nothing"), "no kernel matches 'nothing'"),
        (("check", "matmul/blas", "--device", "emulator"), "none of these 1 kernels has such a case on emulator"),
        (("check", "--load", "missing.py"), "missing.py is not a Python file"),
        (("check", "matmul", "--device", "tpu"), "device='tpu' is unknown"),
        (("bench", "matmul", "--case", "slides_dens_1"), "did you mean slides_dense_1"),
        (("bench", "matmul", "--axis", "batch"), "--axis 'batch' must be NAME=A,B"),
        (("bench", "matmul", "--axis", "batch=0"), "must be NAME=A,B with numbers from 1"),
        (("bench", "matmul", "--axis", "depth=2"), "--axis depth: use one of batch"),
        (("bench", "matmul", "--backend", "cobol"), "--backend cobol is unknown"),
        (("bench", "matmul", "--vs", "jax"), "--vs jax: use one of numpy, torch, cublas"),
        (("bench", "matmul", "--precision", "int8"), "--precision int8: use one of float32"),
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
    assert set(result["trials"][0]) == {"kernel", "op", "case", "device", "mode", "seconds", "fault"}
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


@needs.emulator_here
def test_a_kernel_that_does_not_compile_is_wrong_and_not_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "gpucnn.dispatch.op._kernels", {op: dict(kernels) for op, kernels in op_module._kernels.items()}
    )
    (tmp_path / "typo.cu").write_text('extern "C" __global__ void typo(float* y) { y[0] = nothing; }')
    (tmp_path / "typo.py").write_text(
        "from gpucnn import cuda_function, kernel\nfrom gpucnn.ops.bias import bias\n"
        "typo = cuda_function(__file__, 'typo')\n\n@kernel(bias, 'typo', 'cuda')\n"
        "def launch(y, x, b):\n    typo[1, 1](y)\n"
    )
    done = gpucnn("check", "--load", tmp_path / "typo.py")
    assert done.exit_code == 1
    assert "'nothing' was not declared" in done.stdout.replace("‘", "'").replace("’", "'")
    assert "checks of 1 kernel" in done.stdout
