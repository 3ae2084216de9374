"""The forward pass of predict: folded layers and recorded launches give what the layers give."""

import copy
import importlib
import threading
import tracemalloc

import numpy as np
import pytest

import gpucnn
from gpucnn import layers
from gpucnn.devices import choose, emulator, storage, team, threads
from gpucnn.devices.recording import Recording
from gpucnn.dispatch.case import Spec
from gpucnn.errors import ArgumentError
from gpucnn.models import clone_model, fusion, inference
from gpucnn.models import plans as planning
from gpucnn.models.inference import simplified
from gpucnn.models.plans import MOST_PLANS
from gpucnn.models.training_step import NO_STEP, run_forward
from gpucnn.ops.fused import matmul_bias_activation
from gpucnn.ops.matmul import matmul

NO_EMULATOR = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
DEVICES = [pytest.param("emulator", marks=NO_EMULATOR), "cpu"]
EPS = float(np.finfo(np.float32).eps)


def filled(model):
    """The model with weights, and positive variances, that differ everywhere."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        low = 0.5 if weight.name in ("moving_variance", "gamma") else -0.5
        weight.assign(rng.uniform(low, 1.5 if low > 0 else 0.5, weight.shape))
    return model


def images(model, count=3):
    return np.random.default_rng(2).random((count, *model.input_shape[1:]), np.float32)


def layer_by_layer(model, x):
    with fusion.off():
        return run_forward(fusion.program(model.layers, False), x, NO_STEP)[0]


def normalized(**options):
    return filled(
        gpucnn.Sequential(
            [
                layers.Input((8, 8, 3)),
                layers.Conv2D(6, 3, use_bias=False),
                layers.BatchNormalization(**options),
                layers.Activation("relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(4, activation="softmax"),
            ]
        )
    )


def rounding(terms):
    """How far sums of so many products may differ when a scale is moved into one factor: images are at
    most 1, kernels 0.5 and scales 1.5 / √0.5, and what is added at most 4."""
    return 2 * (4 + np.sqrt(terms)) * EPS * (terms * 0.5 * 1.5 / np.sqrt(0.5) + 4)


@pytest.mark.parametrize(
    ("shape", "linear"),
    [
        ((7, 7, 4), layers.Conv2D(5, 3)),
        ((7, 7, 4), layers.Conv2D(6, 3, groups=2, use_bias=False, dilation_rate=2)),
        ((7, 7, 4), layers.DepthwiseConv2D(3, depth_multiplier=2)),
        ((9, 4), layers.Conv1D(5, 3, padding="causal")),
        ((5, 5, 5, 2), layers.Conv3D(3, 2)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
@pytest.mark.parametrize("activation", ["relu", "tanh", None])
def test_batch_normalization_and_activation_are_joined_with_the_layer_before(shape, linear, activation):
    norm = layers.BatchNormalization(scale=activation is not None, center=activation != "tanh")
    after = [] if activation is None else [layers.Activation(activation)]
    model = filled(gpucnn.Sequential([layers.Input(shape), clone(linear), norm, *after]))
    before, x = model.get_weights(), images(model)
    assert len(simplified(model.layers)[0]) == 1
    for _ in range(2):
        assert np.abs(model.predict(x, verbose=0) - layer_by_layer(model, x)).max() <= rounding(terms=36)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_many_weights_of_a_dense_layer_are_not_compared_for_the_normalization_behind_it():
    parts = [layers.Dense(5), layers.BatchNormalization(), layers.Activation("relu")]
    model = filled(gpucnn.Sequential([layers.Input((6,)), *parts]))
    x = images(model)
    assert [type(layer) for layer in simplified(model.layers)[0]] == [type(layer) for layer in parts]
    for _ in range(2):
        assert np.abs(model.predict(x, verbose=0) - layer_by_layer(model, x)).max() <= rounding(terms=6)


def clone(layer):
    return type(layer).from_config(layer.get_config())


def test_what_is_not_linear_or_not_ours_keeps_its_layers():
    class Mine(layers.Conv2D):
        pass

    for first in (layers.Conv2D(3, 2, activation="relu"), Mine(3, 2), layers.Flatten()):
        model = gpucnn.Sequential([layers.Input((4, 4, 2)), first, layers.BatchNormalization()])
        assert simplified(model.layers)[0] == model.layers


def test_chosen_backends_and_algorithms_run_the_layers_as_they_are():
    model = normalized()
    with gpucnn.using("numpy"):
        assert simplified(model.layers)[0] == model.layers
    with gpucnn.using(matmul="blas"):
        assert simplified(model.layers)[0] == model.layers
    assert len(simplified(model.layers)[0]) == 4


def _train(model, path):
    x = images(model, 8)
    model.fit(x, np.arange(8) % 4, verbose=0)


def _train_on_batch(model, path):
    model.train_on_batch(images(model, 8), np.arange(8) % 4)


def _load(model, path):
    other = clone_model(model)
    other.set_weights([w * 0.75 for w in model.get_weights()])
    other.save_weights(path / "other.safetensors")
    model.load_weights(path / "other.safetensors")


def _resume(model, path):
    other = copy.deepcopy(model)
    _train(other, path)
    other.save_checkpoint(path / "other.safetensors")
    model.load_checkpoint(path / "other.safetensors")


def _assign_in_place(model, path):
    model.layers[0].kernel.value[...] = 0.5


def _replace_value(model, path):
    weight = model.layers[-1].kernel
    weight.value = storage.put(weight.numpy() * np.float32(0.5))


def _replace_statistic(model, path):
    weight = model.layers[1].moving_mean
    weight.value = storage.put(weight.numpy() + np.float32(1))


def _average(model, path):
    averaged = gpucnn.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
    model.compile(averaged, "sparse_categorical_crossentropy")
    _train(model, path)


CHANGES = {
    "fit": _train,
    "train_on_batch": _train_on_batch,
    "weights averaged at the end of fit": _average,
    "load_weights": _load,
    "load_checkpoint": _resume,
    "set_weights": lambda model, path: model.set_weights([w * 0.5 for w in model.get_weights()]),
    "set_weights of a layer": lambda model, path: model.layers[1].set_weights([np.full(6, 0.5)] * 4),
    "assign": lambda model, path: model.layers[1].gamma.assign(np.full(6, 3)),
    "assign of a moving statistic": lambda model, path: model.layers[1].moving_variance.assign(np.full(6, 4)),
    "value[...] =": _assign_in_place,
    "value =": _replace_value,
    "value = of a moving statistic": _replace_statistic,
    "epsilon": lambda model, path: setattr(model.layers[1], "epsilon", 1.0),
    "activation": lambda model, path: setattr(model.layers[2], "activation", gpucnn.activations.get("tanh")),
    "a layer less": lambda model, path: model.pop(),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_predictions_follow_the_weights_however_they_change(change, device, tmp_path):
    gpucnn.use("auto", device=device)
    model = normalized(momentum=0.5)
    model.compile(gpucnn.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    x = images(model)
    before = [model.predict(x, verbose=0) for _ in range(2)][1]
    change(model, tmp_path)
    after = model.predict(x, verbose=0)
    assert after.shape != before.shape or np.abs(after - before).max() > 1e-4
    assert copy.deepcopy(model).predict(x, verbose=0).tobytes() == after.tobytes()
    assert model.predict(x, verbose=0).tobytes() == after.tobytes()


MANY_KINDS = {
    "winograd, pooled": [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D(2)],
    "winograd, folded": [layers.Conv2D(40, 3, padding="same", use_bias=False), layers.BatchNormalization()],
    "few filters": [layers.Conv2D(2, 3, activation="tanh")],
    "groups": [layers.Conv2D(64, 3, groups=2), layers.BatchNormalization()],
    "channelwise": [layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization()],
    "transposed": [layers.Conv2DTranspose(5, 3, strides=2), layers.Conv2DTranspose(33, 3)],
    "paths": [layers.Residual([layers.Conv2D(32, 3, padding="same"), layers.BatchNormalization()])],
    "twice the same kind": [layers.Conv2D(32, 3, padding="same"), layers.Conv2D(32, 3, padding="same")],
}


@pytest.mark.parametrize("kind", MANY_KINDS)
def test_a_plan_follows_each_number_of_each_weight(kind):
    stack = [layers.Input((12, 12, 32)), *map(clone, MANY_KINDS[kind]), layers.GlobalAveragePooling2D()]
    model = filled(gpucnn.Sequential(stack))
    x = images(model, 1)
    before = [model.predict(x, verbose=0) for _ in range(2)][1]
    assert list(plans(model)) == [x.shape]
    for weight in model.weights:
        values = weight.value.reshape(-1)
        values[len(values) * 2 // 3] += 0.5
        after = model.predict(x, verbose=0)
        assert after.tobytes() != before.tobytes(), weight.name
        assert copy.deepcopy(model).predict(x, verbose=0).tobytes() == after.tobytes(), weight.name
        before = after


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (lambda x: x, {"batch_size": 5}),
        (lambda x: x, {"callbacks": [gpucnn.callbacks.Callback()]}),
        (lambda x: x, {"steps": 1}),
        (lambda x: x.astype(np.float64), {}),
        (lambda x: x.tolist(), {}),
        (lambda x: np.asfortranarray(x), {}),
        (lambda x: iter([x]), {}),
    ],
)
def test_every_way_to_pass_images_gives_the_same_bits(x, options):
    model = normalized()
    batch = images(model)
    expected = model.predict(batch, verbose=0)
    assert model.predict(x(batch), verbose=0, **options).tobytes() == expected.tobytes()


def test_one_batch_that_looks_unscaled_is_warned_of():
    with pytest.warns(UserWarning, match="look unscaled"):
        normalized().predict(images(normalized()) * 200, verbose=0)


def test_the_output_of_layers_that_compute_nothing_is_not_the_input():
    model = gpucnn.Sequential([layers.Input((3, 2)), layers.Flatten(), layers.Dropout(0.5)])
    x = images(model)
    for _ in range(2):
        y = model.predict(x, verbose=0)
        assert np.array_equal(y, x.reshape(3, 6))
        assert not np.shares_memory(x, y)


def plans(model):
    return model._trainer._inference._program.whole.plans


def test_a_plan_gives_the_same_bits_for_other_images():
    model = normalized()
    x = images(model, 12)
    for i in range(0, 12, 3):
        without_a_plan = normalized().predict(x[i : i + 3], verbose=0)
        assert model.predict(x[i : i + 3], verbose=0).tobytes() == without_a_plan.tobytes()
    assert list(plans(model)) == [(3, 8, 8, 3)]


def plan_of_one(model):
    """The plan for one image, which has been used."""
    for _ in range(3):
        model.predict(images(model, 1), verbose=0)
    (free,) = plans(model).values()
    return free[0]


def separable():
    return filled(
        gpucnn.Sequential(
            [
                layers.Input((8, 8, 3)),
                layers.DepthwiseConv2D(3, use_bias=False, padding="same"),
                layers.BatchNormalization(),
                layers.Activation("relu"),
                layers.Conv2D(40, 1, use_bias=False),
                layers.BatchNormalization(),
                layers.Activation("relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(50, activation="relu"),
                layers.Dense(4, activation="softmax"),
            ]
        )
    )


@pytest.mark.parametrize("make", [normalized, separable])
def test_one_image_is_replayed_without_python_between_the_kernels_and_without_blas(make):
    plan = plan_of_one(make())
    assert len(plan._tape._recording._steps) == 1
    assert not plan.may_call_blas


@NO_EMULATOR
def test_a_gpu_replays_one_image_and_keeps_no_plan_that_needs_much_memory(monkeypatch):
    gpucnn.use("cuda", device="emulator")
    model, calls, forward = normalized(), [], run_forward
    x = (images(model, 4) * 2).astype(np.uint8)
    monkeypatch.setenv("GPUCNN_GRAPH", "0")
    expected = [model.predict(x[i : i + 1], verbose=0) for i in range(4)]
    monkeypatch.delenv("GPUCNN_GRAPH")
    monkeypatch.setattr(planning, "run_forward", lambda *args: calls.append(1) or forward(*args))
    for i in range(4):
        assert np.array_equal(model.predict(x[i : i + 1], verbose=0), expected[i])
        assert len(calls) == 3  # for the first image: directly, then twice to record
    free = iter(range(1 << 40, 0, -(1 << 39)))
    monkeypatch.setattr(choose.current(), "free_bytes", lambda: next(free))
    model.predict(x, verbose=0)
    assert list(plans(model)) == [(1, 8, 8, 3)]


def test_plans_that_call_blas_limit_its_threads():
    with gpucnn.using(matmul="blas"):
        assert plan_of_one(normalized()).may_call_blas


def test_no_helper_is_woken_where_no_kernel_is_shared(monkeypatch):
    model = normalized()
    plan_of_one(model)
    monkeypatch.setattr(team, "call_team", lambda: pytest.fail("a helper is woken"))
    model.predict(images(model, 1), verbose=0)


def test_layers_are_compared_only_where_something_was_assigned(monkeypatch):
    model, looks, look = normalized(), [], inference._state
    plan_of_one(model)
    monkeypatch.setattr(inference, "_state", lambda *args: looks.append(1) or look(*args))
    for _ in range(2):
        model.predict(images(model, 1), verbose=0)
    model.layers[-1].trainable = model.layers[-1].trainable  # what it was
    model.predict(images(model, 1), verbose=0)
    assert not looks
    model.layers[0].name = "first"
    for _ in range(2):
        model.predict(images(model, 1), verbose=0)
    assert looks
    looks.clear()
    model.predict(images(model, 1), verbose=0)
    assert not looks


@pytest.mark.parametrize(("rows", "algorithm"), [(1, "few_rows"), (4, "few_rows"), (8, "blas")])
def test_products_of_few_rows_pack_no_matrix(rows, algorithm):
    x, weight, b = (Spec(shape, np.dtype(np.float32)) for shape in ((rows, 300), (300, 200), (200,)))
    ending = {"function": "relu", "alpha": 0.0, "keep_input": False}
    plain = {"transpose_a": False, "transpose_b": False}
    assert matmul_bias_activation.find((x, weight, b), ending).algorithm == algorithm
    assert matmul.find((x, weight), plain).algorithm == algorithm
    assert matmul.find((x, Spec((200, 300), x.dtype)), plain | {"transpose_b": True}).algorithm == "blas"


@pytest.mark.parametrize(
    ("known", "width", "columns", "algorithm"),
    [
        ("Haswell", 16, 200, "panels"),
        ("Haswell", 16, 256, "streamed"),
        ("SkylakeX", 16, 200, "blas"),
        ("SkylakeX", 16, 256, "streamed"),
        ("Haswell", 8, 256, "blas"),
    ],
)
def test_products_of_many_rows_are_by_tiles_where_these_are_faster_than_blas(
    monkeypatch, known, width, columns, algorithm
):
    panels = importlib.import_module("gpucnn.kernels.shared.panels_njit")
    importlib.import_module("gpucnn.kernels.shared.blas_njit").sgemm()  # which is looked up once, in the real libraries
    library = type("Library", (), {"architecture": known})
    monkeypatch.setattr(panels.threads, "blas_libraries", lambda: [library])
    for module in (panels, importlib.import_module("gpucnn.kernels.shared.streamed_njit")):
        monkeypatch.setattr(module, "WIDTH", width)
    panels.are_faster.cache_clear()
    operands = [Spec(shape, np.dtype(np.float32)) for shape in ((256, 300), (300, columns))]
    try:
        found = matmul.find(tuple(operands), {"transpose_a": False, "transpose_b": False})
    finally:
        panels.are_faster.cache_clear()
    assert found.algorithm == algorithm


def test_a_plan_keeps_no_hold_of_the_images_and_its_results_are_the_callers():
    model = normalized()
    x, other = images(model, 1), images(model, 2)[1:]
    first = model.predict(x, verbose=0)
    kept = first.copy()
    model.predict(other, verbose=0)
    assert np.array_equal(first, kept)
    (free,) = plans(model).values()
    assert not any(np.shares_memory(array, x) for array in free[0]._tape._recording._kept.values())


def test_batches_that_have_plans_are_replayed_without_the_hooks_between_them(monkeypatch):
    model = normalized()
    x = images(model, 70)
    expected = np.concatenate([model.predict(x[i : i + 32], verbose=0) for i in (0, 32, 64)])
    assert {shape[0] for shape in plans(model)} == {32, 6}
    monkeypatch.setattr(type(model._trainer), "take", lambda *_, **__: pytest.fail("batches are looped over"))
    assert np.array_equal(model.predict(x, verbose=0), expected)
    assert np.array_equal(model.predict(x[:64], batch_size=32, verbose=0), expected[:64])
    with pytest.warns(UserWarning, match="look unscaled"):
        model.predict(x * 255, verbose=0)
    assert np.array_equal(model.predict(x[:40], verbose=0), expected[:40])
    with pytest.raises(pytest.fail.Exception, match="looped over"):
        model.predict(x[:40], verbose=0, callbacks=[gpucnn.callbacks.Callback()])


@pytest.mark.parametrize("batch_size", [0, -1, "32", 1.5, True])
def test_what_is_no_batch_size_is_refused_where_there_are_plans_too(batch_size):
    model = normalized()
    for _ in range(3):
        model.predict(images(model, 32), verbose=0)
    with pytest.raises(ArgumentError, match=rf"batch_size={batch_size!r}"):
        model.predict(images(model, 32), batch_size=batch_size, verbose=0)


def test_weights_are_compared_once_for_all_batches_and_followed_in_the_next_call(monkeypatch):
    model = normalized()
    x = images(model, 70)
    model.predict(x[:64], verbose=0), model.predict(x[64:], verbose=0)
    before, compared = model.predict(x, verbose=0), []
    again = Recording._prepare_again
    monkeypatch.setattr(Recording, "_prepare_again", lambda *args: (compared.append(1), again(*args)))
    assert np.array_equal(model.predict(x, verbose=0), before)
    assert len(compared) == 2, "one for batches of 32, one for the last 6"
    model.layers[0].kernel.value[...] *= 1.5
    after = model.predict(x, verbose=0)
    monkeypatch.undo()
    with fusion.off():
        np.testing.assert_allclose(after, model.predict(x, verbose=0), atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_only_the_last_shapes_and_small_batches_keep_a_plan(monkeypatch):
    monkeypatch.setattr(planning, "PLANNED_BYTES", 1 << 17)
    model = normalized()
    for count in range(1, MOST_PLANS + 3):
        model.predict(images(model, count), verbose=0)
    assert [shape[0] for shape in plans(model)] == list(range(3, MOST_PLANS + 3))
    many = images(model, 4000)
    y = model.predict(many, batch_size=4000, verbose=0)
    assert (4000, 8, 8, 3) not in plans(model)
    assert np.array_equal(model.predict(many[:5], verbose=0), y[:5])


def trunk(model):
    return model._trainer._inference._program._trunk


IN_PARTS = {
    **MANY_KINDS,
    "depthwise, pooled": [layers.DepthwiseConv2D(3, activation="tanh"), layers.AveragePooling2D(3, strides=2)],
    "separable, groups normalized": [layers.SeparableConv2D(20, 3), layers.GroupNormalization(4)],
    "largest": [layers.Conv2D(8, 3, strides=2, activation="gelu"), layers.GlobalMaxPooling2D(keepdims=True)],
    "dense for each pixel": [layers.Conv2D(8, 3), layers.Dense(7, activation="relu")],
}


@pytest.mark.parametrize("kind", IN_PARTS)
def test_a_batch_too_large_for_a_plan_is_computed_in_parts_with_the_same_bits(kind, monkeypatch):
    stack = [layers.Input((12, 12, 32)), *map(clone, IN_PARTS[kind]), layers.Flatten(), layers.Dense(3)]
    model = filled(gpucnn.Sequential(stack))
    x = images(model, 41)
    expected = model.predict(x, batch_size=41, verbose=0)
    model.predict(x[:11], verbose=0)
    needed = plans(model)[(11, 12, 12, 32)][0]._tape.allocated_bytes
    monkeypatch.setattr(planning, "PLANNED_BYTES", -(-needed // min(threads.in_use(), planning.MOST_THREADS)))
    model.layers[-1].name = "planned_again"
    for _ in range(5):
        assert model.predict(x, batch_size=41, verbose=0).tobytes() == expected.tobytes()
    assert not plans(model)
    sizes = {shape[0] for shape in trunk(model).plans}
    assert len(sizes) == 2
    assert max(sizes) < 41
    twice = np.concatenate([x, x])
    assert model.predict(twice, batch_size=41, verbose=0).tobytes() == 2 * expected.tobytes()
    model.weights[0].value[...] *= 2
    after = model.predict(x, batch_size=41, verbose=0)
    assert model.predict(twice, batch_size=41, verbose=0).tobytes() == 2 * after.tobytes()
    assert after.tobytes() == copy.deepcopy(model).predict(x, batch_size=41, verbose=0).tobytes() != expected.tobytes()


def test_a_layer_of_the_users_meets_the_whole_batch(monkeypatch):
    class Centred(layers.Layer):
        def forward(self, x, step, training):
            return x - x.mean(axis=0), None

    monkeypatch.setattr(planning, "PLANNED_BYTES", 1)
    model = filled(gpucnn.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), Centred()]))
    for _ in range(3):
        assert np.abs(model.predict(images(model, 32), verbose=0).mean(axis=0)).max() <= 1e-6


def test_a_part_has_as_many_images_as_there_are_slices_at_least(monkeypatch):
    monkeypatch.setattr(planning, "PLANNED_BYTES", 1)
    model = normalized()
    for _ in range(8):
        model.predict(images(model, 31), batch_size=31, verbose=0)
    assert {shape[0] for shape in trunk(model)._excess} == {10, 11}
    assert not trunk(model).plans


def test_a_plan_in_use_is_not_lent_to_another_thread():
    model = normalized()
    for _ in range(2):
        model.predict(images(model), verbose=0)
    program = model._trainer._inference._program.whole
    assert program.free_plan((3, 8, 8, 3)) is not None
    assert program.free_plan((3, 8, 8, 3)) is None


def test_a_layer_that_computes_outside_of_ops_is_called_each_time(monkeypatch):
    monkeypatch.setattr(layers.Rescaling, "forward", lambda self, x, step, training: (x + 1, None))
    model = filled(gpucnn.Sequential([layers.Input((4,)), layers.Rescaling(1.0), layers.Dense(3)]))
    for i in range(3):
        x = images(model, 2) + i
        np.testing.assert_allclose(model.predict(x, verbose=0), layer_by_layer(model, x), rtol=1e-6)
    assert not plans(model)


class Bounded(layers.Layer):
    """A layer of the user's, which computes with its weights outside of ops."""

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 2))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 2)

    def forward(self, x, step, training):
        return matmul(x, np.tanh(self.kernel.value), transpose_a=False, transpose_b=False), None


def test_a_layer_of_the_users_follows_its_weights():
    model = filled(gpucnn.Sequential([layers.Input((4,)), Bounded()]))
    x = images(model, 2)
    for _ in range(3):
        model.set_weights([w * 0.5 for w in model.get_weights()])
        assert np.array_equal(model.predict(x, verbose=0), layer_by_layer(model, x))


class Shifted(layers.Layer):
    """A layer of the user's, which computes outside of ops."""

    def forward(self, x, step, training):
        return x + 1, lambda dy, need_dx=True: dy


def test_a_layer_of_the_users_is_called_each_time():
    model = filled(gpucnn.Sequential([layers.Input((4,)), Shifted(), layers.Dense(3)]))
    for i in range(3):
        x = images(model, 2) + i
        np.testing.assert_allclose(model.predict(x, verbose=0), layer_by_layer(model, x), rtol=1e-6)
    assert not plans(model)


def test_an_activation_of_the_users_is_called_each_time():
    model = filled(
        gpucnn.Sequential(
            [layers.Input((4,)), layers.Dense(3), layers.Activation(lambda z: (z * z + 1, lambda dy: 2 * z * dy))]
        )
    )
    for i in range(3):
        x = images(model, 2) + i
        np.testing.assert_allclose(model.predict(x, verbose=0), layer_by_layer(model, x), rtol=1e-6)
    assert not plans(model)


def test_threads_that_predict_at_once_get_their_own_results():
    model = normalized()
    x = images(model, 40)
    expected = [model.predict(x[i : i + 1], verbose=0) for i in range(40)]
    wrong = []

    def predict(first):
        for _ in range(20):
            for i in range(first, 40, 2):
                if not np.array_equal(model.predict(x[i : i + 1], verbose=0), expected[i]):
                    wrong.append(i)

    helpers = [threading.Thread(target=predict, args=(first,)) for first in range(2)]
    for thread in helpers:
        thread.start()
    for thread in helpers:
        thread.join()
    assert not wrong


def test_a_copy_of_a_model_predicts_with_its_own_weights():
    model = normalized()
    x = images(model)
    y = model.predict(x, verbose=0)
    other = copy.deepcopy(model)
    model.set_weights([w * 0.5 for w in model.get_weights()])
    assert np.array_equal(other.predict(x, verbose=0), y)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_predictions_of_many_images_do_not_copy_them(dtype):
    model = normalized()
    x = (images(model, 1) * 2).astype(dtype).repeat(10_000, axis=0)
    model.predict(x[:256], batch_size=256, verbose=0)
    tracemalloc.start()
    model.predict(x, batch_size=256, verbose=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000 * 8 * 8 * 3 * 4 / 4


def test_a_normalization_that_is_not_folded_keeps_its_plan():
    model = filled(gpucnn.Sequential([layers.Input((4, 4, 2)), layers.BatchNormalization(), layers.Flatten()]))
    x = images(model)
    model.predict(x, verbose=0)
    (free,) = plans(model).values()
    model.predict(x, verbose=0)
    assert list(plans(model).values()) == [free]
