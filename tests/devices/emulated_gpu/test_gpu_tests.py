"""The tests that need a GPU pass on the emulated one."""

import os
import re
import subprocess
import sys

import pytest
from places import ROOT

FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "tests").rglob("test_*.py")
    if "@pytest.mark." + "gpu\n" in path.read_text(encoding="utf-8")
)
PARTS = 3


def pytest_on_it(*flags, part="1/1", words=()):
    """How many tests for a GPU pass and fail in a process on the emulated GPU, and what it prints."""
    command = [sys.executable, "-m", "gpucnn", "emulate-gpu", *flags, "python", "-m", "pytest", "-m", "gpu"]
    command += ["-p", "no:cacheprovider", *words, *FILES]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    settings |= {"PYTHONPATH": str(ROOT), "GPUCNN_TEST_PART": part}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=settings)
    count = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout[-300:])}
    return count, done.stdout + done.stderr


@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_tests_for_a_gpu_pass_on_the_emulated_one(built, part):
    count, text = pytest_on_it(part=f"{part}/{PARTS}")
    assert set(count) == {"passed"} and count["passed"] > 20, text


def test_tests_for_a_gpu_pass_under_the_checker_with_lazy_streams(built):
    count, text = pytest_on_it("--check", "--lazy", "1", words=("-k", "naive or bias/ or activation/"))
    assert set(count) == {"passed"} and count["passed"] > 10, text
