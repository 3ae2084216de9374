"""Training with the kernels for GPUs, in the emulator, ends where training with the NumPy definitions ends."""

import json

import needs
import numpy as np
import pytest
from click.testing import CliRunner
from small_training import BATCH, STEPS, bound, images, small_cnn, trained

import gpucnn
from gpucnn import layers, losses, models
from gpucnn.cli import main
from gpucnn.devices import choose, emulator, storage
from gpucnn.errors import ArgumentError, KernelError
from gpucnn.layers.parameters import Parameters
from gpucnn.runs import zoo

pytestmark = needs.emulator_here

BACKENDS = [pytest.param(b, marks=pytest.mark.xdist_group(f"training-{b}")) for b in ("cuda", "numba")]


@pytest.fixture(scope="module")
def on_numpy():
    try:
        return trained("numpy", "cpu")
    finally:
        gpucnn.use("auto", device="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_steps_end_with_the_weights_of_the_definitions(backend, on_numpy):
    weights = trained(backend, "emulator")
    for got, expected in zip(weights, on_numpy, strict=True):
        assert np.abs(got - expected).max() <= bound(on_numpy)


def test_the_bound_sees_one_image_that_is_lost(on_numpy):
    weights = trained("numpy", "cpu", skipped=BATCH * STEPS - 1)
    assert max(np.abs(got - expected).max() for got, expected in zip(weights, on_numpy, strict=True)) > bound(on_numpy)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_runs_end_with_equal_bits(backend):
    with emulator.running(seed=5):
        one = trained(backend, "emulator")
    with emulator.running(seed=9):
        other = trained(backend, "emulator")
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", zoo.names())
def test_every_model_of_the_zoo_takes_a_step(name, backend):
    entry = zoo.find(name)
    rng = np.random.default_rng(0)
    # normalised over 4 images, a change of x by one ulp changes weights by 2e-5; over 8, by 1e-6
    count = 8 if any(isinstance(layer, layers.BatchNormalization) for layer in entry.build().layers) else 4
    x = rng.uniform(0, 1, (count, *entry.input_shape)).astype("float32")
    y = rng.integers(0, entry.classes, count)
    taken = {}
    for language, where in (("numpy", "cpu"), (backend, "emulator")):
        gpucnn.utils.set_random_seed(0)
        gpucnn.use(language, device=where)
        model = entry.build()
        model.compile(gpucnn.optimizers.SGD(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
        taken[language] = model.train_on_batch(x, y), model.get_weights()
    np.testing.assert_allclose(taken[backend][0], taken["numpy"][0], rtol=1e-5)
    for got, expected in zip(taken[backend][1], taken["numpy"][1], strict=True):
        assert np.abs(got - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


def test_a_model_moves_to_the_device_in_use_and_back():
    x, y = images(16)
    model = small_cnn()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=8, verbose=0)
    before = model.get_weights()
    gpucnn.use("cuda", device="emulator")
    assert all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))
    model.fit(x, y, batch_size=8, verbose=0)
    probabilities = model.predict(x, verbose=0)
    assert type(probabilities) is np.ndarray
    assert isinstance(model.weights[0].value, emulator.EmulatedArray)
    gpucnn.use("auto", device="cpu")
    np.testing.assert_allclose(model.predict(x, verbose=0), probabilities, atol=1e-6)
    model.fit(x, y, batch_size=8, verbose=0)
    assert isinstance(model.weights[0].value, np.ndarray)


def test_saving_and_loading_on_a_device(tmp_path):
    x, y = images(16)
    gpucnn.use("cuda", device="emulator")
    model = small_cnn()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "m.safetensors")
    loaded = models.load_model(tmp_path / "m.safetensors")
    assert (loaded.predict(x, verbose=0) == model.predict(x, verbose=0)).all()
    loaded.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert all((a == b).all() for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True))


def test_python_of_the_user_meets_host_arrays_on_every_device():
    seen = []

    def squared(y_true, y_pred):
        seen.append(type(y_pred))
        error = y_pred - y_true
        return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / error.shape[-1]

    x, y = images(8)
    y = np.eye(4, dtype="float32")[y]
    taken = {}
    for language, where in (("numpy", "cpu"), ("cuda", "emulator")):
        gpucnn.utils.set_random_seed(0)
        gpucnn.use(language, device=where)
        model = small_cnn()
        model.compile(gpucnn.optimizers.SGD(0.1), loss=squared, metrics=["mse"])
        taken[language] = model.train_on_batch(x, y), model.get_weights()
    assert set(seen) == {np.ndarray}
    np.testing.assert_allclose(taken["cuda"][0], taken["numpy"][0], rtol=1e-5)
    for got, expected in zip(taken["cuda"][1], taken["numpy"][1], strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_nothing_is_read_from_the_device_before_the_backward_pass_is_under_way(monkeypatch):
    gpucnn.use("cuda", device="emulator")
    x, y = images(8)
    model = small_cnn()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.train_on_batch(x, y)
    events = []
    get, norm = storage.get, Parameters.gradient_norms
    monkeypatch.setattr(storage, "get", lambda array: events.append("read") or get(array))
    monkeypatch.setattr(Parameters, "gradient_norms", lambda self: events.append("norm") or norm(self))
    model.train_on_batch(x, y)
    assert events[0] == "norm"
    assert "read" in events


def test_activity_regularizers_and_losses_called_by_hand():
    gpucnn.use("cuda", device="emulator")
    x, y = images(8)
    model = gpucnn.Sequential(
        [gpucnn.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activity_regularizer="l2", activation="relu")]
    )
    model.compile("sgd", "mse")
    assert np.isfinite(model.train_on_batch(x, np.eye(4, dtype="float32")[y]))
    assert losses.MeanSquaredError()([[1.0, 2.0]], [[1.0, 4.0]]) == pytest.approx(2.0)
    assert gpucnn.activations.relu([-1.0, 2.0]).tolist() == [0.0, 2.0]
    assert layers.ReLU()(np.array([[-1.0, 2.0]])).tolist() == [[0.0, 2.0]]


def test_an_algorithm_is_chosen_for_an_op_and_its_gradients(capfd, monkeypatch):
    monkeypatch.setenv("GPUCNN_DEBUG", "2")
    x, y = images(8)
    gpucnn.use("cuda", device="emulator", conv2d="direct", matmul="naive")
    model = small_cnn()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    launched = {line.split()[0] for line in capfd.readouterr().err.splitlines() if "grid" in line}
    assert {"conv2d/direct_cuda", "matmul/naive_cuda"} <= launched
    assert not any(ident.startswith(("conv2d/i", "matmul/w", "matmul/t")) for ident in launched)


def test_a_layer_chooses_its_algorithm(capfd, monkeypatch):
    monkeypatch.setenv("GPUCNN_DEBUG", "2")
    gpucnn.use("numba", device="emulator")
    layers.Conv2D(2, 3, algorithm="direct")(np.ones((1, 4, 4, 1)))
    assert "conv2d/direct_numba" in capfd.readouterr().err
    with pytest.raises(KernelError, match="Requested: winograd; registered: direct"):
        layers.Conv2D(2, 3, algorithm="winograd")(np.ones((1, 4, 4, 1)))


def test_a_launch_line_shows_id_shapes_grid_block_and_time(capfd, monkeypatch):
    monkeypatch.setenv("GPUCNN_DEBUG", "4")
    gpucnn.use("cuda", device="emulator", matmul="naive")
    layers.Dense(2, use_bias=False)(np.ones((3, 5)))
    report = capfd.readouterr().err
    assert 'extern "C" __global__ void' in report and "matmul_naive(float*" in report
    assert "matmul/naive_cuda matmul_naive: float32[3, 2] float32[3, 5] float32[5, 2], grid 1, block 256" in report
    assert report.rstrip().endswith("ms on emulator")


def test_host_arrays_do_not_meet_kernels_of_a_device():
    from gpucnn.ops.matmul import matmul

    gpucnn.use("cuda", device="emulator")
    with pytest.raises(ArgumentError, match="matmul: a is a ndarray but the device in use is emulator"):
        matmul(np.ones((2, 2), "float32"), np.ones((2, 2), "float32"), transpose_a=False, transpose_b=False)


def test_a_call_without_elements_needs_no_kernel():
    from gpucnn.ops.matmul import matmul

    gpucnn.use("cuda", device="emulator")
    a, b = storage.put(np.ones((0, 3), "float32")), storage.put(np.ones((3, 2), "float32"))
    assert matmul(a, b, transpose_a=False, transpose_b=False).shape == (0, 2)


@pytest.mark.parametrize(
    ("backend", "where", "words"),
    [
        ("njit", "emulator", "backend='njit' does not run on device='emulator', which runs cuda, numba"),
        ("cuda", "cpu", "backend='cuda' does not run on device='cpu', which runs njit, numpy"),
    ],
)
def test_a_backend_and_a_device_that_do_not_fit_are_refused(backend, where, words):
    with pytest.raises(ArgumentError, match=words):
        gpucnn.use(backend, device=where)
    assert choose.current().name == "cpu"


def test_the_command_trains_in_the_emulator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (32, 20, 20, 1)), rng.integers(0, 4, 32)
    np.savez("images.npz", x_train=(x * 255).astype("uint8"), y_train=y, x_test=(x * 255).astype("uint8"), y_test=y)
    command = "train --data images.npz --model slides --backend cuda --device emulator --epochs 1 --algorithm"
    done = CliRunner().invoke(main, [*command.split(), "conv2d=direct", "--no-pictures", "--json", "--out", "run"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["device"], report["backend"]) == ("emulator", "cuda")
    assert report["settings"]["algorithms"] == {"conv2d": "direct"}
    again = CliRunner().invoke(main, ["evaluate", "run", "--json"])
    assert json.loads(again.stdout)["test_loss"] == pytest.approx(report["test_loss"], rel=1e-6)


def test_an_algorithm_that_is_not_written_as_a_pair_is_named():
    done = CliRunner().invoke(main, ["train", "--algorithm", "direct"])
    assert "--algorithm 'direct' must be OP=NAME" in str(done.exception) + done.output
