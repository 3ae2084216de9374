"""A tiny stand-in for the model, and the epochs that it trains."""

import numpy as np

from gpucnn import callbacks, metrics


class Optimizer:
    def __init__(self, learning_rate=0.1):
        self.learning_rate = learning_rate


class StandIn:
    """What callbacks see of a model."""

    def __init__(self, *names):
        self.metrics = [metrics.get(name, (1,), (1, 2)) for name in names]
        self.optimizer = Optimizer()
        self.stop_training = False
        self.weights = [np.zeros(1)]
        self.saved = []
        self.history = None

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = weights

    def save(self, path, overwrite):
        self.saved.append(("model", path, overwrite))

    def save_weights(self, path, overwrite):
        self.saved.append(("weights", path, overwrite))


def run(callback, epochs, model=None, before=lambda model, epoch: None, start=0):
    """`fit` as callbacks see it, with these logs at the ends of epochs; returns the model and the logs afterwards."""
    model = model or StandIn("accuracy")
    hooks = callbacks.CallbackList([callback], model=model, epochs=len(epochs), steps=1)
    seen = []
    hooks.on_train_begin()
    for epoch, logs in enumerate(epochs, start):
        before(model, epoch)
        logs = dict(logs)
        hooks.on_epoch_begin(epoch)
        hooks.on_epoch_end(epoch, logs)
        seen.append(logs)
        if model.stop_training:
            break
    hooks.on_train_end(seen[-1])
    return model, seen


def follows_batches(hooks):
    """Whether training has to call the hooks of each batch."""
    return hooks.follows("on_train_batch_begin") or hooks.follows("on_train_batch_end")


def by_name(name, *values):
    """The logs of epochs in which only this value was logged."""
    return [{name: value} for value in values]
