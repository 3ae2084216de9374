"""A run can be resumed, evaluated, used and drawn again from its folder alone."""

import json

import numpy as np
import pytest
from PIL import Image

from gpucnn.callbacks import Callback, curves
from gpucnn.devices import free_memory
from gpucnn.errors import ArgumentError, DataError, FileError, MemoryNeedError
from gpucnn.runs import commands, zoo
from gpucnn.runs.commands import RunSettings
from gpucnn.runs.run import RESULTS, Checkpoints, Run
from gpucnn.runs.training import Training

PICTURES = {"learning_curves.png", "confusion_matrix.png", "predictions.png", "filters.png", "feature_maps.png"}


def blocks(count, seed):
    """Images of 28×28 with a bright block on the left, in the middle or on the right, and which."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for image, place in zip(x, y, strict=True):
        image[6:22, place * 9 : place * 9 + 9] += 150
    return x, y


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GPUCNN_OFFLINE", "1")
    monkeypatch.delenv("GPUCNN_DATA", raising=False)


@pytest.fixture
def user_npz(tmp_path):
    """An .npz file of a user's images."""
    path = tmp_path / "blocks.npz"
    (x_train, y_train), (x_test, y_test) = blocks(60, 0), blocks(30, 1)
    names = np.array(["left", "middle", "right"])
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=names)
    return path


@pytest.fixture
def settings(user_npz):
    return RunSettings(data=str(user_npz), model="slides", optimizer="adam", batch_size=16, epochs=3, seed=4)


class StopAt(Callback):
    """Ends a run as a kill would, after a number of batches."""

    def __init__(self, batches):
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise ConnectionError("killed")


def kill_after(monkeypatch, batches):
    """Let the next training die after a number of batches, once any due checkpoint is saved."""
    real = Checkpoints.on_train_batch_end
    stop = StopAt(batches)

    def dying(self, batch, logs=None):
        real(self, batch, logs)
        stop.on_train_batch_end(batch)

    monkeypatch.setattr(commands.Checkpoints, "on_train_batch_end", dying)


def test_a_run_folder_holds_all_that_is_documented(settings):
    lines = []
    run = commands.train(settings, say=lines.append)
    assert run.folder.parent.name == "runs"
    assert run.folder.name.endswith("-blocks-slides")
    assert {path.name for path in (run.folder / "pictures").iterdir()} == PICTURES
    record = json.loads((run.folder / "run.json").read_text())
    assert record == run.record
    assert set(RESULTS) <= record.keys()
    assert (record["dataset"], record["model"], record["device"], record["precision"]) == (
        "blocks",
        "slides",
        "cpu",
        "float32",
    )
    assert record["epochs"] == 3
    assert record["seconds"] > 0
    assert record["images_per_second"] == pytest.approx(180 / record["seconds"])
    assert 0 <= record["test_accuracy"] <= 1
    assert len((run.folder / "history.csv").read_text().splitlines()) == 4
    assert "blocks: 60 training and 30 test images" in lines[0]
    assert "38,1" not in lines[1]
    assert "slides" in lines[1]


def test_training_accuracy_is_that_of_the_last_epoch(settings):
    run = commands.train(settings, pictures=False)
    header, *rows = [line.split(",") for line in (run.folder / "history.csv").read_text().splitlines()]
    assert run.record["train_accuracy"] == float(rows[-1][header.index("accuracy")])


def test_equal_seeds_end_in_equal_weights_and_others_do_not(settings):
    def hash_of(**changed):
        return commands.train(RunSettings(**(vars(settings) | changed)), pictures=False).record["weights_sha256"]

    first = hash_of()
    assert hash_of(threads=1) == first
    assert hash_of(seed=5) != first


def test_the_blocks_are_learned(settings):
    run = commands.train(RunSettings(**(vars(settings) | {"epochs": 12})), pictures=False)
    assert run.record["test_accuracy"] > 0.9


def test_evaluating_repeats_the_figure_to_the_last_digit(settings):
    run = commands.train(settings, pictures=False)
    answer = commands.evaluate(run.folder)
    for key in ("test_accuracy", "test_loss", "weights_sha256", "dataset", "model"):
        assert answer[key] == run.record[key]
    assert answer["images"] == 30


def test_photographs_of_any_size_are_converted_to_one(tmp_path):
    for index, size in enumerate((40, 30, 50, 60) * 5):
        folder = tmp_path / "photos" / ("black" if index % 2 else "white")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (255, 255, 255) if index % 2 else (0, 0, 0)).save(folder / f"{index}.jpg")
    settings = RunSettings(data=str(tmp_path / "photos"), model="slides", epochs=1)
    with pytest.raises(DataError, match="the images differ in size"):
        commands.train(settings, pictures=False)
    run = commands.train(RunSettings(**(vars(settings) | {"image_shape": "32x32x3"})), pictures=False)
    assert commands.find_model(run.folder).input_shape == (None, 32, 32, 3)
    assert commands.evaluate(run.folder)["test_loss"] == run.record["test_loss"]
    with pytest.raises(ArgumentError, match="goes with a folder of images"):
        commands.train(RunSettings(dataset="digits", image_shape="32x32x3"))


@pytest.mark.parametrize("batches", [1, 3, 6])
def test_a_run_killed_at_any_batch_ends_as_an_unbroken_one(settings, monkeypatch, batches):
    settings = RunSettings(**(vars(settings) | {"save_every": 1}))
    unbroken = commands.train(settings, "unbroken", pictures=False)
    with monkeypatch.context() as patch:
        kill_after(patch, batches)
        with pytest.raises(ConnectionError):
            commands.train(settings, "broken", pictures=False)
    resumed = commands.resume("broken", pictures=False)
    assert resumed.record["weights_sha256"] == unbroken.record["weights_sha256"]
    assert resumed.record["test_loss"] == unbroken.record["test_loss"]
    assert (resumed.folder / "history.csv").read_text() == (unbroken.folder / "history.csv").read_text()


def test_a_run_killed_before_its_first_checkpoint_starts_again(settings, monkeypatch):
    unbroken = commands.train(settings, "unbroken", pictures=False)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(ConnectionError):
            commands.train(settings, "broken", pictures=False)
    assert commands.resume("broken", pictures=False).record["weights_sha256"] == unbroken.record["weights_sha256"]


def test_more_epochs_continue_as_if_they_had_been_requested_at_once(settings):
    longer = commands.train(RunSettings(**(vars(settings) | {"epochs": 5})), "longer", pictures=False)
    run = commands.train(settings, "shorter", pictures=False)
    resumed = commands.resume("shorter", 5, pictures=False)
    assert resumed.record["weights_sha256"] == longer.record["weights_sha256"]
    assert resumed.record["epochs"] == 5
    assert Run.open(run.folder).settings["epochs"] == 5


@pytest.mark.parametrize("epochs", [None, 2, 3])
def test_a_finished_run_is_not_resumed_without_more_epochs(settings, epochs):
    commands.train(settings, "done", pictures=False)
    before = (Run.open("done").folder / "run.json").read_text()
    with pytest.raises(ArgumentError, match="done has already trained 3 epochs: give a larger number"):
        commands.resume("done", epochs)
    assert (Run.open("done").folder / "run.json").read_text() == before


def test_a_run_stopped_after_its_last_epoch_is_only_evaluated(settings, monkeypatch):
    unbroken = commands.train(settings, "unbroken", pictures=False)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "test_figures", lambda *_: (_ for _ in ()).throw(ConnectionError("killed")))
        with pytest.raises(ConnectionError):
            commands.train(settings, "broken", pictures=False)
    resumed = commands.resume("broken", pictures=False)
    for key in ("weights_sha256", "test_loss", "train_accuracy"):
        assert resumed.record[key] == unbroken.record[key]
    assert resumed.record["images_per_second"] is None


def test_images_that_changed_since_are_refused(settings, user_npz):
    run = commands.train(settings, pictures=False)
    with np.load(user_npz) as arrays:
        changed = dict(arrays)
    changed["x_test"][0, 0, 0] ^= 1
    np.savez(user_npz, **changed)
    for again in (lambda: commands.resume(run.folder, 9), lambda: commands.evaluate(run.folder)):
        with pytest.raises(DataError, match="is not what the run was trained on"):
            again()


def test_a_run_of_another_version_is_refused_by_its_settings(settings):
    run = commands.train(settings, pictures=False)
    for damage in ({"momentum": 0.9}, {"classes": None}):
        record = json.loads((run.folder / "run.json").read_text())
        record["settings"] |= damage
        (run.folder / "run.json").write_text(json.dumps(record))
        with pytest.raises(FileError, match=r"damaged or of another version: (momentum|no classes)"):
            commands.evaluate(run.folder)
        record["settings"].pop("momentum", None)
        (run.folder / "run.json").write_text(json.dumps(record))


def test_nothing_is_written_when_the_memory_is_too_small(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(free_memory, "available", lambda: 100_000_000)
    with pytest.raises(MemoryNeedError, match="the largest batch size that fits is"):
        commands.train(RunSettings(model="mlearning", batch_size=1000))
    assert not (tmp_path / "runs").exists()


def test_digits_are_the_default_and_carry_their_note_everywhere(monkeypatch):
    monkeypatch.setattr(zoo.Entry, "training_for", lambda *_: Training("adam", 128, 1))
    lines = []
    run = commands.train(RunSettings(model="slides"), pictures=False, say=lines.append)
    note = "digits: not comparable with MNIST"
    assert note in lines[0]
    assert run.record["note"] == commands.evaluate(run.folder)["note"] == note
    with monkeypatch.context() as patch:
        patch.setattr(curves.Picture, "save", lambda self, path: self.get_suptitle())
        assert all(note in title for title in commands.draw(run.folder))


# -- using a run -------------------------------------------------------------------------------------------------------


def test_an_image_file_is_seen_as_the_image_in_the_data_set(settings, tmp_path):
    run = commands.train(settings, pictures=False)
    x, _ = blocks(3, 1)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, x, strict=True):
        Image.fromarray(image).save(path)
    model = commands.load_model(run.model_file)
    expected = model.predict(x[..., None].astype(np.float32) / np.float32(255), verbose=0)
    answer = commands.predict(run.folder, paths)
    for prediction, row in zip(answer["predictions"], expected, strict=True):
        assert list(prediction["probabilities"].values()) == row.tolist()
        assert prediction["class"] == ["left", "middle", "right"][row.argmax()]
        assert prediction["probability"] == row.max()
    assert answer["predictions"][2]["image"] == str(paths[2])


def test_an_inverted_image_is_seen_as_the_original(settings, tmp_path):
    run = commands.train(settings, pictures=False)
    image = blocks(1, 1)[0][0]
    Image.fromarray(image).save(tmp_path / "plain.png")
    Image.fromarray(255 - image).save(tmp_path / "inverted.png")
    plain = commands.predict(run.folder, [tmp_path / "plain.png"])["predictions"][0]
    inverted = commands.predict(run.folder, [tmp_path / "inverted.png"], invert=True)["predictions"][0]
    assert plain["probabilities"] == inverted["probabilities"]


def test_pictures_are_drawn_from_the_folder_alone(settings):
    run = commands.train(settings, pictures=False)
    assert not (run.folder / "pictures").exists()
    assert {path.name for path in commands.draw(run.folder)} == PICTURES
    assert {path.name for path in (run.folder / "pictures").iterdir()} == PICTURES


@pytest.mark.parametrize("content", ["", "epoch,loss\n", "epoch,loss\n1,not a number\n"])
def test_a_damaged_history_is_an_error_with_its_path(settings, content):
    run = commands.train(settings, pictures=False)
    (run.folder / "history.csv").write_text(content)
    with pytest.raises(FileError, match=r"history\.csv is damaged"):
        commands.draw(run.folder)


# -- models by name ----------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_name_by_run_and_by_file(settings):
    run = commands.train(settings, pictures=False)
    assert commands.find_model("slides").count_params() == 38_390
    assert commands.find_model("slides", "32x32x3", 7).output_shape == (None, 7)
    by_run, by_file = commands.find_model(run.folder), commands.find_model(run.folder / "model.safetensors")
    for model in (by_run, by_file):
        assert model.count_params() == run.record["parameters"]
    with pytest.raises(ArgumentError, match="is a trained model, whose input shape"):
        commands.find_model(run.folder, classes=3)


@pytest.mark.parametrize("shape", ["28", "28x28", "28,28,1", "axbxc", "28x28x1x1", "-1x28x1", "0x28x1"])
def test_an_input_shape_that_cannot_be_read_is_refused(shape):
    with pytest.raises(ArgumentError, match="must be height x width x channels"):
        commands.find_model("slides", shape)


def test_a_described_model_adds_up():
    described = commands.describe(zoo.find("torres").build())
    assert described["parameters"] == sum(layer["parameters"] for layer in described["layers"]) == 62_346
    assert described["flops_per_image"] == sum(layer["flops_per_image"] for layer in described["layers"])
    assert described["layers"][0] == {
        "name": "conv2d",
        "type": "Conv2D",
        "output_shape": [24, 24, 32],
        "parameters": 832,
        "flops_per_image": described["layers"][0]["flops_per_image"],
    }
