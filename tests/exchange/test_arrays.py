"""Arrays of other libraries go into fit and predict, and weights go out, without a copy where that is possible."""

import numpy as np
import pytest
from needs import jax_here, torch_here

from gpucnn import Input, Sequential, layers
from gpucnn.arguments import numbers
from gpucnn.errors import DataError


@pytest.fixture
def model(small_model):
    return small_model()


@torch_here
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_tensors_train_and_predict_like_arrays(small_model, problem, dtype):
    import torch

    x, y = problem[0].astype(dtype), problem[1]
    first, second = small_model(), small_model()
    second.set_weights(first.get_weights())
    history = first.fit(x, y, epochs=2, verbose=0, sample_weight=np.ones(len(x)))
    tensors = (torch.from_numpy(a) for a in (x, y, np.ones(len(x))))
    xt, yt, weights = tensors
    assert second.fit(xt, yt, epochs=2, verbose=0, sample_weight=weights).history == history.history
    np.testing.assert_array_equal(second.predict(xt, verbose=0), first.predict(x, verbose=0))
    np.testing.assert_array_equal(second(xt), first(x))
    assert second.evaluate(xt, yt, verbose=0) == first.evaluate(x, y, verbose=0)


@torch_here
def test_batches_of_a_data_loader_train(model, problem):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = map(torch.from_numpy, problem)
    history = model.fit(DataLoader(TensorDataset(x, y), batch_size=32), epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


@torch_here
def test_a_tensor_that_is_not_contiguous_is_read_in_its_order(model, problem):
    import torch

    x = problem[0]
    turned = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 1, 3))).permute(0, 2, 1, 3)
    assert not turned.is_contiguous()
    np.testing.assert_array_equal(model.predict(turned, verbose=0), model.predict(x, verbose=0))


@torch_here
def test_a_tensor_that_requires_a_gradient_says_what_to_do(model, problem):
    import torch

    x, y = torch.from_numpy(problem[0]).requires_grad_(), torch.from_numpy(problem[1])
    for call in (lambda: model.predict(x, verbose=0), lambda: model.fit(x, y, verbose=0), lambda: model(x)):
        with pytest.raises(DataError, match=r"x is a tensor that requires a gradient: give x\.detach\(\)"):
            call()
    weights = torch.ones(len(y), requires_grad=True)
    with pytest.raises(DataError, match=r"give sample_weight\.detach\(\)"):
        model.fit(x.detach(), y, sample_weight=weights, verbose=0)


@torch_here
def test_types_that_numpy_lacks_are_named(model, problem):
    import torch

    x = torch.from_numpy(problem[0]).to(torch.bfloat16)
    with pytest.raises(DataError, match=r"x is a Tensor of torch\.bfloat16 that NumPy cannot read: convert it"):
        model.predict(x, verbose=0)


@jax_here
def test_arrays_of_jax_train_and_predict_like_arrays(small_model, problem):
    import jax.numpy as jnp

    x, y = problem
    first, second = small_model(), small_model()
    second.set_weights(first.get_weights())
    history = first.fit(x, y, epochs=2, verbose=0)
    assert second.fit(jnp.asarray(x), jnp.asarray(y), epochs=2, verbose=0).history == history.history
    np.testing.assert_array_equal(second.predict(jnp.asarray(x), verbose=0), first.predict(x, verbose=0))


class OnGpu:
    """An array on a GPU, as other libraries show it; `kind` is the way it is copied."""

    def __init__(self, array, kind):
        self._array, self.dtype = array, array.dtype
        if kind in ("cpu", "get"):
            setattr(self, kind, lambda: array)
        if kind == "interface":
            self.get = lambda: array
        self.interface = kind == "interface"

    def __getattr__(self, name):
        if name == "__cuda_array_interface__" and self.__dict__.get("interface"):
            return {"version": 3}
        raise AttributeError(name)

    def __array__(self, dtype=None, copy=None):
        return self._array


class WithDlpack(OnGpu):
    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **options):
        raise AssertionError("NumPy cannot read the memory of a GPU")


@pytest.mark.parametrize("kind", ["cpu", "get", "array", "interface"])
def test_arrays_on_a_gpu_are_copied_by_their_library(kind):
    array = np.arange(6.0).reshape(2, 3)
    foreign = OnGpu(array, kind) if kind == "interface" else WithDlpack(array, kind)
    np.testing.assert_array_equal(numbers("x", foreign), array)


def test_memory_of_the_host_is_shared_going_in():
    array = np.arange(6.0)

    class Shared:
        def __dlpack__(self, **options):
            return array.__dlpack__(**options)

        def __dlpack_device__(self):
            return array.__dlpack_device__()

    assert np.shares_memory(numbers("x", Shared()), array)


def test_weights_go_out_by_dlpack_and_share_their_memory(model):
    kernel = model.layers[0].kernel
    assert model.parameters.holds_all
    view = np.from_dlpack(kernel)
    assert np.shares_memory(view, kernel.value)
    np.testing.assert_array_equal(np.asarray(kernel), kernel.numpy())
    assert not hasattr(kernel, "__cuda_array_interface__")


@torch_here
def test_a_change_in_pytorch_changes_the_model():
    import torch

    model = Sequential([Input((2,)), layers.Dense(1, use_bias=False)])
    torch.from_dlpack(model.layers[0].kernel).fill_(3)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2)), verbose=0), [[6.0]])


def test_lists_of_unequal_images_are_still_named():
    with pytest.raises(DataError, match="x is not an array of one shape"):
        numbers("x", [[1.0, 2.0], [3.0]])
