"""compile(precision=...): what each precision says, that a model keeps it, and who refuses it."""

import importlib

import needs
import numpy as np
import pytest
from small_training import BATCH, RATE, STEPS, bound, images

import gpucnn
from gpucnn import layers, models
from gpucnn.devices.emulator.device import Emulator
from gpucnn.dispatch import choice, precision
from gpucnn.dispatch.precision import SIGNIFICANT_BITS, rounded
from gpucnn.errors import ArgumentError, KernelError
from gpucnn.ops.conv2d import conv2d
from gpucnn.ops.matmul import matmul
from gpucnn.runs import step, zoo

LOWER = ("tf32", "bfloat16")
PLAIN = {"transpose_a": False, "transpose_b": False}


def nearest(x, kind):
    """Rounded to so many significant bits, in float64 arithmetic."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    scaled = mantissa * 2.0 ** SIGNIFICANT_BITS[kind]
    whole = np.rint(scaled) if kind == "bfloat16" else np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
    return np.ldexp(whole, exponent - SIGNIFICANT_BITS[kind]).astype(np.float32)


@pytest.mark.parametrize("kind", LOWER)
def test_factors_are_rounded_to_the_nearest(kind, rng):
    x = (rng.standard_normal(20000) * 10.0 ** rng.integers(-30, 30, 20000)).astype(np.float32)
    ties = (1 + np.arange(64) / 2.0 ** SIGNIFICANT_BITS[kind]).astype(np.float32)
    x = np.concatenate([x, ties, -ties, [0.0, -0.0]]).astype(np.float32)
    assert rounded(x, kind).tobytes() == nearest(x, kind).tobytes()
    assert np.abs(rounded(x, kind) - x).max() > 0
    assert (np.abs(rounded(x, kind) - x) <= np.abs(x) * 2.0 ** -SIGNIFICANT_BITS[kind]).all()


@pytest.mark.parametrize("kind", LOWER)
def test_what_is_not_finite_stays_so(kind):
    of_a_gpu = np.array([0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    x = np.array([np.inf, -np.inf, np.nan, *of_a_gpu, np.finfo(np.float32).max], np.float32)
    y = rounded(x, kind)
    assert (y[:2] == x[:2]).all() and np.isnan(y[2:5]).all() and y[5] == np.inf


def test_float32_and_integers_are_left_alone():
    x, index = np.array([0.1], np.float32), np.array([3])
    assert rounded(x, "float32") is x and rounded(index, "tf32") is index


@pytest.mark.parametrize("backend", ["auto", "numpy"])
@pytest.mark.parametrize("kind", LOWER)
def test_ops_multiply_rounded_factors_on_the_cpu(kind, backend, rng):
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((65, 300), (300, 70)))
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 7, 8), (3, 3, 8, 5)))
    window = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    with choice.using(backend), choice.computing(kind):
        product, image = matmul(a, b, **PLAIN), conv2d(x, weight, **window)
    exact = rounded(a, kind).astype(np.float64) @ rounded(b, kind).astype(np.float64)
    error = np.finfo(np.float32).eps * (4 + np.sqrt(300)) * (np.abs(a) @ np.abs(b))
    assert (np.abs(product - exact) <= error).all() and not (np.abs(product - a @ b) <= error).all()
    np.testing.assert_array_equal(image, conv2d.reference(rounded(x, kind), rounded(weight, kind), **window))


def test_a_precision_ends_with_its_block():
    with choice.computing("tf32"):
        assert precision.in_force() == "tf32"
    assert precision.in_force() == "float32"


def dense(kind=None):
    gpucnn.utils.set_random_seed(3)
    model = gpucnn.Sequential([gpucnn.Input((40,)), layers.Dense(30, activation="tanh"), layers.Dense(4)])
    if kind is not None:
        model.compile("sgd", "mse", precision=kind)
    return model


@pytest.mark.parametrize("kind", LOWER)
def test_a_compiled_model_computes_in_its_precision(kind, rng):
    x = rng.standard_normal((16, 40)).astype(np.float32)
    model = dense(kind)
    (w1, b1, w2, b2) = model.get_weights()
    hidden = np.tanh(rounded(x, kind) @ rounded(w1, kind) + b1)
    expected = rounded(hidden, kind) @ rounded(w2, kind) + b2
    flips = 2.0 ** (1 - SIGNIFICANT_BITS[kind]) * (np.abs(hidden) @ np.abs(w2)).max() / 30
    for y in (model.predict(x, verbose=0), model(x), model.predict_on_batch(x)):
        np.testing.assert_allclose(y, expected, rtol=0, atol=flips + 1e-5)
    assert not np.allclose(dense().predict(x, verbose=0), expected, rtol=0, atol=flips)
    assert not np.array_equal(dense("float32").predict(x, verbose=0), model.predict(x, verbose=0))
    model.precision = "float32"
    np.testing.assert_array_equal(dense("float32").predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_precision_is_saved_with_the_model(tmp_path):
    model = dense("bfloat16")
    model.save(tmp_path / "model.safetensors")
    assert models.load_model(tmp_path / "model.safetensors").precision == "bfloat16"
    described = model.compile_config()
    del described["precision"]
    model.compile_from_config(described)
    assert model.precision == "float32", "files of earlier versions do not have it"


def test_a_precision_that_does_not_exist_is_named():
    with pytest.raises(ArgumentError, match="precision='fp8'"):
        dense("fp8")
    model = dense("tf32")
    with pytest.raises(ArgumentError, match="precision='half'"):
        model.precision = "half"
    with pytest.raises(ArgumentError, match="before compile"):
        dense().precision = "tf32"


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch"])
def test_kernels_for_float32_alone_refuse_before_any_work(call):
    model, x, y = dense("tf32"), np.zeros((8, 40), np.float32), np.zeros((8, 4), np.float32)
    before = model.get_weights()
    gpucnn.use("njit")
    with pytest.raises(KernelError, match=r"precision='tf32': the njit kernels compute products in float32 alone: use"):
        getattr(model, call)(x, y)
    assert all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))


@needs.emulator_here
def test_numba_kernels_and_turing_refuse(monkeypatch):
    model, x = dense("bfloat16"), np.zeros((8, 40), np.float32)
    gpucnn.use("numba", device="emulator")
    with pytest.raises(KernelError, match="the numba kernels compute products in float32 alone"):
        model.predict(x, verbose=0)
    gpucnn.use("cuda", device="emulator")
    monkeypatch.setattr(Emulator, "cc", 75)
    with pytest.raises(KernelError, match=r"tensor cores multiply bfloat16 from compute capability 8\.0 on, and this"):
        model.predict(x, verbose=0)


def trained(kind, backend, where):
    """As `small_training.trained`, with products on tensor cores wherever they can be."""
    gpucnn.utils.set_random_seed(7)
    everywhere = {"conv2d": "tensor", "matmul": "tensor"} if where == "emulator" else {}
    gpucnn.use(backend, device=where, **everywhere)
    model = gpucnn.Sequential(
        [
            gpucnn.Input((8, 8, 4)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(gpucnn.optimizers.SGD(RATE), "sparse_categorical_crossentropy", precision=kind)
    x, y = images()
    model.fit(np.concatenate([x, x[::-1], 1 - x, x * x], axis=3), y, batch_size=BATCH, shuffle=False, verbose=0)
    return model.get_weights()


def distance(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@needs.emulator_here
@needs.nvrtc_here
@pytest.mark.parametrize("kind", LOWER)
def test_twenty_steps_on_tensor_cores_end_with_the_weights_of_the_cpu(kind):
    """Both round the same factors. Where sums in another order differ in their last bits, a factor may
    round the other way, by 2^(1 - bits) of it; a step moves a weight by rate times that, and by 2 at most."""
    on_cpu, on_tensor_cores = trained(kind, "auto", "cpu"), trained(kind, "cuda", "emulator")
    flips = 2.0 ** (1 - SIGNIFICANT_BITS[kind])
    off = distance(on_tensor_cores, on_cpu)
    assert off <= bound(on_cpu) + flips * STEPS * RATE * 2.0
    assert off < distance(trained("float32", "auto", "cpu"), on_cpu) / 10, "the rounding itself moves them further"


AMPLIFIED = 4
"""How many times Σ|a||b| exceeds |Σ a · b| in the products of these models, in norm."""


def after_three_steps(name, kind, backend, where):
    """(weights after three steps, the length of these steps, how many layers have a kernel)."""
    gpucnn.utils.set_random_seed(0)
    gpucnn.use(backend, device=where)
    entry, rng = zoo.find(name), np.random.default_rng(0)
    x = rng.uniform(0, 1, (4, *entry.input_shape)).astype(np.float32)
    model = entry.build()
    model.compile(gpucnn.optimizers.SGD(0.01), "sparse_categorical_crossentropy", precision=kind)
    path = [model.get_weights()]
    for _ in range(3):
        model.train_on_batch(x, rng.integers(0, entry.classes, 4))
        path.append(model.get_weights())
    return path[-1], sum(map(norm, path, path[1:])), sum(bool(layer.weights) for layer in model.layers)


def norm(one, other):
    return np.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(one, other, strict=True)))


SLOW = {"mlearning", "cifar"}


@needs.emulator_here
@needs.nvrtc_here
@pytest.mark.parametrize("kind", LOWER)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs.takes_long if name in SLOW else []) for name in step.OPTIMIZERS]
)
def test_course_models_on_tensor_cores_end_near_the_cpu(name, kind, monkeypatch):
    """The CPU rounds the factors of every product, the GPU those on tensor cores. On the way to a gradient
    lie at most 2 products for each layer, each with two factors that may be rounded by 2^-bits or not."""
    launch = importlib.import_module("gpucnn.kernels.shared.tensor_launch")
    monkeypatch.setattr(launch, "LEAST_WORK", 0)
    choice.changed()  # what was decided with the usual limit is forgotten
    on_cpu, length, depth = after_three_steps(name, kind, "auto", "cpu")
    on_gpu, _, _ = after_three_steps(name, kind, "cuda", "emulator")
    choice.changed()
    rounding = 2.0 ** -SIGNIFICANT_BITS[kind]
    assert norm(on_gpu, on_cpu) <= 4 * depth * rounding * AMPLIFIED * length
