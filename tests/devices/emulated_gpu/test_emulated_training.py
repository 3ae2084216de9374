"""Training on the emulated GPU: real CuPy captures the step, replays it, and ends where the CPU ends."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT
from small_training import STEPS


@pytest.mark.parametrize("backend", ["cuda", "numba"])
def test_the_captured_step_gives_the_bits_of_single_launches_and_the_weights_of_the_cpu(output, backend):
    text = f"""
        import json, os
        import numpy as np
        from gpucnn.devices.emulator.driver import counters
        from small_training import bound, trained
        weights = {{}}
        for graph in ("1", "0"):
            os.environ["GPUCNN_GRAPH"] = graph
            weights[graph] = trained({backend!r}, "gpu")
        reference = trained("numpy", "cpu")
        print(json.dumps({{
            "equal": all(np.array_equal(a, b) for a, b in zip(weights["1"], weights["0"], strict=True)),
            "off": max(float(np.abs(a - b).max()) for a, b in zip(weights["1"], reference, strict=True)),
            "bound": float(bound(reference)),
            "graphs": counters().graph_launches,
        }}))
    """
    result = json.loads(output(text)[-1])
    assert result["equal"]
    assert result["graphs"] > 0
    assert result["off"] <= result["bound"]


@pytest.mark.parametrize("backend", ["cuda", "numba"])
def test_the_lecture_s_model_ends_where_rounding_may_carry_it(output, backend):
    text = f"""
        import json
        import numpy as np
        from disturbed_training import bounds, trained_slides
        weights = trained_slides({backend!r}, "gpu")
        reference = trained_slides("numpy", "cpu")
        off = [float(np.abs(w - r).max()) for w, r in zip(weights, reference, strict=True)]
        print(json.dumps([off, bounds(reference)]))
    """
    off, allowed = json.loads(output(text)[-1])
    assert all(a <= b for a, b in zip(off, allowed, strict=True)), (off, allowed)


def test_a_run_says_that_its_gpu_was_emulated(built, tmp_path):
    command = [sys.executable, "-m", "gpucnn", "emulate-gpu", "train", "--data", "images.npz", "--model", "slides"]
    command += ["--backend", "cuda", "--epochs", "1", "--no-pictures", "--json", "--out", "run"]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (32, 20, 20, 1), np.uint8), rng.integers(0, 4, 32)
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=settings)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["device"], record["settings"]["device"]) == ("gpu:0 (emulated)", "gpu:0")
    assert 4 * record["parameters"] < record["peak_device_bytes"] < record["peak_host_bytes"]
    assert "; gpu:0 (Emulated GPU (sm_80, as NVIDIA H100" in done.stderr


def test_further_steps_neither_copy_nor_allocate(output):
    """An epoch more costs launches alone: a few copies at its end, and no memory."""
    text = """
        import json
        from dataclasses import asdict
        from gpucnn.devices.emulator.driver import counters
        from small_training import trained
        trained("cuda", "gpu")
        costs = []
        for epochs in (1, 2, 3):
            before = asdict(counters())
            trained("cuda", "gpu", epochs=epochs)
            costs.append({name: value - before[name] for name, value in asdict(counters()).items()})
        print(json.dumps(costs))
    """
    _, second, third = json.loads(output(text)[-1])
    assert third["allocations"] <= second["allocations"]
    for name in ("uploads", "reads"):
        assert third[name] - second[name] < STEPS / 2, f"{third[name] - second[name]} {name} in {STEPS} steps"
    assert third["launches"] - second["launches"] >= 5 * STEPS
