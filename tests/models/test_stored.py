"""Images that stay in a file: what is read, in which order, and how much memory it takes."""

import json

import numpy as np
import pytest
from command import gpucnn
from needs import posix_here
from processes import program

from gpucnn import Sequential, layers, random
from gpucnn.datasets import StoredImages
from gpucnn.errors import DataError
from gpucnn.models.batches import StoredArrays, as_batches

SAMPLES = 700


@pytest.fixture
def images(tmp_path, rng):
    """A file of images, and the same in memory."""
    array = rng.integers(0, 256, (SAMPLES, 4, 3, 1), np.uint8)
    np.save(tmp_path / "x.npy", array)
    return StoredImages(tmp_path / "x.npy"), array


def test_rows_are_those_of_the_file(images):
    stored, array = images
    assert (stored.shape, stored.dtype, stored.ndim, len(stored)) == (array.shape, np.uint8, 4, SAMPLES)
    assert (stored.size, stored.nbytes) == (array.size, array.nbytes)
    assert np.array_equal(stored[5:9], array[5:9])
    assert np.array_equal(stored[np.array([3, 1, 3])], array[[3, 1, 3]])
    chosen = stored.chosen(np.arange(1, SAMPLES, 2)).chosen(np.array([4, 0]))
    assert np.array_equal(chosen[:], array[[9, 1]]) and len(chosen) == 2
    scaled = stored.scaled(255.0)
    assert scaled.dtype == np.float32
    assert np.array_equal(scaled[:7], np.divide(array[:7], np.float32(255), dtype=np.float32))
    assert np.array_equal(np.concatenate(list(stored.blocks())), array)


@pytest.mark.parametrize("write", [lambda p: p.write_bytes(b"\x93NUMPY"), lambda p: np.save(p, np.array(["a", "b"])),
                                   lambda p: np.save(p, np.zeros((2, 2)))])  # fmt: skip
def test_other_files_are_refused(tmp_path, write):
    write(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"x\.npy"):
        StoredImages(tmp_path / "x.npy")


@pytest.mark.parametrize("n", [1, 5, 1000, 1001])
def test_the_order_takes_every_sample_once_and_stays_near(n):
    order = random.near_permutation(n, 10, 8, seed=3, epoch=1)
    assert np.array_equal(np.sort(order), np.arange(n))
    for start in range(0, n, 80):
        assert len(set((order[start : start + 70] // 10).tolist())) <= 9
    if n == 1000:
        assert not np.array_equal(order, random.near_permutation(n, 10, 8, seed=3, epoch=2))
        assert len(set((order[:80] // 10).tolist())) == 8 and (np.diff(order[:80]) != 1).mean() > 0.9


def test_batches_read_ahead_are_those_of_arrays_in_the_same_order(images):
    stored, array = images
    y = np.arange(SAMPLES)
    data = as_batches(stored.scaled(255.0), y, None, 64, None, (None, 4, 3, 1))
    assert isinstance(data, StoredArrays)
    plain = as_batches(array / np.float32(255), y, None, 64, None, (None, 4, 3, 1))
    order = data.order(7, 0)
    for own in (None, lambda rows: slice(rows // 2, rows)):
        for one, other in zip(data.epoch(order, 2, own), plain.epoch(order, 2, own), strict=True):
            assert np.array_equal(one.x, other.x) and np.array_equal(one.y, other.y)


def test_an_epoch_that_is_left_early_leaves_no_thread_behind(images):
    import threading

    data = as_batches(images[0], np.arange(SAMPLES), None, 8, None, None)
    epoch = data.epoch(None)
    next(epoch)
    epoch.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpucnn-reader")]


def test_fit_evaluate_and_predict_take_them(images):
    stored, array = images
    y = array.reshape(SAMPLES, -1).mean(axis=1) > 127
    model = Sequential([layers.Flatten(input_shape=(4, 3, 1)), layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = stored.scaled(255.0)
    losses = model.fit(x, y, epochs=8, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.evaluate(x, y, verbose=0) == model.evaluate(x[:], y, verbose=0)
    assert np.array_equal(model.predict(x, verbose=0), model.predict(x[:], verbose=0))


@pytest.fixture
def archive(tmp_path, rng, monkeypatch):
    """An .npz file of a user, and a cache of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    y = rng.integers(0, 2, SAMPLES)
    x = np.clip(rng.normal(60 + 100 * y[:, None, None], 30, (SAMPLES, 28, 28)), 0, 255).astype(np.uint8)
    np.savez_compressed(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    return tmp_path / "mine.npz"


def test_the_command_trains_evaluates_and_resumes_with_images_in_a_file(archive, tmp_path):
    options = ("--model", "slides", "--batch-size", 64, "--no-pictures", "--validation-split", 0.2, "--json")
    records = []
    for name, epochs in (("whole", 2), ("run", 1)):
        done = gpucnn("train", "--data", archive, "--stream", *options, "--epochs", epochs, "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        assert "training images stay in a file of" in done.stderr
        records.append(json.loads(done.stdout))
    assert records[0]["settings"]["stream"] is True
    resumed = gpucnn("train", "--resume", tmp_path / "run", "--epochs", 2, "--no-pictures", "--json")
    assert json.loads(resumed.stdout)["weights_sha256"] == records[0]["weights_sha256"]
    tested = gpucnn("evaluate", tmp_path / "whole", "--json")
    assert json.loads(tested.stdout)["test_accuracy"] == records[0]["test_accuracy"]


def test_streaming_is_for_images_of_a_user():
    done = gpucnn("train", "digits", "--stream")
    assert done.exit_code == 2 and "goes with a user's images (--data)" in done.stderr


@posix_here
def test_memory_is_flat_in_the_size_of_the_data_set(tmp_path):
    """A sparse file of 370 MB is trained on in far less: what the process takes does not grow with it."""
    done = program(
        f"""
        import resource, numpy as np
        from gpucnn import Sequential, layers, datasets
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        def train(count):
            path = {str(tmp_path)!r} + f"/{{count}}.npy"
            np.lib.format.open_memmap(path, "w+", np.uint8, (count, 32, 32, 3)).flush()
            model = Sequential([layers.AveragePooling2D(8, input_shape=(32, 32, 3)), layers.Flatten(), layers.Dense(2)])
            model.compile("sgd", "mse")
            y = np.zeros((count, 2), np.float32)
            model.fit(datasets.StoredImages(path, divisor=255), y, batch_size=512, verbose=0)
            return peak()
        small, large = train(8_000), train(120_000)
        print(round(large - small))
        """,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60  # MiB; the larger file has 328 more, and its float32 values 1,312
