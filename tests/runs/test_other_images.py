"""A trained model meets images that it was not trained on: classes are matched by name, all images count."""

import json

import numpy as np
import pytest
from PIL import Image

from gpucnn import datasets
from gpucnn.errors import ArgumentError, DataError, FileError
from gpucnn.models.loading import load_model
from gpucnn.models.saving import save_model
from gpucnn.runs import commands, trained_run
from gpucnn.runs.settings import RunSettings

COLOURS = {"cat": 0, "dog": 1, "fox": 2, "ant": 0, "yak": 1}


def fill(folder, counts, size=16, seed=0):
    """A folder of RGB images, each class of its colour."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 60, (size, size, 3)).astype(np.uint8)
            pixels[..., COLOURS[name.split("/")[-1]]] += 150
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that tells cats, dogs and foxes apart, without a mistake."""
    folder = tmp_path_factory.mktemp("run")
    data = fill(folder / "pets", {"cat": 10, "dog": 10, "fox": 10})
    settings = RunSettings(data=str(data), model="slides", optimizer="adam", batch_size=8, epochs=6)
    run = commands.train(settings, folder / "run", pictures=False)
    assert run.record["test_accuracy"] == 1
    return run


# classes


def test_classes_are_matched_by_their_names_and_not_by_their_order(run, tmp_path):
    x = np.zeros((9, 16, 16, 3), np.uint8)
    y = np.arange(9) % 3
    for image, label in zip(x, y):
        image[..., COLOURS[("fox", "cat", "dog")[label]]] = 150
    np.savez(tmp_path / "d.npz", x_test=x, y_test=y, classes=np.array(["fox", "cat", "dog"]))
    answer = commands.evaluate(run.folder, data=str(tmp_path / "d.npz"))
    assert (answer["test_accuracy"], answer["images"], answer["left_out"]) == (1, 9, 0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"ant": 2, "cat": 2, "dog": 2}, "the model does not know ant and there is no image of fox;"),
        ({"dog": 2, "fox": 2}, "there is no image of cat;"),
        ({"ant": 2, "cat": 2, "dog": 2, "fox": 2, "yak": 2}, "the model does not know ant, yak;"),
    ],
)
def test_other_classes_are_an_error_that_names_them(run, tmp_path, counts, message):
    data = fill(tmp_path / "other", counts)
    listed = f"holds images of {', '.join(counts)}, and the model tells apart cat, dog, fox: "
    with pytest.raises(DataError, match=f"^other {listed}{message} .* --common-classes$"):
        commands.evaluate(run.folder, data=str(data))


def test_a_folder_of_one_class_is_a_test_on_request(run, tmp_path):
    data = fill(tmp_path / "cats", {"cat": 3})
    with pytest.raises(DataError, match="there is no image of dog, fox"):
        commands.evaluate(run.folder, data=str(data))
    with pytest.warns(UserWarning, match="^cats: there is no image of dog, fox$"):
        assert commands.evaluate(run.folder, data=str(data), common_classes=True)["images"] == 3


def test_on_request_the_images_of_common_classes_are_used_and_the_others_counted(run, tmp_path):
    data = fill(tmp_path / "other", {"ant": 5, "dog": 3, "fox": 2})
    with pytest.warns(
        UserWarning, match=r"other: 5 images were left out: .* not know ant and there is no image of cat"
    ):
        answer = commands.evaluate(run.folder, data=str(data), common_classes=True)
    assert (answer["test_accuracy"], answer["images"], answer["left_out"]) == (1, 5, 5)
    data = fill(tmp_path / "none", {"ant": 2, "yak": 2})
    with pytest.raises(DataError, match="none has no image of cat, dog, fox"):
        commands.evaluate(run.folder, data=str(data), common_classes=True)


def test_numbers_are_not_taken_for_names(run, tmp_path):
    x, y = np.zeros((3, 16, 16, 3), np.uint8), np.arange(3)
    np.savez(tmp_path / "d.npz", x_test=x, y_test=y)
    with pytest.raises(DataError, match="does not know 0, 1, 2 and there is no image of cat, dog, fox"):
        commands.evaluate(run.folder, data=str(tmp_path / "d.npz"))


def test_another_built_in_data_set_must_have_the_classes_of_the_run(run):
    with pytest.raises(DataError, match=r"digits holds images of 0, .* the model tells apart cat, dog, fox"):
        commands.evaluate(run.folder, "digits")


def test_classes_that_were_renamed_since_are_refused(tmp_path):
    data = fill(tmp_path / "pets", {"cat": 5, "dog": 5})
    settings = RunSettings(data=str(data), model="slides", epochs=1, image_shape="16x16x1")
    run = commands.train(settings, tmp_path / "run", pictures=False)
    (data / "cat").rename(data / "ant")
    for use in (
        lambda: commands.evaluate(run.folder),
        lambda: commands.draw(run.folder),
        lambda: commands.resume(run.folder, 2),
    ):
        with pytest.raises(DataError, match="has the classes ant, dog, and the run was trained on cat, dog"):
            use()


# which images count


def test_all_images_of_a_folder_are_tested(run, tmp_path):
    data = fill(tmp_path / "more", {"cat": 7, "dog": 4, "fox": 5}, seed=1)
    answer = commands.evaluate(run.folder, data=str(data))
    assert (answer["images"], answer["tested_on"]) == (16, f"all images of {data}")
    answer = commands.evaluate(run.folder, data=str(data), share=0.5)
    assert (answer["images"], answer["tested_on"]) == (3 + 2 + 2, f"a fixed random 0.5 of each class of {data}")


def test_of_a_folder_with_train_and_test_those_of_test_are_tested(run, tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        fill(tmp_path / "more" / part, {"cat": count, "dog": count, "fox": count})
    answer = commands.evaluate(run.folder, data=str(tmp_path / "more"))
    assert (answer["images"], answer["tested_on"]) == (6, f"all images of {tmp_path / 'more' / 'test'}")


def test_images_are_converted_to_what_the_model_takes(run, tmp_path):
    data = fill(tmp_path / "large", {"cat": 2, "dog": 2, "fox": 2}, size=40)
    fill(data, {"cat/small": 0, "dog": 1}, size=9)
    assert commands.evaluate(run.folder, data=str(data))["test_accuracy"] == 1


def test_images_that_trained_the_model_are_named_as_such(run):
    with pytest.warns(UserWarning, match="holds the images that the run was trained on: without --data, only its test"):
        answer = commands.evaluate(run.folder, data=run.settings["data"])
    assert answer["images"] == 30
    assert commands.evaluate(run.folder)["images"] == 6


def test_a_share_and_strictness_need_a_folder(run, tmp_path):
    for how in ({"share": 0.5}, {"strict": True}):
        with pytest.raises(ArgumentError, match="go with a folder of images"):
            commands.evaluate(run.folder, **how)


def test_a_broken_image_is_left_out_of_a_test_unless_strict(run, tmp_path):
    data = fill(tmp_path / "more", {"cat": 3, "dog": 3, "fox": 3})
    (data / "dog/0.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 file was left out: 1 broken: .*dog/0\.png"):
        assert commands.evaluate(run.folder, data=str(data))["images"] == 8
    with pytest.raises(DataError, match=r"dog/0\.png"):
        commands.evaluate(run.folder, data=str(data), strict=True)


# training on folders


def test_how_the_images_were_divided_is_said_when_training(tmp_path):
    lines = []
    for part, count in (("train", 5), ("valid", 3), ("test", 2)):
        fill(tmp_path / "pets" / part, {"cat": count, "dog": count})
    settings = RunSettings(data=str(tmp_path / "pets"), model="slides", epochs=1)
    run = commands.train(settings, tmp_path / "run", pictures=False, say=lines.append)
    how = "train/ and test/ of the folder, valid/ for validation"
    assert lines[0] == f"pets: 10 training, 6 validation and 4 test images ({how})"
    assert "val_accuracy" in (run.folder / "history.csv").read_text()
    with pytest.raises(ArgumentError, match=r"has its own validation images: leave out --validation-split 0\.5"):
        commands.train(RunSettings(**(vars(settings) | {"validation_split": 0.5})), tmp_path / "other")
    fill(tmp_path / "d", {"cat": 5, "dog": 5})
    commands.train(RunSettings(data=str(tmp_path / "d"), model="slides", epochs=1), pictures=False, say=lines.append)
    assert lines[3].endswith(
        "8 training and 2 test images (a fixed random fifth of each class is held out for the test)"
    )


def test_validation_images_are_resumed_with(tmp_path):
    for part in ("train", "val", "test"):
        fill(tmp_path / "pets" / part, {"cat": 4, "dog": 4})
    settings = RunSettings(data=str(tmp_path / "pets"), model="slides", epochs=1)
    run = commands.train(settings, tmp_path / "run", pictures=False)
    resumed = commands.resume(run.folder, 2, pictures=False)
    assert (resumed.folder / "history.csv").read_text().count("\n") == 3
    fill(tmp_path / "pets/val", {"cat": 5}, seed=9)
    with pytest.raises(DataError, match="is not what the run was trained on"):
        commands.resume(run.folder, 3)


def test_a_run_of_a_version_that_read_no_validation_images_is_resumed_without_them(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / "pets" / part, {"cat": 4, "dog": 4})
    run = commands.train(
        RunSettings(data=str(tmp_path / "pets"), model="slides", epochs=1), tmp_path / "run", pictures=False
    )
    fill(tmp_path / "pets/val", {"cat": 2, "dog": 2})
    resumed = commands.resume(run.folder, 2, pictures=False)
    assert "val_loss" not in (resumed.folder / "history.csv").read_text()


def test_options_of_image_files_need_image_files(tmp_path):
    np.savez(tmp_path / "d.npz", x_test=np.zeros(3))
    for option in ({"image_shape": "8x8x1"}, {"strict": True}):
        for data in ({}, {"data": str(tmp_path / "d.npz")}):
            with pytest.raises(ArgumentError, match="goes with a folder of images"):
                commands.train(RunSettings(**option, **data))


def test_broken_images_stop_a_training_only_if_strict(tmp_path):
    data = fill(tmp_path / "pets", {"cat": 6, "dog": 6})
    (data / "cat/x.webp").write_bytes(b"RIFF")
    settings = RunSettings(data=str(data), model="slides", epochs=1)
    with pytest.warns(UserWarning, match="1 file was left out: 1 broken"):
        run = commands.train(settings, tmp_path / "run", pictures=False)
    with pytest.warns(UserWarning, match="1 file was left out: 1 broken"):
        assert commands.resume(run.folder, 2, pictures=False).record["epochs"] == 2
    with pytest.raises(DataError, match=r"cat/x\.webp"):
        commands.train(RunSettings(**(vars(settings) | {"strict": True})), tmp_path / "strict")


# predicting


def test_a_folder_of_images_is_predicted_and_what_fails_is_named(run, tmp_path):
    photos = fill(tmp_path / "photos", {"cat": 2, "more/dog": 1}, size=30)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (photos / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match="1 file was left out: 1 of other kinds than .*, such as notes.txt"):
        answer = commands.predict(run.folder, [photos, tmp_path / "gone.png"])
    named = {prediction["image"]: prediction["class"] for prediction in answer["predictions"]}
    assert named == {
        str(photos / "cat/0.png"): "cat",
        str(photos / "cat/1.png"): "cat",
        str(photos / "more/dog/0.png"): "dog",
    }
    assert [failure["image"] for failure in answer["failed"]] == [
        str(photos / "broken.jpg"),
        str(tmp_path / "gone.png"),
    ]
    assert "broken.jpg is not a PNG" in answer["failed"][0]["error"]


def test_a_folder_without_images_fails(run, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = commands.predict(run.folder, [tmp_path / "empty"])
    assert (answer["predictions"], len(answer["failed"])) == ([], 1)
    assert "empty holds no PNG" in answer["failed"][0]["error"]


def test_many_images_are_predicted_in_several_batches(run, tmp_path, monkeypatch):
    monkeypatch.setattr(trained_run, "EVALUATION_BATCH", 4)
    photos = fill(tmp_path / "photos", {"cat": 3, "dog": 3, "fox": 5})
    (photos / "dog/1.png").write_bytes(b"")
    answer = commands.predict(run.folder, [photos])
    assert [p["class"] for p in answer["predictions"]] == ["cat"] * 3 + ["dog"] * 2 + ["fox"] * 5
    assert len(answer["failed"]) == 1


# what the model file says


def test_the_model_of_a_run_says_what_it_takes_and_what_it_tells_apart(run):
    for path in (run.folder / "model.safetensors", run.latest_checkpoint()):
        signature = load_model(path).signature
        assert (signature.classes, signature.image_shape, signature.divisor) == (
            ["cat", "dog", "fox"],
            (16, 16, 3),
            255,
        )
        assert (signature.invert, signature.centre) == (False, False)


def test_images_are_prepared_as_the_model_says_unless_asked_otherwise(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    model = load_model(run.folder / "model.safetensors")
    model.signature = type(model.signature)(["cat", "dog", "fox"], (16, 16, 3), invert=True)
    save_model(model, folder / "model.safetensors", include_optimizer=False)
    (folder / "run.json").write_text((run.folder / "run.json").read_text())
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0] = 150
    Image.fromarray(255 - pixels).save(tmp_path / "inverted.png")
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    assert commands.predict(folder, [tmp_path / "inverted.png"])["predictions"][0]["class"] == "cat"
    assert commands.predict(folder, [tmp_path / "plain.png"], invert=False)["predictions"][0]["class"] == "cat"


def test_a_run_of_an_earlier_version_has_its_classes_in_run_json_alone(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    model = load_model(run.folder / "model.safetensors")
    model.signature = None
    save_model(model, folder / "model.safetensors", include_optimizer=False)
    (folder / "run.json").write_text((run.folder / "run.json").read_text())
    assert commands.evaluate(folder)["test_loss"] == run.record["test_loss"]
    record = json.loads((folder / "run.json").read_text())
    record["settings"]["classes"] = ["cat", "dog"]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(FileError, match="names 2 classes, and the model has 3 outputs"):
        commands.predict(folder, ["x.png"])


@pytest.mark.filterwarnings("ignore:the (training )?images look unscaled")
@pytest.mark.parametrize(("low", "high", "divisor"), [(0, 1, 255), (-1, 1, None), (0, 255, None)])
def test_a_model_of_floats_of_another_range_takes_no_image_files(tmp_path, low, high, divisor):
    x = np.random.default_rng(0).uniform(low, high, (8, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(8) % 2, x_test=x, y_test=np.arange(8) % 2)
    settings = RunSettings(data=str(tmp_path / "d.npz"), model="slides", epochs=1)
    run = commands.train(settings, tmp_path / "run", pictures=False)
    assert load_model(run.model_file).signature.divisor == divisor
    Image.new("L", (28, 28)).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", x[0])
    answer = commands.predict(run.folder, [tmp_path / "x.npy", tmp_path / "x.png"])
    assert len(answer["predictions"]) == (2 if divisor else 1)
    if divisor is None:
        assert "how they were made from images is not known" in answer["failed"][0]["error"]


def test_the_public_function_loads_what_evaluate_tests(tmp_path):
    data = fill(tmp_path / "d", {"cat": 3, "dog": 2})
    assert datasets.load_to_test(data, shape=(8, 8, 1)).x.shape == (5, 8, 8, 1)
