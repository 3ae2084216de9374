"""Early stopping, the best epoch, schedules and weight decay of a run; the scores of each class."""

import json

import numpy as np
import pytest

from gpucnn.errors import ArgumentError
from gpucnn.models.loading import load_model
from gpucnn.runs import commands
from gpucnn.runs.run import RESULTS, Run
from gpucnn.runs.settings import RunSettings
from gpucnn.runs.training import Training


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    """Noise, with labels that cannot be learned: the validation loss rises soon."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (48, 28, 28)).astype(np.uint8), rng.integers(0, 2, 48)
    np.savez("d.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12], classes=np.array(["cat", "dog"]))


def settings(**more):
    values = {"data": "d.npz", "model": "slides", "optimizer": "adam", "learning_rate": 0.01, "batch_size": 12}
    return RunSettings(**values | {"epochs": 12, "validation_split": 0.25} | more)


@pytest.fixture
def stopped():
    """A run that stopped early, with the weights of its best epoch."""
    run = commands.train(settings(early_stopping=2, best=True), "stopped", pictures=False)
    assert run.record["epochs_trained"] < 12
    return run


def test_training_stops_when_the_validation_loss_no_longer_falls(stopped):
    losses = stopped.read_history()["val_loss"]
    best = int(np.argmin(losses)) + 1
    assert (stopped.record["epochs_trained"], stopped.record["best_epoch"]) == (best + 2, best)
    assert (len(losses), stopped.record["epochs"]) == (best + 2, 12)


def test_the_weights_are_those_of_the_best_epoch(stopped):
    best = stopped.record["best_epoch"]
    shorter = commands.train(settings(epochs=best), "shorter", pictures=False)
    assert stopped.record["weights_sha256"] == shorter.record["weights_sha256"]
    whole = commands.train(settings(best=True), "whole", pictures=False)
    losses = whole.read_history()["val_loss"]
    assert (whole.record["epochs_trained"], whole.record["best_epoch"]) == (12, int(np.argmin(losses)) + 1)


def test_without_best_the_weights_are_those_of_the_last_epoch():
    run = commands.train(settings(early_stopping=2), "r", pictures=False)
    shorter = commands.train(settings(epochs=run.record["epochs_trained"]), "shorter", pictures=False)
    assert run.record["weights_sha256"] == shorter.record["weights_sha256"]
    assert run.record["best_epoch"] is None


def test_a_run_that_stopped_early_says_so_when_it_is_resumed(stopped):
    trained, weights = stopped.record["epochs_trained"], stopped.record["weights_sha256"]
    with pytest.warns(
        UserWarning, match=f"^EarlyStopping had stopped this training after epoch {trained}: it trains no further$"
    ):
        resumed = commands.resume("stopped", 20, pictures=False)
    assert (resumed.record["epochs_trained"], resumed.record["weights_sha256"]) == (trained, weights)


@pytest.mark.parametrize("option", [{"early_stopping": 3}, {"best": True}])
def test_stopping_early_without_validation_images_is_refused(option, tmp_path):
    with pytest.raises(ArgumentError, match=r"needs validation images: hold out some with --validation-split 0\.1"):
        commands.train(settings(validation_split=0.0, **option), "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"schedule": "cosin"}, "schedule is cosin"), ({"weight_decay": -1.0}, "weight_decay is -1"),
     ({"early_stopping": 0}, "early_stopping is 0")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        settings(**wrong)


def test_a_schedule_is_that_of_all_steps_and_the_run_cannot_be_given_more_epochs():
    run = commands.train(settings(schedule="cosine", weight_decay=0.1, epochs=2), "r", pictures=False)
    optimizer = load_model(run.latest_checkpoint()).optimizer
    assert optimizer.weight_decay == 0.1
    assert optimizer.get_config()["learning_rate"]["config"]["decay_steps"] == 2 * 3  # 36 images in batches of 12
    with pytest.raises(ArgumentError, match=r"fall over its 2 epochs \(schedule cosine\): resume it without --epochs"):
        commands.resume("r", 3)
    commands.train(settings(schedule="constant", epochs=1), "constant", pictures=False)
    assert commands.resume("constant", 2, pictures=False).record["epochs_trained"] == 2


def test_a_training_too_short_for_its_moving_average_says_so():
    training = Training("adam", 64, 3, options={"use_ema": True, "ema_momentum": 0.99})
    assert training.warning(63) == (
        "the trained weights are moving averages (ema_momentum 0.99), of which 53 % still come from the first step: "
        "train 15 epochs or more"
    )
    assert 0.99 ** (15 * 21) < 0.05 < 0.99 ** (14 * 21)
    assert training.warning(15 * 21) is None
    assert Training("adam", 64, 3).warning(1) is None
    said = []
    data = RunSettings(dataset="digits", model="mnist_convnet", epochs=1, device="cpu")
    commands.train(data, "r", pictures=False, say=said.append)
    assert [line for line in said if "train 13 epochs or more" in line] != []


def test_a_run_has_the_scores_of_each_class():
    run = commands.train(settings(epochs=1, learning_rate=1e-9), "r", pictures=False)
    record = json.loads((run.folder / "run.json").read_text())
    assert set(RESULTS) <= record.keys()
    per_class = record["per_class"]
    assert list(per_class) == ["cat", "dog"]
    assert sum(scores["images"] for scores in per_class.values()) == 12
    right = sum(scores["recall"] * scores["images"] for scores in per_class.values())
    assert right / 12 == pytest.approx(record["test_accuracy"])
    assert commands.evaluate("r")["per_class"] == per_class
    assert Run.open("r").record["per_class"] == per_class


def test_a_class_that_is_never_predicted_has_no_precision():
    commands.train(settings(epochs=1, learning_rate=1e-9, validation_split=0.0), "r", pictures=False)
    x = np.zeros((4, 28, 28), np.uint8)
    np.savez("same.npz", x_test=x, y_test=np.array([0, 0, 1, 1]), classes=np.array(["cat", "dog"]))
    scores = commands.evaluate("r", data="same.npz")["per_class"]  # equal images are predicted alike
    never, always = sorted(scores.values(), key=lambda score: score["recall"])
    assert never == {"precision": None, "recall": 0.0, "f1": 0.0, "images": 2}
    assert always == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "images": 2}


def test_cifar10_is_trained_with_the_model_cifar_unless_another_is_named():
    x = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez("cifar10.npz", x_train=x, y_train=np.arange(4) % 2, x_test=x, y_test=np.arange(4) % 2)
    for model, trained in ((None, "cifar"), ("slides", "slides")):
        run = commands.train(RunSettings(data="cifar10.npz", model=model, epochs=1), pictures=False)
        assert (run.record["model"], run.settings["model"]) == (trained, trained)
    with pytest.raises(ArgumentError, match="there is no model 'resnet'"):
        commands.train(RunSettings(data="gone.npz", model="resnet"))
