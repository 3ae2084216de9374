"""The commands export and import."""

import json
import sys

import numpy as np
import pytest
from command import gpucnn
from needs import h5py_here, onnx_here, onnxruntime_here, torch_here

import gpucnn as library


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was trained for one epoch on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    trained = gpucnn("train", "--model", "torres", "--epochs", 1, "--batch-size", 500, "--no-pictures", "--out", folder)
    assert trained.exit_code == 0, trained.stderr
    return folder


@onnx_here
@onnxruntime_here
@pytest.mark.parametrize("prepare", [False, True])
def test_export_prints_what_was_written_and_lines_that_run(run, tmp_path, prepare):
    path = tmp_path / "model.onnx"
    result = gpucnn("export", run, path, *["--prepare"] * prepare)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"written         {path}, ")
    values = "uint8 (N, 28, 28, 1): raw images of 0 … 255"
    assert lines[1].endswith(values if prepare else "float32 (N, 28, 28, 1): pixels of 0 … 255 divided by 255")
    assert lines[2].endswith("float32 (N, 10): 0, 1, 2, 3, 4, 5, 6, 7, 8, 9")
    images = library.datasets.digits.load_data()[1][0][:5, :, :, None]
    scope = {"x": images if prepare else np.float32(images) / 255}
    exec("import onnxruntime\n" + "\n".join(line[16:] for line in lines[3:]), scope)
    expected = library.load_run(run).model.predict(images / 255, verbose=0)
    np.testing.assert_allclose(scope["y"], expected, atol=1e-5, rtol=0)


@onnx_here
def test_export_in_json(run, tmp_path):
    path = tmp_path / "model.onnx"
    result = gpucnn("export", run / "model.safetensors", path, "--json")
    answer = json.loads(result.stdout)
    assert answer["file"] == str(path) and answer["bytes"] == path.stat().st_size
    assert answer["input"] == {"dtype": "float32", "shape": [None, 28, 28, 1]}
    assert answer["output"]["shape"] == [None, 10]
    assert answer["classes"] == list("0123456789")


def test_export_without_the_library_says_how_to_install_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = gpucnn("export", run, tmp_path / "model.onnx")
    assert result.exit_code == 2
    assert "ONNX files need the package onnx: pip install 'gpucnn[onnx]'" in result.stderr
    assert not (tmp_path / "model.onnx").exists()


def test_export_refuses_a_suffix_that_says_nothing(run, tmp_path):
    result = gpucnn("export", run, tmp_path / "model.pb")
    assert result.exit_code == 2
    assert "the suffix says the format" in result.stderr


@onnx_here
def test_import_writes_a_model_that_predicts_alike(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert gpucnn("export", run, "model.onnx").exit_code == 0
    result = gpucnn("import", "model.onnx")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].endswith("model.safetensors, 6 layers, 62,346 parameters")
    assert lines[1].endswith("float32 (N, 28, 28, 1)")
    assert gpucnn(*lines[3].split()[2:]).exit_code == 0
    x = library.datasets.digits.load_data()[1][0][:5, :, :, None] / np.float32(255)
    scope = {"gpucnn": library, "x": x}
    exec(lines[4][16:], scope)
    np.testing.assert_allclose(scope["y"], library.load_run(run).model.predict(x, verbose=0), atol=1e-6)
    assert library.models.load_model("model.safetensors").signature.classes == list("0123456789")


@onnx_here
def test_import_keeps_a_file_that_exists_and_names_the_suffixes(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert gpucnn("export", run, "model.onnx").exit_code == 0
    assert gpucnn("import", "model.onnx", "a.safetensors", "--json").exit_code == 0
    result = gpucnn("import", "model.onnx", "a.safetensors")
    assert result.exit_code == 1 and "exists already" in result.stderr
    result = gpucnn("import", "model.onnx", "b.safetensors", "--channels-last")
    assert result.exit_code == 1 and "takes images with channels last already" in result.stderr
    result = gpucnn("import", "model.pt")
    assert result.exit_code == 2 and "files with the suffix .onnx" in result.stderr


@h5py_here
def test_a_file_of_keras_goes_out_and_in(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gpucnn("export", run, "model.keras")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[3].endswith('model = keras.saving.load_model("model.keras")')
    result = gpucnn("export", run, "model.keras", "--prepare")
    assert result.exit_code == 2 and "has no argument prepare=True" in result.stderr
    result = gpucnn("import", "model.keras", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["classes"] == list("0123456789")
    assert json.loads(gpucnn("summary", "model.keras", "--json").stdout)["parameters"] == 62346
    first, second = library.load_run(run).model, library.models.load_model("model.safetensors")
    for weight, original in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, original)


@torch_here
def test_a_module_of_pytorch_is_used_as_the_lines_say(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    result = gpucnn("export", run, "exported_model.py")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "float32 (N, 1, 28, 28): pixels" in lines[1]
    x = library.datasets.digits.load_data()[1][0][:5] / np.float32(255)
    scope = {"x": x[:, None]}
    exec("import torch\n" + "\n".join(line[16:] for line in lines[3:]), scope)
    expected = library.load_run(run).model.predict(x[..., None], verbose=0)
    np.testing.assert_allclose(scope["y"].detach().numpy(), expected, atol=1e-5)
