"""The ladder of sizes, as a shell sees it."""

import json
import re

import pytest
from command import gpucnn

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_shapes_prints_the_ladder_and_the_formulas():
    lines = gpucnn("shapes", "slides").stdout.splitlines()
    assert lines[0].split() == ["layer", "output", "sees", "parameters", "FLOPs", "memory"]
    assert lines[1].split() == ["input", "28×28×1", "3.1", "kB"]
    assert lines[2].split() == ["conv2d", "24×24×10", "5×5", "260", "288,000", "23.0", "kB"]
    (conv,) = [line for line in lines if line.startswith("conv2d_1 ") and "⌊" in line]
    assert re.split(" {3,}", conv.strip())[1:] == ["⌊(12 − 5 + 2·0)/1⌋ + 1 = 8", "(5·5·10 + 1)·20 = 5,020"]
    assert lines[-1] == "38,390 parameters; for each image 1,001,040 FLOPs, 36.9 kB of activations"


@pytest.mark.parametrize("model", ["slides", "vgg-small", "torres-batchnorm"])
def test_shapes_fits_80_columns(monkeypatch, model):
    monkeypatch.setenv("COLUMNS", "80")
    lines = gpucnn("shapes", model).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(("flatten", "global_average")) for line in lines)


def test_shapes_has_json_and_takes_runs_and_other_sizes(run):
    answer = json.loads(gpucnn("shapes", run, "--json").stdout)
    assert answer.keys() == {
        "model", "input_shape", "parameters", "flops_per_image", "activation_bytes_per_image", "layers",
    }  # fmt: skip
    assert answer["layers"][0] == {
        "name": "conv2d",
        "type": "Conv2D",
        "input_shape": [28, 28, 1],
        "output_shape": [24, 24, 10],
        "size": ["⌊(28 − 5 + 2·0)/1⌋ + 1 = 24"],
        "parameters": 260,
        "parameters_formula": "(5·5·1 + 1)·10 = 260",
        "flops": 288_000,
        "activation_bytes": 23_040,
        "receptive_field": [5, 5],
    }
    assert answer["activation_bytes_per_image"] == sum(layer["activation_bytes"] for layer in answer["layers"])
    larger = json.loads(gpucnn("shapes", "slides", "--input-shape", "32x32x3", "--classes", 7, "--json").stdout)
    assert larger["layers"][-1]["output_shape"] == [7]
    assert gpucnn("shapes", "slide").exit_code == 2
