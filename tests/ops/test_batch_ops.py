"""The batch that a step picks on the device: which samples, in which order, scaled how; the counters; the metrics."""

import numpy as np
import pytest

from gpucnn import metrics, random
from gpucnn.devices import storage
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.batch import count_correct, count_correct_binary, gather_batch

KEY = {"first": 0, "ring": 0, "seed": 2**63 + 77, "stream": 5, "shuffle": True}


def run(op, *arrays, **params):
    return storage.get(op(*(storage.put(np.ascontiguousarray(a)) for a in arrays), **params))


def gathered(epoch, batch, rows, images, labels=None, table=None, steps=10, total=0, **more):
    """All results on the host."""
    params = {"rows": rows, "batch_size": rows, "steps": steps} | KEY | more
    arrays = [None if a is None else storage.put(a) for a in (images, labels, None, table)]
    return [storage.get(a) for a in gather_batch(storage.put(np.array([batch, epoch, total])), *arrays, **params)]


def labels_of(labels, epoch, batch, rows, **more):
    return gathered(epoch, batch, rows, np.zeros((len(labels), 1), np.uint8), labels, **more)[2]


def images_of(images, epoch, batch, rows, **more):
    return gathered(epoch, batch, rows, images, **more)[0]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_the_order_is_that_of_the_permutation(backend, n):
    """The labels are the numbers of the samples; one batch is the whole epoch."""
    labels = np.arange(n, dtype=np.int32)
    for epoch in range(20):
        order = random.permutation(n, seed=KEY["seed"], epoch=epoch, stream=KEY["stream"])
        assert np.array_equal(labels_of(labels, epoch, 0, n), order)


@pytest.mark.parametrize("epoch", [0, 19])
def test_the_order_of_all_of_mnist(backend, epoch):
    labels = np.arange(60000, dtype=np.int32)
    order = random.permutation(60000, seed=KEY["seed"], epoch=epoch, stream=KEY["stream"])
    assert np.array_equal(labels_of(labels, epoch, 0, 60000), order)


def test_all_bits_of_epoch_and_stream_count(backend):
    """Both give their lower 32 bits; the number of the round takes the uppermost four of the stream's."""
    labels = np.arange(100, dtype=np.int32)
    order = random.permutation(100, seed=KEY["seed"], epoch=2**40 + 3, stream=2**30 + 1)
    assert np.array_equal(labels_of(labels, 3, 0, 100, stream=2**30 + 1), order)
    assert np.array_equal(labels_of(labels, 2**40 + 3, 0, 100, stream=1), order)


def test_batches_cover_the_epoch_once(backend):
    """23 samples in batches of 5: the last has 3 rows."""
    labels = np.arange(23, dtype=np.int32)
    seen = [labels_of(labels, 2, batch, min(5, 23 - 5 * batch), batch_size=5) for batch in range(5)]
    assert [len(part) for part in seen] == [5, 5, 5, 5, 3]
    assert np.array_equal(np.sort(np.concatenate(seen)), labels)


def test_a_part_of_a_batch_is_its_rows_from_the_first_on(backend):
    labels = np.arange(23, dtype=np.int32)
    whole = labels_of(labels, 2, 1, 8)
    assert np.array_equal(labels_of(labels, 2, 1, 3, first=4, batch_size=8), whole[4:7])


def test_a_last_batch_is_filled_up_with_the_first_samples(backend):
    labels = np.arange(7, dtype=np.int32)
    whole = labels_of(labels, 4, 0, 7)
    assert np.array_equal(labels_of(labels, 4, 1, 5), whole[[5, 6, 0, 1, 2]])
    assert labels_of(labels, 4, 1, 5, shuffle=False).tolist() == [5, 6, 0, 1, 2]
    assert labels_of(labels, 4, 2**40, 2, shuffle=False).tolist() == [2**41 % 7, (2**41 + 1) % 7]


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 3, 3), (65, 64, 1), (4099,), ()])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_and_labels_of_a_batch_belong_together(backend, shape, dtype):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (9, *shape)).astype(dtype)
    labels = np.arange(9, dtype=np.int32)
    chosen = labels_of(labels, 1, 2, 3)
    got = images_of(images, 1, 2, 3)
    assert got.dtype == np.float32
    assert np.array_equal(got, images[chosen].astype(np.float32))


def test_floats_pass_unchanged(backend):
    images = np.array([[np.nan, np.inf, -np.inf, 1.2e-38, 3.4e38]], np.float32)
    assert np.array_equal(images_of(images, 0, 0, 1), images, equal_nan=True)


def test_rows_of_labels_are_copied_whole(backend):
    labels = np.random.default_rng(3).normal(size=(40, 3, 7)).astype(np.float32)
    chosen = labels_of(np.arange(40, dtype=np.int32), 0, 3, 12)
    assert np.array_equal(labels_of(labels, 0, 3, 12), labels[chosen])


def test_a_large_data_set_is_read_at_the_right_place(backend):
    """60000 images of 784 bytes, each with its number in its first and last bytes."""
    images = np.zeros((60000, 784), np.uint8)
    numbers = np.arange(60000)
    images[:, 0] = images[:, -1] = numbers % 251
    images[:, 1] = images[:, -2] = numbers // 251
    chosen = labels_of(np.arange(60000, dtype=np.int32), 0, 467, 128)
    got = images_of(images, 0, 467, 128)
    for first, second in ((0, 1), (-1, -2)):
        assert np.array_equal(got[:, first] + 251 * got[:, second], chosen)


def test_images_of_a_ring_lie_in_the_order_of_the_batches(backend):
    """The host has written the chosen ones into a ring of 10 rows; the labels lie as in the data set."""
    labels, images = np.arange(23, dtype=np.int32), np.zeros((10, 3), np.float32)
    for batch in range(4):
        order = random.permutation(23, seed=KEY["seed"], epoch=2, stream=KEY["stream"])[5 * batch :][:5]
        images[5 * batch % 10 :][:5] = order[:, None]
        x, _, y = gathered(2, batch, 5, images, labels, ring=5)
        assert np.array_equal(x[:, 1], order) and np.array_equal(y, order)


def test_a_step_has_its_row_of_the_table(backend):
    table = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    for batch in range(3):
        assert np.array_equal(gathered(0, batch, 2, np.zeros((9, 1), np.uint8), table=table)[2], table[batch])


def test_gathering_refuses_what_does_not_fit():
    counters, images, labels = np.zeros(3, np.int64), np.zeros((3, 2), np.uint8), np.zeros(3, np.int32)
    good = {"rows": 2, "batch_size": 2, "steps": 2} | KEY
    for refused in (np.zeros(2, np.int64), np.zeros(4, np.int64), np.zeros(3, np.int32), np.zeros((1, 3), np.int64)):
        with pytest.raises(ShapeError, match="3 int64"):
            gather_batch(refused, images, labels, None, None, **good)
    with pytest.raises(ShapeError, match="one sample or more"):
        gather_batch(counters, images[:0], None, None, None, **good)
    with pytest.raises(ShapeError, match=r"as many samples as each other: \[\(3, 2\), \(2,\)\]"):
        gather_batch(counters, images, labels[:2], None, None, **good)
    with pytest.raises(ShapeError, match=r"as many samples as each other: \[\(3, 2\), \(3,\), \(2,\)\]"):
        gather_batch(counters, images, labels, np.zeros(2, np.float32), None, **good | {"ring": 2})
    with pytest.raises(ShapeError, match=r"two axes \(steps, columns\)"):
        gather_batch(counters, images, None, None, np.zeros(3, np.float32), **good)
    with pytest.raises(ArgumentError, match="first=0, rows=3 of batch_size=2"):
        gather_batch(counters, images, labels, None, None, **good | {"rows": 3})
    with pytest.raises(ArgumentError, match="steps=0"):
        gather_batch(counters, images, labels, None, None, **good | {"steps": 0})
    with pytest.raises(ArgumentError, match="seed="):
        gather_batch(counters, images, labels, None, None, **good | {"seed": 2**64})
    with pytest.raises(ShapeError, match="must be uint8 or floating-point"):
        gather_batch(counters, images.astype(np.int32), None, None, None, **good)


def test_counters_go_through_epochs(backend):
    counters, images, seen = np.array([0, 2**40, 0]), np.zeros((6, 1), np.uint8), []
    for _ in range(7):
        counters = gathered(counters[1], counters[0], 2, images, steps=3, total=counters[2])[1]
        seen.append((counters - [0, 2**40, 0]).tolist())
    assert seen == [[1, 0, 1], [2, 0, 2], [0, 1, 3], [1, 1, 4], [2, 1, 5], [0, 2, 6], [1, 2, 7]]


def test_counting_by_hand(backend):
    """Ties go to the first, NaN is the largest, and -0 ties with 0."""
    nan, inf = np.nan, np.inf
    scores = [
        [1, 3, 2],
        [5, 5, 5],
        [nan, 9, nan],
        [1, nan, inf],
        [-inf, -3, -2],
        [-0.0, 0.0, -1],
        [-inf, -inf, -inf],
        [0, 1e-38, 0],
    ]
    largest = [1, 0, 0, 1, 2, 0, 0, 1]
    scores = np.array(scores, np.float32)
    assert scores.argmax(axis=1).tolist() == largest
    for n, k in enumerate(largest):
        for label in range(3):
            got = run(count_correct, scores[n : n + 1], np.array([label], np.int32))
            assert got.dtype == np.int32 and got.shape == (1,)
            assert got[0] == (label == k)
    assert run(count_correct, scores, np.array(largest, np.int32))[0] == 8
    one_hot = np.eye(3, dtype=np.float32)[largest]
    assert run(count_correct, scores, one_hot)[0] == 8
    assert run(count_correct, scores, scores)[0] == 8


@pytest.mark.parametrize("shape", [(1, 2), (5, 2), (513, 10), (77, 31), (9, 33), (2, 1000)])
def test_counting_is_what_the_accuracy_says(backend, shape):
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 4, shape).astype(np.float32)
    labels = rng.integers(0, min(shape[1], 3), shape[0]).astype(np.int32)
    assert run(count_correct, scores, labels)[0] == metrics.sparse_categorical_accuracy(labels, scores).sum()
    shares = rng.integers(0, 4, shape).astype(np.float32)
    assert run(count_correct, scores, shares)[0] == metrics.categorical_accuracy(shares, scores).sum()


def test_with_one_class_every_sample_is_right(backend):
    scores = np.random.default_rng(7).normal(size=(300, 1)).astype(np.float32)
    assert run(count_correct, scores, np.zeros(300, np.int32))[0] == 300
    assert run(count_correct, scores, scores)[0] == 300


def test_classes_that_do_not_exist_count_as_wrong(backend):
    assert run(count_correct, np.ones((3, 2), np.float32), np.array([-1, 2, 0], np.int32))[0] == 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (300, 1), (77, 3), (5000, 2)])
def test_binary_counting_is_what_the_accuracy_says(backend, dtype, shape):
    rng = np.random.default_rng(6)
    scores = rng.choice(np.array([0.0, 0.3, 0.5, 0.7, np.nan], np.float32), shape)
    labels = rng.integers(0, 2, shape).astype(dtype)
    for threshold in (0.5, 0.3):
        expected = metrics.binary_accuracy(labels, scores, threshold).sum()
        assert run(count_correct_binary, scores, labels, threshold=threshold)[0] == expected


def test_counting_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match=r"scores need two axes"):
        count_correct(np.zeros(3, np.float32), np.zeros(3, np.int32))
    with pytest.raises(ShapeError, match=r"labels must be integers"):
        count_correct(np.zeros((3, 2), np.float32), np.zeros(2, np.int32))
    with pytest.raises(ShapeError, match=r"labels must be integers"):
        count_correct(np.zeros((3, 2), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match=r"labels have shape \(2,\) and scores \(3, 1\)"):
        count_correct_binary(np.zeros((3, 1), np.float32), np.zeros(2, np.int32), threshold=0.5)
