"""What the README shows works as shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


def test_own_kernel_is_checked_and_used(tmp_path):
    kernel, checking = PYTHON[-2:]
    (tmp_path / "mine_njit.py").write_text(kernel)
    probe = "\nfrom gpucnn.ops.bias import bias\nimport numpy as np\nfrom gpucnn import registry\n"
    probe += "a = np.ones((2, 3), np.float32)\nprint(bias(a, a[0]).sum(), registry.asked())"
    done = run(checking + probe, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "12.0 {'bias': 'mine'}"


def test_a_wrong_kernel_of_ones_own_is_found(tmp_path):
    kernel, checking = PYTHON[-2:]
    (tmp_path / "mine_njit.py").write_text(kernel.replace("range(len(x))", "range(len(x) - 1)"))
    assert "AssertionError" in run(checking, tmp_path).stderr


@pytest.mark.parametrize("words", [w for w in SHELL if w[:1] == ["gpucnn"]], ids=" ".join)
def test_commands_of_the_readme_know_their_options(words):
    done = subprocess.run([sys.executable, "-m", "gpucnn", words[1], "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in words:
        if word.startswith("--"):
            assert word in done.stdout, f"{' '.join(words)}: {word} is not in --help"


def test_targets_of_make_that_the_readme_names_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [words[1] for words in SHELL if words[:1] == ["make"]]
    assert named and set(named) <= set(targets)


def test_no_placeholder_is_left():
    assert "@@" not in TEXT
