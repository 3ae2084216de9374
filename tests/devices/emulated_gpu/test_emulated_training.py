"""Training on the emulated GPU: real CuPy captures the step, replays it, and ends where the CPU ends."""

import json

import pytest

TRAINING = """
    import json, os, sys
    import numpy as np
    import gpucnn
    from gpucnn import layers

    def trained(backend, device, epochs=1):
        gpucnn.utils.set_random_seed(7)
        gpucnn.use(backend, device=device)
        model = gpucnn.Sequential([
            gpucnn.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2),
            layers.Flatten(), layers.Dropout(0.25), layers.Dense(4, activation="softmax"),
        ])
        model.compile(gpucnn.optimizers.SGD(0.005), "sparse_categorical_crossentropy")
        rng = np.random.default_rng(0)
        x, y = rng.uniform(0, 1, (160, 8, 8, 1)).astype("float32"), rng.integers(0, 4, 160)
        model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
        return model.get_weights()
"""


@pytest.mark.parametrize("backend", ["cuda", "numba"])
def test_the_captured_step_gives_the_bits_of_single_launches_and_the_weights_of_the_cpu(output, backend):
    text = (
        TRAINING
        + f"""
    weights = {{}}
    for graph in ("1", "0"):
        os.environ["GPUCNN_GRAPH"] = graph
        weights[graph] = trained({backend!r}, "gpu")
    reference = trained("auto", "cpu")
    from gpucnn.devices.emulator.driver import counters
    print(json.dumps({{
        "equal": all(np.array_equal(a, b) for a, b in zip(weights["1"], weights["0"], strict=True)),
        "off": max(float(np.abs(a - b).max()) for a, b in zip(weights["1"], reference, strict=True)),
        "moved": float(max(np.abs(w).max() for w in reference)),
        "graphs": counters().graph_launches,
    }}))
    """
    )
    result = json.loads(output(text)[-1])
    assert result["equal"]
    assert result["graphs"] > 0
    assert result["off"] <= 20 * 2**-20 * result["moved"]


def test_further_steps_neither_copy_nor_allocate(output):
    """An epoch more costs launches alone: a few copies at its end, and no memory."""
    text = (
        TRAINING
        + """
    from dataclasses import asdict
    from gpucnn.devices.emulator.driver import counters
    trained("cuda", "gpu")
    costs = []
    for epochs in (1, 2, 3):
        before = asdict(counters())
        trained("cuda", "gpu", epochs)
        costs.append({name: value - before[name] for name, value in asdict(counters()).items()})
    print(json.dumps(costs))
    """
    )
    _, second, third = json.loads(output(text)[-1])
    steps = 20
    assert third["allocations"] <= second["allocations"]
    for name in ("uploads", "reads"):
        assert third[name] - second[name] < steps / 2, f"{third[name] - second[name]} {name} in {steps} steps"
    assert third["launches"] - second["launches"] >= 10 * steps
