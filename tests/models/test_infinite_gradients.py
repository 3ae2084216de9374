"""A batch whose gradient is not finite, or cannot be squared, ruins nothing, whatever its loss is."""

import contextlib
import math

import needs
import numpy as np
import pytest
from model_files import assert_equal_to_the_bit, state_of

import gpucnn
from gpucnn import Input, Sequential, callbacks, layers, optimizers
from gpucnn.errors import TrainingError
from gpucnn.models.saving import save_checkpoint

X, Y = np.ones((8, 2), np.float32), np.zeros((8, 1), np.float32)
DEVICES = [
    ("auto", "cpu"),
    *(pytest.param(backend, "emulator", marks=needs.emulator_here) for backend in ("cuda", "numba")),
]


@pytest.fixture(autouse=True)
def _without_warnings_of_numpy():
    with np.errstate(all="ignore"):
        yield


def explosive(slope):
    """A loss of 1 for each sample whose gradient is `slope`."""

    def loss(y_true, y_pred):
        return np.ones(len(y_pred), np.float32), lambda dvalues: np.full(y_pred.shape, slope, np.float32)

    return loss


def made(slope, optimizer="adam", **settings):
    model = Sequential([Input((2,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(1)])
    model.compile(optimizer, explosive(slope), **settings)
    model.optimizer.build(model.parameters)
    return model


@pytest.mark.parametrize(("backend", "device"), DEVICES)
@pytest.mark.parametrize("slope", [math.inf, -math.inf, math.nan])
def test_a_finite_loss_with_an_infinite_gradient_changes_nothing(backend, device, slope):
    gpucnn.use(backend, device=device)
    model = made(slope, metrics=["mse"])
    before = {name: np.array(array) for name, array in state_of_any(model).items()}
    words = r"the gradients' norm is (inf|nan) and the loss 1\.0 at epoch 1, batch 0 .*as they were before"
    with pytest.raises(TrainingError, match=words) as caught:
        model.fit(X, Y, verbose=0)
    assert "Largest gradients: " in str(caught.value)
    assert_equal_to_the_bit(state_of_any(model), before)


def state_of_any(model):
    """Weights, moving statistics and optimizer state, from any device."""
    arrays = {weight.path: weight.numpy() for weight in model.weights}
    return arrays | {name: np.array(a) for name, a in model.optimizer.slots(model.parameters).items()}


def test_the_gradient_of_huber_after_an_exponential_is_seen():
    """The loss is 1e37; its gradient by the kernel, 30 times as large, is not a number of float32."""
    model = Sequential([Input((1,)), layers.Dense(1, activation="exponential", kernel_initializer="ones")])
    model.compile("adam", "huber")
    x, y = np.full((4, 1), 88.0, np.float32), np.zeros((4, 1), np.float32)
    before = model.get_weights()
    with pytest.raises(TrainingError, match="the gradients' norm is inf and the loss 1"):
        model.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


SQUARED = [optimizers.Adam, optimizers.AdamW, optimizers.Nadam, optimizers.RMSprop, optimizers.Adagrad]


@pytest.mark.parametrize("make", [*SQUARED, optimizers.Adadelta], ids=lambda cls: cls.__name__)
def test_a_gradient_whose_square_overflows_is_not_taken_where_it_is_squared(make):
    model = made(1e20, make(0.1))
    before = state_of(model)
    with pytest.raises(TrainingError, match=r"the gradients' norm is .*e\+2\d and the loss 1\.0 at .*clipnorm=1\.0"):
        model.fit(X, Y, verbose=0)
    assert_equal_to_the_bit(state_of(model), before)


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(1e-20),
        optimizers.Adam(0.1, clipnorm=1.0),
        optimizers.Adam(0.1, clipvalue=1.0),
        optimizers.RMSprop(0.1, global_clipnorm=1.0),
    ],
)
def test_a_gradient_whose_square_overflows_is_taken_where_it_is_clipped_or_not_squared(optimizer):
    model = made(1e20, optimizer)
    model.fit(X, Y, verbose=0, epochs=3)
    assert all(np.isfinite(array).all() for array in state_of(model).values())


def test_a_large_rate_leaves_no_ruined_weights(rng):
    """Adam at a rate of 1e6: its second moment overflowed, and the weights became NaN."""
    x, y = rng.normal(size=(64, 4)).astype(np.float32) * 30, rng.normal(size=(64, 1)).astype(np.float32)
    for loss in ("mse", "huber"):
        for activation in ("linear", "exponential"):
            model = Sequential([Input((4,)), layers.Dense(8), layers.Dense(1, activation=activation)])
            model.compile(optimizers.Adam(1e6), loss)
            with contextlib.suppress(TrainingError):
                model.fit(x, y, batch_size=8, epochs=3, verbose=0)
            assert all(np.isfinite(array).all() for array in state_of(model).values())


def test_terminate_on_nan_stops_at_such_a_gradient_too(capsys):
    model = made(math.inf)
    before = state_of(model)
    history = model.fit(X, Y, epochs=3, batch_size=4, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert math.isnan(history.history["loss"][0])
    assert capsys.readouterr().out == "Batch 0: the loss is nan, training ends\n"
    assert_equal_to_the_bit(state_of(model), before)
    with pytest.raises(TrainingError, match="the loss is nan at batch 0"):
        made(math.inf).fit(X, Y, verbose=0, callbacks=[callbacks.TerminateOnNaN(raise_error=True)])


def test_gradients_of_frozen_layers_do_not_count():
    model = made(math.inf, "sgd")
    with pytest.raises(TrainingError):
        model.fit(X, Y, verbose=0)
    model.layers[0].trainable = False
    model.compile("sgd", explosive(1.0))
    model.layers[0].weights[0].gradient[...] = math.inf
    model.fit(X, Y, verbose=0)
    model.trainable = False
    model.fit(X, Y, verbose=0)


def test_gradients_of_a_frozen_layer_between_others_are_left_alone():
    model = made(1.0, "sgd")
    model.layers[1].trainable = False
    gamma = model.layers[1].weights[0]
    gamma.gradient[...] = 7.0
    model.parameters.gradient_norms()
    assert (gamma.gradient == 7).all()
    model.layers[0].weights[0].gradient[...] = math.inf
    assert [np.isinf(parts[0]) for parts in model.parameters.gradient_norms()] == [True, False]


def test_no_checkpoint_is_saved_after_it(tmp_path):
    slopes = iter([1.0, math.inf])

    def loss(y_true, y_pred):
        return explosive(next(slopes))(y_true, y_pred)

    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile("sgd", loss)
    backup = callbacks.BackupAndRestore(tmp_path, save_freq=1)
    with pytest.raises(TrainingError):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[backup])
    assert model.training_state.batch == 1
    model.load_checkpoint(tmp_path / "latest.safetensors")
    assert model.training_state.batch == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_checkpoint_of_ruined_weights_is_not_written(tmp_path, bad):
    """A rate that is too large for one last step: the next loss would not be finite."""
    model = made(1.0, "sgd")
    save_checkpoint(tmp_path / "c.safetensors", model)
    before = (tmp_path / "c.safetensors").read_bytes()
    model.layers[2].weights[1].assign([bad])
    with pytest.raises(TrainingError, match=r"c\.safetensors is not written: the weights dense_1/bias are not finite"):
        save_checkpoint(tmp_path / "c.safetensors", model)
    assert (tmp_path / "c.safetensors").read_bytes() == before
