"""Batches of a data set that is too large for the device come from the host in parts, to the same bits."""

import numpy as np
import pytest
from test_resident import assert_equal, both_ways, digits, exploding, small

import gpucnn
from gpucnn import callbacks
from gpucnn.devices import choose, emulator
from gpucnn.devices.feed import Feed
from gpucnn.models import resident

pytestmark = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


@pytest.fixture(autouse=True)
def _large(monkeypatch):
    """Every data set is too large for the emulator, of whose memory nothing is missing."""
    gpucnn.use("cuda", device="emulator")
    monkeypatch.setattr(resident, "excess", lambda data: "x is large")


@pytest.fixture
def filled(monkeypatch):
    """(first row, rows, rows of the ring) of each part that a feed gets."""
    parts, fill = [], Feed.fill
    monkeypatch.setattr(Feed, "fill", lambda self, *a: (parts.append((*a[:2], len(self.array))), fill(self, *a))[1])
    return parts


@pytest.mark.parametrize(("batch_size", "shuffle"), [(1, True), (2, False), (5, True), (36, True), (40, False)])
def test_streamed_batches_train_as_those_launched_one_by_one(monkeypatch, filled, batch_size, shuffle):
    x, y = digits()
    fit = {"batch_size": batch_size, "shuffle": shuffle, "validation_data": (x[:9], y[:9])}
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, **fit))
    assert sum(count for _, count, _ in filled) == 2 * (36 + 9)
    assert all(2 * count <= ring for _, count, ring in filled)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images_of_any_dtype_and_layout_are_streamed(monkeypatch, dtype):
    x, y = digits(samples=72, dtype=dtype)
    assert_equal(*both_ways(monkeypatch, small, x=x[::2], y=y[::2]))


def test_changes_between_batches_meet_the_right_images(monkeypatch):
    class Meddling(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.optimizer.learning_rate = 0.02
            self.model.stop_training = batch == 2 and self.model.training_state.epoch == 1

    x, y = digits()
    assert_equal(*both_ways(monkeypatch, small, x=x, y=y, epochs=3, batch_size=5, callbacks=[Meddling()]))


def test_a_loss_that_is_not_finite_leaves_the_model_as_before_that_batch(monkeypatch):
    recorded, one_by_one = exploding(monkeypatch, "1"), exploding(monkeypatch, "0")
    assert "epoch 1, batch 2" in recorded[0]
    assert_equal(recorded, one_by_one)


def test_a_training_is_resumed_inside_an_epoch(tmp_path):
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.model.save_checkpoint(tmp_path / "cut.safetensors")
                raise KeyboardInterrupt

    x, y = digits()
    whole, cut, resumed = small(), small(), small()
    whole.fit(x, y, epochs=2, batch_size=2, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(x, y, epochs=2, batch_size=2, verbose=0, callbacks=[Stop()])
    resumed.load_checkpoint(tmp_path / "cut.safetensors")
    resumed.fit(x, y, epochs=2, batch_size=2, verbose=0)
    for expected, weight in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_the_ring_takes_an_eighth_of_the_free_memory_or_two_batches(monkeypatch, filled):
    x, _ = digits()
    batch = x[:4].nbytes
    for free, batches in ((10**9, 2 * resident.TOGETHER), (8 * 6 * batch + 7, 6), (1000, 2)):
        filled.clear()
        monkeypatch.setattr(choose.current(), "free_bytes", lambda free=free: free)
        small().predict(x, batch_size=4, verbose=0)
        assert {ring for _, _, ring in filled} == {4 * batches}


def test_labels_that_are_too_large_are_not_kept_on_the_device(monkeypatch, capsys):
    x, y = digits()
    monkeypatch.setattr(choose.current(), "free_bytes", lambda: 8 * 36 * 2 - 1)
    small().fit(x, y, verbose=2)
    assert "slower on a GPU: y needs 144 bytes, and 575 bytes is free on emulator" in capsys.readouterr().out


def test_what_is_streamed_is_said_once_in_each_call(capsys):
    x, y = digits()
    model = small()
    model.fit(x, y, epochs=2, validation_data=(x, y), verbose=2)
    assert [line for line in capsys.readouterr().out.splitlines() if "stream" in line] == [
        "the images stream from the host while the device computes: x is large",
        "the validation images stream from the host while the device computes: x is large",
    ]
    for call in (lambda: model.evaluate(x, y, verbose=2), lambda: model.predict(x, verbose=2)):
        for _ in range(2):
            call()
        assert capsys.readouterr().out.count("the images stream from the host") == 2
