"""Whatever changes between two epochs, two batches or two calls of fit, no recorded step is replayed
with what held before."""

import numpy as np
import pytest

import gpucnn
from gpucnn import callbacks, constraints, layers, losses, optimizers, regularizers
from gpucnn.devices import emulator

NO_EMULATOR = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
DEVICES = [pytest.param("emulator", marks=NO_EMULATOR), "cpu"]

RNG = np.random.default_rng(5)
X = RNG.random((24, 6), np.float32)
Y = RNG.random((24, 3), np.float32)


def build(optimizer, regularizer="l2"):
    gpucnn.utils.set_random_seed(3)
    model = gpucnn.Sequential(
        [
            gpucnn.Input((6,)),
            layers.Dense(5, activation="tanh", kernel_regularizer=regularizer, kernel_constraint="max_norm"),
            layers.Dropout(0.25),
            layers.Dense(3),
        ]
    )
    model.compile(optimizer, losses.Huber(0.1))
    return model


def sgd(**settings):
    return build(optimizers.SGD(0.05, **{"momentum": 0.9, **settings}))


def build_plain():
    return build("sgd", None)


def adamw():
    return build(optimizers.AdamW(0.05, weight_decay=0.1))


def set_weights(model):
    model.set_weights([0.5 * w for w in model.get_weights()])


def assign_weight(model):
    model.layers[-1].bias.assign(np.full(3, 0.2, np.float32))


def on(path, value):
    """A function that sets an attribute of a model, or an attribute of one of its attributes."""

    def change(model):
        *owners, name = path.split(".")
        for owner in owners:
            model = model.layers[int(owner)] if owner.isdigit() else getattr(model, owner)
        setattr(model, name, value)

    return change


CHANGES = {
    "the learning rate": (sgd, on("optimizer.learning_rate", 0.2)),
    "momentum": (sgd, on("optimizer.momentum", 0.3)),
    "momentum by a number of NumPy": (sgd, on("optimizer.momentum", np.float32(0.3))),
    "nesterov": (sgd, on("optimizer.nesterov", True)),
    "the bound of gradients": (lambda: sgd(clipvalue=1.0), on("optimizer.clipvalue", 1e-4)),
    "weight_decay": (adamw, on("optimizer.weight_decay", 0.9)),
    "beta_1": (adamw, on("optimizer.beta_1", 0.2)),
    "trainable": (sgd, on("0.trainable", False)),
    "a rate of dropout": (sgd, on("1.rate", 0.75)),
    "all weights by hand": (sgd, set_weights),
    "one weight by hand": (sgd, assign_weight),
    "how strong a regularizer is": (sgd, on("0.kernel.regularizer.l2", 0.9)),
    "which regularizer there is": (sgd, on("0.kernel.regularizer", regularizers.L1(0.5))),
    "a regularizer where there was none": (sgd, on("2.kernel.regularizer", regularizers.L2(0.5))),
    "the only regularizer": (sgd, on("0.kernel.regularizer", None)),
    "the first regularizer": (build_plain, on("2.kernel.regularizer", regularizers.L2(0.5))),
    "the limit of a constraint": (sgd, on("0.kernel.constraint.max_value", 0.1)),
    "which constraint there is": (sgd, on("0.kernel.constraint", constraints.NonNeg())),
    "a setting of the loss": (sgd, on("loss.delta", 2.0)),
}


@pytest.fixture(autouse=True, params=DEVICES)
def device(request):
    gpucnn.use("auto", device=request.param)
    return request.param


def outcome(monkeypatch, graph, make, run):
    monkeypatch.setenv("GPUCNN_GRAPH", graph)
    model = make()
    return run(model), model.get_weights()


def assert_replayed_as_launched(monkeypatch, make, run):
    (recorded, ours), (launched, theirs) = (outcome(monkeypatch, graph, make, run) for graph in ("1", "0"))
    assert recorded == launched
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    return ours


@pytest.mark.parametrize("when", ["calls", "epochs", "batches"])
@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_a_change_counts_from_the_next_step_on(monkeypatch, device, make, change, when):
    batch_size, place = (8, 0) if device == "emulator" else (3, 4)  # on the CPU the second step is recorded

    def run(model, change=change):
        if when == "calls":
            before = model.fit(X, Y, batch_size=batch_size, verbose=0).history
            change(model)
            return before, model.fit(X, Y, batch_size=batch_size, verbose=0).history
        hooks = {
            "epochs": {"on_epoch_begin": lambda epoch, logs=None: change(model) if epoch == 1 else None},
            "batches": {"on_train_batch_end": lambda batch, logs=None: change(model) if batch == place else None},
        }[when]
        watching = [callbacks.LambdaCallback(**hooks)]
        return model.fit(X, Y, epochs=2, batch_size=batch_size, verbose=0, callbacks=watching).history

    changed = assert_replayed_as_launched(monkeypatch, make, run)
    _, unchanged = outcome(monkeypatch, "1", make, lambda model: run(model, lambda model: None))
    assert any((a != b).any() for a, b in zip(changed, unchanged, strict=True)), "the change shows"


def test_class_weights_of_another_fit_count(monkeypatch):
    labels = np.arange(24) % 3

    def make():
        model = sgd()
        model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    def run(model):
        weights = ({0: 1.0, 1: 2.0}, {0: 5.0}, None)
        return [model.fit(X, labels, batch_size=4, verbose=0, class_weight=w).history for w in weights]

    assert_replayed_as_launched(monkeypatch, make, run)
