"""compile, fit, evaluate, predict: Keras' rules and the flow of a step."""

import math

import numpy as np
import pytest
from custom_layer import Scale

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers, losses, metrics, optimizers
from gpucnn.errors import ArgumentError
from gpucnn.models.saving import weights_sha256


def test_a_small_model_learns_the_problem(problem, small_model):
    x, y = problem
    history = small_model(optimizers.Adam(0.01)).fit(x, y, epochs=20, batch_size=16, verbose=0)
    assert history.history["accuracy"][-1] >= 0.95
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    assert history.epoch == list(range(20))


def test_two_runs_with_one_seed_end_with_the_same_bits(problem, small_model):
    x, y = problem
    ends = []
    for seed in (3, 3, 4):
        gpucnn.utils.set_random_seed(seed)
        model = small_model()
        model.fit(x, y, epochs=2, batch_size=20, verbose=0)
        ends.append(weights_sha256(model))
    assert ends[0] == ends[1] != ends[2]


def test_threads_do_not_change_the_bits(problem, small_model):
    from gpucnn.devices import threads

    x, y = problem
    ends = []
    try:
        for count in (1, 2, 3):
            threads.use(count)
            gpucnn.utils.set_random_seed(3)
            model = small_model()
            model.fit(x, y, epochs=1, batch_size=32, verbose=0)
            ends.append(weights_sha256(model))
    finally:
        threads.use()
    assert len(set(ends)) == 1


def test_each_epoch_shuffles_again_and_sees_every_sample_once():
    seen = []

    @gpucnn.register
    class Spy(layers.Layer):
        def forward(self, x, step, training):
            if training:
                seen.append(x[:, 0].copy())
            return x, lambda dy, need_dx=True: dy

    x = np.arange(10, dtype=np.float32).reshape(10, 1)
    model = Sequential([Input((1,)), Spy(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x / 1000, x, batch_size=4, epochs=2, verbose=0)
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert [len(s) for s in seen] == [4, 4, 2, 4, 4, 2]
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    assert (first != second).any()
    assert (first != np.sort(first)).any()
    seen.clear()
    model.fit(x / 1000, x, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_array_equal(np.concatenate(seen), x[:, 0] / np.float32(1000))


def test_one_step_of_sgd_is_the_formula(rng):
    x = rng.standard_normal((6, 3)).astype(np.float32)
    y = rng.standard_normal((6, 2)).astype(np.float32)
    model = Sequential([Input((3,)), layers.Dense(2)])
    w, b = (a.astype(np.float64) for a in model.get_weights())
    model.compile(optimizers.SGD(0.1), "mse")
    loss = model.train_on_batch(x, y)
    error = x @ w + b - y
    assert loss == pytest.approx((error**2).mean(), rel=1e-6)
    dz = 2 * error / error.size
    got = model.get_weights()
    np.testing.assert_allclose(got[0], w - 0.1 * x.T @ dz, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got[1], b - 0.1 * dz.sum(0), rtol=0, atol=1e-6)


def test_gradient_of_a_whole_model_agrees_with_central_differences(rng):
    """In float32 the difference quotient is good to about 1e-2; a wrong term is off by its whole size."""
    model = Sequential(
        [
            Input((6, 6, 2)),
            layers.Conv2D(3, 3, padding="same", activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizers.SGD(0.0), "categorical_crossentropy")
    x = rng.standard_normal((4, 6, 6, 2)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    model.train_on_batch(x, y)
    model.reset_metrics()
    parameters = model.parameters
    analytic = parameters.gradients.copy()
    for segment in parameters.segments:
        for i in rng.choice(segment.size, min(4, segment.size), replace=False):
            at, h = segment.offset + i, np.float32(1e-2)
            old = parameters.values[at]
            quotient = 0.0
            for sign in (1, -1):
                parameters.values[at] = old + sign * h
                quotient += sign * model.test_on_batch(x, y) / (2 * h)
                model.reset_metrics()
            parameters.values[at] = old
            assert abs(quotient - analytic[at]) <= 2e-3 + 2e-2 * abs(analytic[at])


def test_loss_from_logits_is_stable_where_softmax_saturates():
    model = Sequential([Input((2,)), layers.Dense(2, activation="softmax", use_bias=False)])
    model.set_weights([np.eye(2) * 1e4])
    model.compile(optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    loss = model.train_on_batch(np.array([[0.0, 1.0]]), np.array([0]))
    assert loss == pytest.approx(1e4, rel=1e-5)
    gradient = model.weights[0].gradient
    np.testing.assert_allclose(gradient, [[0, 0], [-1, 1]], atol=1e-6)
    np.testing.assert_allclose(model.predict(np.array([[0.0, 1.0]]), verbose=0), [[0, 1]])


def test_evaluate_agrees_with_the_loss_class_on_the_predictions(problem, small_model):
    x, y = problem
    model = small_model()
    loss, accuracy = model.evaluate(x, y, batch_size=40, verbose=0)
    p = model.predict(x, verbose=0)
    assert loss == pytest.approx(float(losses.SparseCategoricalCrossentropy()(y, p)), rel=1e-5)
    assert accuracy == (p.argmax(1) == y).mean()
    assert model.evaluate(x, y, verbose=0, return_dict=True).keys() == {"loss", "accuracy"}


def test_evaluate_without_metrics_returns_one_number(problem, small_model):
    x, y = problem
    assert isinstance(small_model(metrics=()).evaluate(x, y, verbose=0), float)


def test_predictions_do_not_depend_on_the_batch_size(problem, small_model):
    x, _ = problem
    model = small_model()
    np.testing.assert_allclose(
        model.predict(x, batch_size=7, verbose=0), model.predict(x, batch_size=96, verbose=0), rtol=1e-5, atol=1e-7
    )


def test_input_arrays_are_never_written_to(problem, small_model):
    x, y = problem
    x.setflags(write=False)
    y.setflags(write=False)
    weight = np.ones(len(x), np.float32)
    weight.setflags(write=False)
    model = small_model()
    model.fit(x, y, sample_weight=weight, validation_split=0.25, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)


def test_validation_split_holds_out_the_last_samples_before_shuffling(problem, small_model):
    x, y = problem
    model = small_model()
    history = model.fit(x, y, validation_split=0.25, epochs=1, verbose=0)
    expected = model.evaluate(x[72:], y[72:], verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(expected[0], rel=1e-6)
    assert history.history["val_accuracy"][-1] == expected[1]


def test_validation_split_warns_when_a_class_is_not_held_out(problem, small_model):
    x, y = problem
    order = np.argsort(y, kind="stable")
    with pytest.warns(UserWarning, match="class 0, 1, 2 is not among them"):
        small_model().fit(x[order], y[order], validation_split=0.1, verbose=0)


def test_validation_data_and_frequency(problem, small_model):
    x, y = problem
    history = small_model().fit(x, y, validation_data=(x, y), validation_freq=2, epochs=4, verbose=0)
    assert len(history.history["val_loss"]) == 2
    assert len(history.history["loss"]) == 4
    history = small_model().fit(x, y, validation_data=(x, y, np.ones(96)), validation_freq=[3], epochs=3, verbose=0)
    assert len(history.history["val_loss"]) == 1


def test_class_weight_equals_sample_weight(problem, small_model):
    x, y = problem
    ends = []
    for settings in ({"class_weight": {0: 2.0, 3: 0.5}}, {"sample_weight": np.choose(y, [2.0, 1.0, 1.0, 0.5])}):
        gpucnn.utils.set_random_seed(1)
        model = small_model()
        model.fit(x, y, verbose=0, **settings)
        ends.append(weights_sha256(model))
    assert ends[0] == ends[1]


def test_regularization_is_part_of_the_loss(rng):
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    model = Sequential([Input((3,)), layers.Dense(2, kernel_regularizer=gpucnn.regularizers.L1L2(0.1, 0.2))])
    model.compile("sgd", "mse")
    w = model.get_weights()[0].astype(np.float64)
    plain = ((model.predict(x, verbose=0) - y) ** 2).mean()
    expected = plain + 0.1 * np.abs(w).sum() + 0.2 * (w**2).sum()
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.test_on_batch(x, y) == pytest.approx(expected, rel=1e-5)


def test_activity_regularizer_adds_its_penalty_per_image_and_its_gradient(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    y = np.zeros((4, 2), np.float32)
    model = Sequential([Input((3,)), layers.Dense(2, activity_regularizer=gpucnn.regularizers.L2(0.3))])
    model.compile(optimizers.SGD(0.0), "mse")
    out = model.predict(x, verbose=0).astype(np.float64)
    loss = model.train_on_batch(x, y)
    assert loss == pytest.approx((out**2).mean() + 0.3 * (out**2).sum() / 4, rel=1e-5)
    slope = 2 * out / out.size + 0.6 * out / 4
    np.testing.assert_allclose(model.weights[0].gradient, x.T @ slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_a_table_of_integers_trains_as_its_floats(dtype, rng):
    x, y = rng.integers(0, 2, (20, 6)).astype(dtype), rng.integers(0, 3, 20)
    ends = []
    for given in (x, x.astype(np.float32)):
        gpucnn.utils.set_random_seed(0)
        model = Sequential([Input((6,)), layers.Dense(3, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(given, y, batch_size=8, validation_split=0.25, verbose=0).history
        batches = (given[:10], given[10:])
        ends.append(
            (
                weights_sha256(model),
                history,
                model.evaluate(given, y, verbose=0),
                model.predict(given, verbose=0).tolist(),
                model.predict(iter(batches), verbose=0).tolist(),
                model.train_on_batch(given, y),
                model(given).tolist(),
            )
        )
    assert ends[0] == ends[1]


def test_steps_per_execution_groups_the_batch_hooks(problem, small_model):
    x, y = problem
    calls = []

    class Spy(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            calls.append(batch)

    small_model(steps_per_execution=3).fit(x, y, batch_size=12, verbose=0, callbacks=[Spy()])
    assert calls == [2, 5, 7]


def test_generators_and_iterables_feed_batches(problem, small_model):
    x, y = problem

    def forever():
        while True:
            for i in range(0, 96, 32):
                yield x[i : i + 32], y[i : i + 32]

    gpucnn.utils.set_random_seed(2)
    a = small_model()
    a.fit(forever(), steps_per_epoch=3, epochs=2, verbose=0)
    gpucnn.utils.set_random_seed(2)
    b = small_model()
    b.fit([(x[i : i + 32], y[i : i + 32], np.ones(32)) for i in range(0, 96, 32)], epochs=2, verbose=0)
    gpucnn.utils.set_random_seed(2)
    c = small_model()
    c.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    assert weights_sha256(a) == weights_sha256(b) == weights_sha256(c)
    assert a.evaluate(forever(), steps=3, verbose=0) == c.evaluate(x, y, batch_size=32, verbose=0)
    np.testing.assert_array_equal(
        a.predict((x[i : i + 32] for i in range(0, 96, 32)), verbose=0), c.predict(x, batch_size=32, verbose=0)
    )


def test_initial_epoch_counts_on(problem, small_model):
    x, y = problem
    assert small_model().fit(x, y, epochs=5, initial_epoch=3, verbose=0).epoch == [3, 4]


def test_second_fit_continues_with_other_shuffles(problem, small_model):
    x, y = problem
    gpucnn.utils.set_random_seed(5)
    whole = small_model()
    whole.fit(x, y, epochs=2, batch_size=32, verbose=0)
    gpucnn.utils.set_random_seed(5)
    parts = small_model()
    parts.fit(x, y, epochs=1, batch_size=32, verbose=0)
    parts.fit(x, y, epochs=1, batch_size=32, verbose=0)
    assert weights_sha256(whole) == weights_sha256(parts)


def test_stop_training_stops_after_the_batch(problem, small_model):
    x, y = problem

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model = small_model()
    history = model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[Stop()])
    assert int(model.optimizer.iterations[0]) == 2
    assert len(history.epoch) == 1


def test_terminate_on_nan_stops_without_an_error(problem, small_model):
    x, y = problem
    x = np.full_like(x, np.inf)
    with np.errstate(all="ignore"):
        history = small_model().fit(x, y, epochs=3, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert len(history.epoch) == 1
    assert not math.isfinite(history.history["loss"][0])


def test_train_on_batch_reports_running_means_until_reset(problem, small_model):
    x, y = problem
    model = small_model(optimizer=optimizers.SGD(0.0))
    first = model.train_on_batch(x[:32], y[:32], return_dict=True)
    assert first.keys() == {"loss", "accuracy"}
    both = model.train_on_batch(x[32:64], y[32:64])
    model.reset_metrics()
    second = model.train_on_batch(x[32:64], y[32:64], class_weight={0: 1.0})
    assert both[1] == pytest.approx((first["accuracy"] + second[1]) / 2, abs=0.2)
    assert model.predict_on_batch(x[:3]).shape == (3, 4)
    assert len(model.test_on_batch(x[:3], y[:3])) == 2


def test_weighted_metrics_see_the_weights_and_metrics_do_not(problem, small_model):
    x, y = problem
    weight = np.where(y == 0, 0.0, 1.0)
    model = small_model(metrics=(metrics.SparseCategoricalAccuracy(name="plain"),), weighted_metrics=["accuracy"])
    logs = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    right = model.predict(x, verbose=0).argmax(1) == y
    assert logs["plain"] == pytest.approx(right.mean())
    assert logs["accuracy"] == pytest.approx(right[y != 0].mean())


def test_layer_loss_metric_schedule_and_callback_of_a_user_train(problem):
    x, y = problem

    def squared(y_true, y_pred):
        error = y_pred - np.eye(4, dtype=np.float32)[y_true]
        return (error**2).mean(axis=-1), lambda dvalues: dvalues[:, None] * 2 * error / 4

    def hit(y_true, y_pred):
        return (y_pred.argmax(-1) == y_true).astype(np.float32)

    seen = []

    class Watch(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs["hit"]))

    @gpucnn.register
    class Halving(optimizers.schedules.LearningRateSchedule):
        def __init__(self, start):
            self.start = start

        def __call__(self, step):
            return self.start * 0.999**step

    model = Sequential([Input((8, 8, 1)), layers.Flatten(), Scale(), layers.Dense(4, activation="softmax")])
    model.compile(optimizers.Adam(Halving(0.02)), squared, metrics=[hit])
    model.fit(x, y, epochs=25, verbose=0, callbacks=[Watch()])
    assert seen[-1][1] >= 0.9
    assert (model.layers[1].gamma.value != 1).any()


def test_one_callback_needs_no_list(problem, small_model):
    seen = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    small_model().fit(*problem, verbose=0, callbacks=watch)
    assert seen == [0]


def test_metrics_of_one_name_are_numbered(problem, small_model):
    model = small_model(metrics=["accuracy", metrics.SparseTopKCategoricalAccuracy(1, name="accuracy")])
    history = model.fit(*problem, verbose=0)
    assert list(history.history) == ["loss", "accuracy", "accuracy_1"]
    assert history.history["accuracy"] == history.history["accuracy_1"]


def test_what_callbacks_add_to_the_logs_is_in_the_kept_history(problem, small_model):
    model = small_model()
    kept = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(model.training_state.to_json()["history"]))
    plateau = callbacks.ReduceLROnPlateau(monitor="loss")
    history = model.fit(*problem, epochs=2, verbose=0, callbacks=[plateau, watch])
    assert kept[-1] == history.history
    assert len(kept[0]["learning_rate"]) == 2  # the same list object grew with the second epoch


def test_a_checkpoint_from_before_the_first_fit_resumes(problem, small_model, tmp_path):
    from gpucnn.models.saving import load_checkpoint, save_checkpoint

    model = small_model()
    save_checkpoint(tmp_path / "start.safetensors", model)
    load_checkpoint(tmp_path / "start.safetensors", model)
    assert model.fit(*problem, epochs=1, verbose=0).epoch == [0]


def test_a_checkpoint_of_a_model_with_other_metrics_is_refused(problem, small_model, tmp_path):
    from gpucnn.models.saving import load_checkpoint, save_checkpoint

    model = small_model()
    model.fit(*problem, verbose=0)
    save_checkpoint(tmp_path / "one.safetensors", model)
    other = small_model(metrics=())
    load_checkpoint(tmp_path / "one.safetensors", other)
    with pytest.raises(ArgumentError, match="1 metrics and the model was compiled with 0"):
        other.fit(*problem, epochs=2, verbose=0)
