"""The notebooks run from top to bottom, reach what they say, and are handed out by the command."""

import re

import needs
import pytest
from command import gpucnn
from places import ROOT

from gpucnn.runs.notebooks import FOLDER

NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
IN_THE_EMULATOR = {"2_from_convolution_to_kernel", "3_your_own_kernel"}


def content(name):
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def printed(notebook):
    """What the cells printed, and the text of their values."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
            texts += ["(picture)"] * ("image/png" in output.get("data", {}))
    return "\n".join(texts)


@pytest.fixture
def executed(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(name):
        notebook = content(name)
        client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
        return notebook

    return run


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_committed_without_outputs_and_are_short(name):
    notebook = content(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 10_000
    assert notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        assert all(len(line) <= 120 for line in cell.source.splitlines())


@pytest.mark.parametrize(("name", "pictures"), [("1_first_cnn", 4), ("4_signals_in_1d", 3), ("5_volumes_in_3d", 3)])
def test_classifiers_are_right_about_95_percent_and_their_pictures_are_shown(executed, name, pictures):
    text = printed(executed(name))
    assert float(re.search(r"([\d.]+)% of the test \w+ are right", text)[1]) >= 95
    assert text.count("(picture)") == pictures


def test_the_angle_is_found_within_four_degrees(executed):
    text = printed(executed("6_regression_of_an_angle"))
    error, guess = map(float, re.search(r"mean error: ([\d.]+) degrees; .*: ([\d.]+) degrees", text).groups())
    assert text.count("(picture)") == 2
    assert error <= 4 and 21 < guess < 24  # guessing 0 of -45 … 45 is wrong by 22.5 on average


@needs.emulator_here
@needs.numba_cuda_here
def test_the_notebooks_on_kernels_show_what_they_say(executed):
    first = printed(executed("2_from_convolution_to_kernel"))
    assert all("[[4., 3., 4.]" in half for half in first.split("def conv2d_direct"))
    assert first.count("(picture)") == 2  # classic filters; padding, strides, dilation and pooling
    second = printed(executed("3_your_own_kernel"))
    assert "8 cases agree" in second
    assert re.search(r"outside of every array.*wrong_numba.py:\d+", second)
    assert float(second.splitlines()[-1]) < 1e-5


def test_the_command_copies_them_and_keeps_what_the_user_changed(tmp_path):
    result = gpucnn("notebooks", tmp_path / "nb")
    assert result.exit_code == 0
    assert [line.rpartition("/")[2] for line in result.stdout.splitlines()] == [f"{name}.ipynb" for name in NAMES]
    changed = tmp_path / "nb" / f"{NAMES[0]}.ipynb"
    changed.write_text("mine")
    again = gpucnn("notebooks", tmp_path / "nb")
    assert again.exit_code == 0 and again.stderr.count("is kept as it is") == 1
    assert changed.read_text() == "mine"
    (tmp_path / "file").write_text("")
    refused = gpucnn("notebooks", tmp_path / "file")
    assert refused.exit_code == 1 and "cannot make" in refused.stderr
