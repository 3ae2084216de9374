"""x, y and sample_weight as they are passed, and the batches made of them."""

import numpy as np
import pytest

from gpucnn.errors import ArgumentError, DataError
from gpucnn.models import batches


class FromElsewhere:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def all_of(data):
    return list(data.epoch(None))


def test_arrays_of_other_libraries_come_in_by_dlpack():
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    data = batches.as_batches(FromElsewhere(array), None, None, 2, None, None)
    np.testing.assert_array_equal(np.concatenate([b.x for b in all_of(data)]), array)


def test_lists_of_numbers_are_arrays_and_lists_of_batches_are_batches():
    assert isinstance(batches.as_batches([[1.0, 2.0], [3.0, 4.0]], [0, 1], None, None, None, None), batches.Arrays)
    images = np.zeros((2, 4, 4, 1), np.float32)
    assert isinstance(batches.as_batches([images, images], None, None, None, None, None), batches.Stream)


def test_batches_are_float32_and_labels_keep_their_integers():
    data = batches.as_batches(np.zeros((5, 2)), np.arange(5), np.ones(5), 2, None, None)
    first, *_ = pieces = all_of(data)
    assert [len(b.x) for b in pieces] == [2, 2, 1]
    assert {b.x.dtype for b in pieces} == {np.dtype(np.float32)}
    assert first.y.dtype == np.arange(5).dtype
    assert first.weight.dtype == np.float32


@pytest.mark.parametrize("shape", [(6, 4), (6,), (6, 2, 2), (6, 2, 2, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint32, bool, np.float16, np.float64])
def test_inputs_of_any_type_and_shape_become_float32(dtype, shape):
    x = (np.arange(np.prod(shape)).reshape(shape) % 5).astype(dtype)
    order = np.array([5, 3, 1, 0, 2, 4])
    label = np.float32 if np.dtype(dtype).kind == "f" or len(shape) > 2 else dtype
    streamed = batches.as_batches([(x, x)], None, None, None, 1, None).epoch(None)
    shuffled = batches.as_batches(x, x, None, 4, None, None).epoch(order)
    for data, expected in ((list(streamed), x), (list(shuffled), x[order])):
        assert {batch.x.dtype for batch in data} == {np.dtype(np.float32)}
        assert {batch.y.dtype for batch in data} == {np.dtype(label)}
        np.testing.assert_array_equal(np.concatenate([batch.x for batch in data]), expected)


def test_steps_limit_a_stream_and_default_to_its_length():
    pieces = [np.zeros((2, 3), np.float32)] * 4
    assert batches.Stream(pieces, None, None).steps == 4
    assert len(all_of(batches.Stream(pieces, 3, None))) == 3


def test_first_of_a_generator_is_put_back():
    data = batches.Stream((np.full((1, 1), i, np.float32) for i in range(3)), None, None)
    assert data.first().x == 0
    assert [b.x.item() for b in all_of(data)] == [0, 1, 2]


def test_an_array_without_axes_holds_no_sample():
    with pytest.raises(DataError, match="no sample"):
        batches.as_batches(np.float32(3), None, None, None, None, None)


def test_class_weight_needs_classes():
    with pytest.raises(ArgumentError, match="class numbers or one-hot"):
        batches.class_weights({0: 1.0}, np.array([0.5, 0.25]))


def test_validation_split_of_targets_that_are_not_classes_does_not_warn(recwarn):
    x = np.arange(10.0)
    head, tail = batches.split_off(0.3, x, x / 7, None)
    assert (len(head[0]), len(tail[1]), head[2]) == (7, 3, None)
    batches.split_off(0.3, x, None, None)
    assert not list(recwarn)


def test_only_images_that_look_like_bytes_are_called_unscaled(recwarn):
    assert not batches.warn_if_unscaled(np.full((2, 8), 200.0))
    assert not batches.warn_if_unscaled(np.full((2, 8, 8, 1), -3.0))
    assert not batches.warn_if_unscaled(np.full((2, 8, 8, 1), 4000.0))
    assert not batches.warn_if_unscaled(np.ones((2, 8, 8, 1), bool))
    assert not list(recwarn)


def test_images_of_different_sizes_are_named():
    with pytest.raises(DataError, match="all images must have one size"):
        batches.as_batches([np.zeros((3, 3)), np.zeros((4, 4))], None, None, None, None, None)
