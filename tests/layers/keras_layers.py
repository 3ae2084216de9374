"""Layers compared with the layers of Keras that have the same name and arguments."""

import numpy as np
import pytest

from gpucnn import layers


def assert_as_in_keras(name, shape, tolerance=1e-5, training=False, **arguments):
    """Values, gradients of x and of all weights, for random weights; skips where Keras is not installed."""
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch, on which Keras computes here, is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras computes on another backend: set KERAS_BACKEND=torch")
    rng = np.random.default_rng(0)
    ours, theirs = getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)
    ours.ensure_built((None, *shape[1:]))
    theirs.build((None, *shape[1:]))
    assert [tuple(w.shape) for w in theirs.weights] == [w.shape for w in ours.weights]
    assert [w.name for w in theirs.weights] == [w.name for w in ours.weights]
    assert [w.value.detach().numpy().std() == 0 for w in theirs.weights] == [w.numpy().std() == 0 for w in ours.weights]
    values = [rng.uniform(0.2, 1.2, w.shape).astype(np.float32) for w in ours.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    y, backward = ours.forward(x, np.zeros(1, np.int64), training)
    assert y.shape == ours.compute_output_shape(x.shape)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = theirs(tensor, training=training)
    dy = rng.uniform(-1, 1, y.shape).astype(np.float32)
    expected.backward(torch.from_numpy(dy))
    scale = max(1.0, np.abs(y).max())
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=tolerance * scale)
    dx = backward(dy)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=0, atol=tolerance * max(1.0, np.abs(dx).max()))
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        if mine.trainable:
            gradient = other.value.grad.numpy()
            atol = tolerance * max(1.0, np.abs(gradient).max())
            np.testing.assert_allclose(mine.gradient, gradient, rtol=0, atol=atol, err_msg=mine.name)
