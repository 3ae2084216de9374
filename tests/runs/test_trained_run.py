"""A trained run is used from a program: images of all kinds in, classes and figures out."""

import io
import json
import threading

import numpy as np
import pytest
from needs import torch_here
from PIL import Image

import gpucnn
from gpucnn import datasets, models
from gpucnn.dispatch import choice
from gpucnn.errors import ArgumentError, DataError, FileError
from gpucnn.runs import commands
from gpucnn.runs.settings import RunSettings

COLOURS = {"cat": 0, "dog": 1, "fox": 2}


def picture(name, size=16, seed=0):
    """uint8 (size, size, 3) in the colour of a class."""
    pixels = np.random.default_rng(seed).integers(0, 60, (size, size, 3)).astype(np.uint8)
    pixels[..., COLOURS[name]] += 150
    return pixels


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run that tells cats, dogs and foxes apart, without a mistake."""
    root = tmp_path_factory.mktemp("run")
    for name in COLOURS:
        for i in range(10):
            save(picture(name, seed=i), root / "pets" / name / f"{i}.png")
    settings = RunSettings(data=str(root / "pets"), model="slides", optimizer="adam", batch_size=8, epochs=6)
    run = commands.train(settings, root / "run", pictures=False)
    assert run.record["test_accuracy"] == 1
    return run.folder


@pytest.fixture(scope="module")
def run(folder):
    return gpucnn.load_run(folder)


def test_a_run_knows_its_classes_model_and_history(run, folder):
    assert run.classes == ["cat", "dog", "fox"]
    assert run.model.output_shape == (None, 3)
    assert run.folder == folder
    assert run.history["epoch"] == [1, 2, 3, 4, 5, 6]
    record = json.loads((folder / "run.json").read_text())
    assert run.history["accuracy"][-1] == record["train_accuracy"]
    assert "slides on pets" in repr(run)


def test_one_image_gives_one_prediction(run, tmp_path):
    path = save(picture("dog", size=40), tmp_path / "photo.jpg")
    prediction = run.predict(str(path))
    assert prediction.class_name == "dog"
    assert prediction.image == path
    assert list(prediction.probabilities) == ["cat", "dog", "fox"]
    assert prediction.probability == prediction.probabilities["dog"] == max(prediction.probabilities.values())
    assert str(prediction) == f"dog ({100 * prediction.probability:.1f} %)"


def test_every_form_of_an_image_gives_the_same_prediction(run, tmp_path):
    pixels = picture("fox")
    path = save(pixels, tmp_path / "photo.png")
    np.save(tmp_path / "photo.npy", pixels)
    expected = run.predict(path).probabilities
    forms = [
        io.BytesIO(path.read_bytes()),
        Image.open(path),
        Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=256),
        pixels,
        pixels.astype(np.float32) / np.float32(255),
        tmp_path / "photo.npy",
    ]
    for form in forms:
        prediction = run.predict(form)
        assert prediction.class_name == "fox"
        if not (isinstance(form, Image.Image) and form.mode == "P"):
            assert prediction.probabilities == expected


def test_several_images_give_a_list_in_their_order(run, tmp_path):
    order = ["dog", "cat", "fox", "dog"]
    paths = [save(picture(name, seed=i), tmp_path / f"{i}.png") for i, name in enumerate(order)]
    batch = np.stack([picture(name, seed=i) for i, name in enumerate(order)])
    for images in (paths, [str(path) for path in paths], tmp_path, str(tmp_path), batch, list(batch), batch / 255.0):
        assert [prediction.class_name for prediction in run.predict(images)] == order
    assert [prediction.image for prediction in run.predict(tmp_path)] == paths
    for images in (paths[:1], batch[:1]):
        assert [prediction.class_name for prediction in run.predict(images)] == ["dog"]
    assert run.predict([]) == []


@torch_here
def test_tensors_are_images_like_arrays(run):
    import torch

    order = ["dog", "cat", "fox"]
    batch = np.stack([picture(name, seed=i) for i, name in enumerate(order)])
    expected = [prediction.probabilities for prediction in run.predict(batch)]
    tensors = torch.from_numpy(batch)
    for images in (tensors, list(tensors), torch.from_numpy(batch / np.float32(255))):
        assert [prediction.probabilities for prediction in run.predict(images)] == expected
    assert run.predict(tensors[1]).probabilities == expected[1]
    y = np.array([run.classes.index(name) for name in order])
    assert run.evaluate(tensors, torch.from_numpy(y)) == run.evaluate(batch, y)
    with pytest.raises(DataError, match="requires a gradient"):
        run.predict(torch.zeros(12, 12, 3, requires_grad=True))


def test_grey_images_may_lack_their_channel(tmp_path):
    x = np.zeros((12, 28, 28), np.uint8)
    x[1::2, 8:20, 8:20] = 200
    y = np.arange(12) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(["empty", "full"]))
    settings = RunSettings(data=str(tmp_path / "d.npz"), model="slides", optimizer="adam", batch_size=4, epochs=5)
    run = gpucnn.load_run(commands.train(settings, tmp_path / "r", pictures=False).folder)
    assert run.predict(x[1]).class_name == "full"
    assert [p.class_name for p in run.predict(x[:3])] == [p.class_name for p in run.predict(x[:3, ..., None])]
    assert [p.class_name for p in run.predict(x[:3])] == ["empty", "full", "empty"]
    assert run.predict(255 - x[1], invert=True).probabilities == run.predict(x[1]).probabilities


def test_a_named_image_that_cannot_be_read_is_an_error_and_in_a_folder_a_warning(run, tmp_path):
    good = save(picture("cat"), tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    for images in (tmp_path / "bad.png", [good, tmp_path / "bad.png"], io.BytesIO(b"no image")):
        with pytest.raises(DataError, match=r"(bad\.png|the image) is not a PNG"):
            run.predict(images)
    with pytest.raises(FileError, match=r"gone\.png"):
        run.predict(tmp_path / "gone.png")
    with pytest.warns(UserWarning, match=r"1 file was left out: 1 broken: .*bad\.png is not a PNG") as caught:
        assert [p.image for p in run.predict(tmp_path)] == [good]
    assert caught[0].filename == __file__
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no PNG"):
        run.predict(tmp_path / "empty")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8, 3)), r"only uint8 is resized and centred to \(16, 16, 3\); give uint8"),
        (np.zeros((16, 16, 3), np.int64), "the image holds int64: give uint8"),
        (np.zeros(5, np.uint8), r"the image has shape \(5,\): one image"),
        (np.zeros((0, 16, 3), np.uint8), r"the image has shape \(0, 16, 3\): one image"),
        (np.full((16, 16, 3), np.nan), "not finite"),
    ],
)
def test_arrays_that_are_no_image_are_refused(run, images, message):
    with pytest.raises(DataError, match=message):
        run.predict(images)


def test_evaluating_repeats_the_figures_of_the_run(run, folder):
    record = json.loads((folder / "run.json").read_text())
    answer = run.evaluate()
    assert (answer["test_accuracy"], answer["test_loss"]) == (record["test_accuracy"], record["test_loss"])
    assert answer == commands.evaluate(folder)


def test_other_images_are_evaluated_with_their_classes_by_name(run, tmp_path):
    for name, count in {"fox": 3, "cat": 2, "dog": 4}.items():
        for i in range(count):
            save(picture(name, seed=i), tmp_path / "more" / name / f"{i}.png")
    by_path = run.evaluate(tmp_path / "more")
    assert (by_path["test_accuracy"], by_path["images"]) == (1, 9)
    images = datasets.load_to_test(tmp_path / "more")
    assert run.evaluate(images)["test_loss"] == by_path["test_loss"]
    x, y = np.stack([picture("fox"), picture("cat")]), np.array([2, 0])
    assert run.evaluate(x, y)["test_accuracy"] == 1
    assert run.evaluate(x, y[::-1])["test_accuracy"] == 0
    with pytest.raises(DataError, match=r"labels are 0 … 2"):
        run.evaluate(x, np.array([3, 0]))
    for images, labels in ((x, None), (tmp_path / "more", y), (None, y)):
        with pytest.raises(ArgumentError, match="y goes with an array of images, and an array of images needs y"):
            run.evaluate(images, labels)
    with pytest.raises(ArgumentError, match="both the data set 'digits' and other images"):
        run.evaluate(x, y, dataset="digits")
    with pytest.raises(DataError, match="digits holds images of 0"):
        run.evaluate(dataset="digits")


def test_a_loaded_run_leaves_the_seed_and_the_kernels_of_the_program_alone(folder):
    def weights_after(load):
        gpucnn.utils.set_random_seed(11)
        load(folder)
        return gpucnn.Sequential([gpucnn.Input((3,)), gpucnn.layers.Dense(2)]).get_weights()[0]

    with gpucnn.using("numpy"):
        np.testing.assert_array_equal(weights_after(gpucnn.load_run), weights_after(models.load_model))
        assert choice.backend() == "numpy"


def test_several_threads_may_predict_at_once(run):
    answers = {}

    def ask(name):
        answers[name] = [run.predict(picture(name, seed=i)).class_name for i in range(20)]

    threads = [threading.Thread(target=ask, args=(name,)) for name in COLOURS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {name: [name] * 20 for name in COLOURS}


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FileError, match=r"is not a run folder: there is no run\.json in it"):
        gpucnn.load_run(tmp_path)


def test_load_model_takes_a_run_folder(folder, tmp_path):
    model = models.load_model(folder)
    for loaded, of_file in zip(model.get_weights(), models.load_model(folder / "model.safetensors").get_weights()):
        np.testing.assert_array_equal(loaded, of_file)
    assert model.signature.classes == ["cat", "dog", "fox"]
    with pytest.raises(FileError, match=r"is a folder without model\.safetensors: give a \.safetensors file"):
        models.load_model(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileError, match=r"its training did not finish; use gpucnn\.load_run\("):
        models.load_model(tmp_path)
