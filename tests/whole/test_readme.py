"""What the README shows works as shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpucnn import emulator, figures, resources, trials

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHELL = [
    line.split("#")[0].split()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)


def test_training_in_python_reaches_what_the_model_can(tmp_path):
    code = next(block for block in PYTHON if "datasets.digits" in block)
    assert len(code.strip().splitlines()) <= 13
    done = run(code.replace("epochs=15", "epochs=4, verbose=0"), tmp_path)
    assert done.returncode == 0, done.stderr
    loss, accuracy = map(float, re.search(r"\[([\d.]+), ([\d.]+)\]", done.stdout).groups())
    assert accuracy >= 0.8 and loss < 1


def test_own_layer_loss_and_metric_train(tmp_path):
    code = next(block for block in PYTHON if "class Scale" in block)
    code += "\n(x, y), _ = gpucnn.datasets.digits.load_data(size=8)"
    code += "\nprint(model.fit(x[..., None] / 255, y, epochs=20, verbose=0).history['hits'][-1])"
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0.8


CUDA = re.findall(r"```cuda\n(.*?)```", TEXT, re.DOTALL)
in_emulator = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


def gpucnn(*arguments, **settings):
    command = [sys.executable, "-m", "gpucnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})


def own(folder, damage=lambda text: text):
    """The kernels of one's own, as files: numba.cuda, and CUDA C++ with its three lines."""
    (source,) = CUDA
    (folder / "mine_numba.py").write_text(damage(next(block for block in PYTHON if "def convolve" in block)))
    (folder / "mine.py").write_text(next(block for block in PYTHON if "cuda_function" in block))
    (folder / "mine.cu").write_text(damage(source))


@in_emulator
@pytest.mark.parametrize("file", ["mine_numba.py", "mine.py"])
def test_own_kernels_pass_the_check_and_stand_beside_ours(tmp_path, file):
    own(tmp_path)
    done = gpucnn("check", "--load", tmp_path / file, "--mode", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 1 kernel: 0 wrong" in done.stdout
    done = gpucnn("bench", "--load", tmp_path / file, "--case", "slides_1", "--list")
    assert f"/{file.removesuffix('.py')}, " in done.stdout


@in_emulator
def test_an_own_kernel_trains(tmp_path):
    own(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}_{half}": rng.integers(0, 4, (8, 20, 20) if name == "x" else 8)
        for name in "xy"
        for half in ("train", "test")
    }
    np.savez(tmp_path / "own.npz", **{n: a.astype("uint8") for n, a in arrays.items()})
    options = next(line for line in SHELL if "conv2d=mine" in line)[2:]
    options = [tmp_path / word if word == "mine_numba.py" else word for word in options]
    more = ["--data", tmp_path / "own.npz", "--model", "slides", "--no-pictures", "--out", tmp_path / "run"]
    done = gpucnn("train", *options, *more, GPUCNN_DEBUG="2")
    assert done.returncode == 0, done.stderr
    assert "mine_numba convolve: float32" in done.stderr


@in_emulator
def test_faults_of_own_kernels_are_named_with_their_line(tmp_path):
    own(tmp_path, lambda text: text.replace("i < size", "i <= size").replace("i >= y.size", "i > y.size"))
    done = gpucnn("check", "--load", tmp_path / "mine.py", "--mode", "check")
    assert done.returncode == 1
    told = re.search(r"says: `add: (.*?)\(…\) \(mine.cu:4\)`", " ".join(TEXT.split()))[1]
    assert f"add: {told}" in done.stdout and "(mine.cu:4)" in done.stdout
    done = gpucnn("check", "--load", tmp_path / "mine_numba.py", "--mode", "check")
    assert done.returncode == 1
    assert re.search(r"outside of every array.*\(mine_numba.py:\d+\)", done.stdout)


@in_emulator
def test_the_check_in_python_finds_what_the_command_finds(tmp_path):
    checking = next(block for block in PYTHON if "check.disagreement" in block)
    own(tmp_path)
    assert run(checking, tmp_path).returncode == 0
    own(tmp_path, lambda text: text.replace("x[i] + b", "x[i] - b"))
    assert "AssertionError" in run(checking, tmp_path).stderr


def test_the_ladder_of_the_readme_is_what_the_compilers_say():
    if figures.unavailable() or resources.disassembler() is None:
        pytest.skip("no compiler for GPUs here")
    rows = re.findall(r"^\| `(matmul|conv2d)/(\w+)` \|[^|]*\| (\S+) \| (\S+) \| (\d+) % \|$", TEXT, re.MULTILINE)
    assert len(rows) == 6
    for op, algorithm, by_global, by_shared, share in rows:
        (kernel,) = [k for k in trials.every_kernel(f"{op}/{algorithm}_cuda") if k.op.name == op]
        name = {"matmul": "cifar_dense_1", "conv2d": "mlearning_2"}[op]
        case = next(c for c in kernel.op.cases if c.name == name)
        told = figures.main_of(figures.of_kernel(kernel, case, "sm_90"))
        for said, found in ((by_global, told.flops_per_global_byte), (by_shared, told.flops_per_shared_byte)):
            assert found is None if said == "–" else found == pytest.approx(float(said), rel=0.15)
        assert told.ffma_share == pytest.approx(int(share) / 100, abs=0.05)


@pytest.mark.parametrize("words", [w for w in SHELL if w[:1] == ["gpucnn"]], ids=" ".join)
def test_commands_of_the_readme_know_their_options(words):
    done = subprocess.run([sys.executable, "-m", "gpucnn", words[1], "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in words:
        if word.startswith("--"):
            assert word in done.stdout, f"{' '.join(words)}: {word} is not in --help"


def test_targets_of_make_that_the_readme_names_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [words[1] for words in SHELL if words[:1] == ["make"]]
    assert named and set(named) <= set(targets)


def test_no_placeholder_is_left():
    assert "@@" not in TEXT
