"""What a shell sees of training: output, files, exit status, stopping and resuming."""

import json
import os
import pathlib
import re
import signal
import time

import needs
import numpy as np
import pytest
from command import FAST, KEYS, NOTE, gpucnn, shell
from PIL import Image

from gpucnn import datasets
from gpucnn.models.loading import load_model
from gpucnn.runs import run

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_results_go_to_standard_output_and_progress_to_standard_error(user_npz):
    result = gpucnn("train", "--data", user_npz, *FAST)
    assert result.exit_code == 0
    assert "about 24 training images per class are few: --augment light " in result.stderr
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"test accuracy   \d+\.\d\d %", lines[0])
    assert [line.split("  ")[0] for line in lines] == [
        "test accuracy", "test loss", "train accuracy", "time", "peak memory", "weights", "run", "next",
    ]  # fmt: skip
    assert re.fullmatch(r"peak memory     [\d.]+ [MG]B host", lines[4])
    assert "38,390" not in result.stdout
    assert "squares: 48 training and 24 test images" in result.stderr
    assert "loss: " in result.stderr
    assert "loss: " not in result.stdout


def test_train_prints_its_run_json_and_nothing_else(user_npz):
    result = gpucnn("train", "--data", user_npz, *FAST, "--json")
    record = json.loads(result.stdout)
    assert record.keys() >= KEYS
    assert record["peak_host_bytes"] > 4 * record["parameters"] and record["peak_device_bytes"] is None
    (folder,) = (path for path in os.listdir("runs"))
    with open(f"runs/{folder}/run.json") as file:
        assert json.load(file) == record


@needs.tensorboardx_here
def test_tensorboard_finds_its_files_in_the_run_folder_also_after_resuming(user_npz):
    result = gpucnn("train", "--data", user_npz, *FAST, "--tensorboard", "--out", "r")
    assert result.exit_code == 0, result.stderr
    assert f"tensorboard --logdir {pathlib.Path('r', 'tensorboard')}" in result.stdout
    assert len(list(pathlib.Path("r/tensorboard/train").glob("events*"))) == 1
    assert gpucnn("train", "--resume", "r", "--epochs", 2, "--no-pictures", "--tensorboard").exit_code == 0
    assert len(list(pathlib.Path("r/tensorboard/train").glob("events*"))) == 2


def test_without_a_data_set_the_digits_are_used_and_named_as_such():
    result = gpucnn("train", *FAST, "--target-acc", "0.01")
    assert result.exit_code == 0
    assert "no data set given: using the embedded digits" in result.stderr
    assert "--augment" not in result.stderr
    assert NOTE in result.stdout.splitlines()[0]
    (folder,) = os.listdir("runs")
    evaluated = gpucnn("evaluate", f"runs/{folder}")
    assert evaluated.stdout.splitlines()[0] == result.stdout.splitlines()[0]
    Image.new("L", (28, 28)).save("black.png")
    assert NOTE in gpucnn("predict", f"runs/{folder}", "black.png").stderr
    assert json.loads(gpucnn("predict", f"runs/{folder}", "black.png", "--json").stdout)["note"] == NOTE


def test_a_missed_target_is_one_line_and_exit_status_1(user_npz):
    result = gpucnn("train", "--data", user_npz, *FAST, "--lr", "1e-9", "--target-acc", "1.0", "--json")
    assert result.exit_code == 1
    accuracy = json.loads(result.stdout)["test_accuracy"]
    assert result.stderr.splitlines()[-1] == f"gpucnn: the test accuracy {accuracy:.4f} misses the target 1.0"


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("rate", ["1e10", "1e36"])
def test_a_test_loss_that_is_not_a_number_is_printed_as_such_with_exit_status_1(user_npz, as_json, rate):
    """One batch with a rate far too large: the loss before it is finite, the one after it is not."""
    diverged = "gpucnn: the test loss is nan: training has diverged; lower the learning rate (--lr)"
    form = ["--json"] if as_json else []
    with np.errstate(all="ignore"):
        trained = gpucnn("train", "--data", user_npz, *FAST, "--optimizer", "adam", "--lr", rate, "--out", "r", *form)
        evaluated = gpucnn("evaluate", "r", *form)
    for result in (trained, evaluated):
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == diverged
        if as_json:
            assert json.loads(result.stdout)["test_loss"] is None
        else:
            assert "test loss       nan" in result.stdout.splitlines()
    assert json.loads(pathlib.Path("r/run.json").read_text())["test_loss"] is None


def test_options_reach_the_run(user_npz):
    options = (
        "--optimizer",
        "SGD",
        "--lr",
        "0.5",
        "--seed",
        "7",
        "--threads",
        "1",
        "--backend",
        "numpy",
        "--device",
        "cpu",
    )
    result = gpucnn(
        "train", "--data", user_npz, *FAST, *options, "--save-every", "2", "--validation-split", "0.25", "--json"
    )
    record = json.loads(result.stdout)
    assert (record["seed"], record["backend"], record["device"], record["epochs"]) == (7, "numpy", "cpu", 1)
    settings = record["settings"]
    assert (settings["optimizer"], settings["learning_rate"], settings["threads"]) == ("sgd", 0.5, 1)
    assert (settings["save_every"], settings["validation_split"], settings["batch_size"]) == (2, 0.25, 256)
    assert "val_loss" in result.stderr


def test_a_run_is_resumed_with_its_settings(run, user_npz, tmp_path):
    first = gpucnn("train", "--data", user_npz, *FAST, "--out", "first")
    assert first.exit_code == 0
    result = gpucnn("train", "--resume", "first", "--epochs", 2, "--no-pictures", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["epochs"] == 2
    for other in (("--seed", 1), ("--out", "x"), ("mnist",), ("--data", user_npz)):
        result = gpucnn("train", "--resume", "first", *other)
        assert result.exit_code == 2
        assert "only --epochs may differ" in result.stderr


def test_a_folder_with_broken_images_is_trained_on_with_a_count_or_not_at_all():
    for name, value in (("dark", 30), ("light", 200)):
        os.makedirs(f"photos/{name}")
        for i in range(6):
            Image.new("L", (28, 28), value + i).save(f"photos/{name}/{i}.png")
    with open("photos/dark/x.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff")
    result = gpucnn("train", "--data", "photos", *FAST, "--out", "run")
    assert result.exit_code == 0
    assert "gpucnn: warning: photos: 1 file was left out: 1 broken: photos/dark/x.jpg is not a PNG" in result.stderr
    assert "(a fixed random fifth of each class is held out for the test)" in result.stderr
    result = gpucnn("train", "--data", "photos", *FAST, "--strict", "--out", "strict")
    assert result.exit_code == 1
    assert "photos/dark/x.jpg is not a PNG" in result.stderr
    assert not os.path.exists("strict")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--strict",), 2, "strict=True goes with a folder of images"),
        (("mnits",), 2, r"unknown data set 'mnits': did you mean 'mnist'\?"),
        (("torres-fashion-1",), 2, r"'torres-fashion-1' is not a data set: .*--recipe torres-fashion-1"),
        (("vgg-small",), 2, r"'vgg-small' is not a data set: .*--model vgg-small"),
        (("--model", "slide"), 2, r"there is no model 'slide': did you mean 'slides'\?"),
        (("--optimizer", "adm"), 2, r"unknown optimizer 'adm': did you mean 'adam"),
        (("--epochs", "0"), 2, "Invalid value for '--epochs': 0 is not in the range"),
        (("--batch-size", "-1"), 2, "Invalid value for '--batch-size'"),
        (("--lr", "0"), 2, "Invalid value for '--lr'"),
        (("--seed", "-1"), 2, "Invalid value for '--seed'"),
        (("--target-acc", "98"), 2, "Invalid value for '--target-acc'"),
        (("--validation-split", "1"), 2, "Invalid value for '--validation-split'"),
        (("--device", "tpu"), 2, "device='tpu' is unknown"),
        (("--backend", "java"), 2, "backend='java' is unknown"),
        (("digits", "--data", "x.npz"), 2, "are given: give one of them"),
        (("--resume", "nowhere"), 1, "nowhere is not a run folder"),
        (("mnist",), 1, "GPUCNN_OFFLINE"),
        (("--device", "gpu"), 1, "device='gpu' needs an NVIDIA GPU"),
        (("--sed", "1"), 2, r"No such option.*--sed.*--seed.*\(see gpucnn train --help\)"),
    ],
)
def test_what_cannot_be_done_is_explained_without_a_traceback(arguments, status, message):
    result = gpucnn("train", *arguments)
    assert result.exit_code == status
    assert result.stdout == ""
    assert re.search(f"gpucnn: error: .*{message}", result.stderr, re.DOTALL)
    assert "Traceback" not in result.stderr
    assert not os.path.exists("runs")


def test_a_folder_that_already_holds_a_run_is_not_overwritten(run, user_npz):
    before = (run / "run.json").read_text()
    result = gpucnn("train", "--data", user_npz, *FAST, "--out", run)
    assert result.exit_code == 1
    assert "already holds a run" in result.stderr
    assert (run / "run.json").read_text() == before


def test_warnings_are_lines_with_the_name_of_the_command(run):
    (run.parent / "damaged").mkdir()
    (run.parent / "damaged" / "run.json").write_text("{")
    result = gpucnn("runs", run.parent)
    assert result.exit_code == 0
    assert re.search("^gpucnn: warning: left out: .*damaged", result.stderr, re.MULTILINE)


def test_validation_images_of_sorted_data_are_drawn_from_all_classes(user_npz):
    with np.load(user_npz) as arrays:
        order = np.argsort(arrays["y_train"])
        np.savez("sorted.npz", **{**arrays, **{name: arrays[name][order] for name in ("x_train", "y_train")}})
    result = gpucnn("train", "--data", "sorted.npz", *FAST, "--validation-split", "0.25")
    assert result.exit_code == 0
    assert "validation images drawn at random" in result.stderr + result.stdout
    assert "warning" not in result.stderr


def test_training_images_are_changed_at_random_if_asked(user_npz):
    result = gpucnn(
        "train", "--data", user_npz, *FAST, "--augment", "strong", "--flip", "--pictures", "--out", "changed", "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert "--augment" not in result.stderr
    settings = json.loads(result.stdout)["settings"]
    assert (settings["augment"], settings["flip"]) == ("strong", True)
    model = load_model("changed")
    names = [layer.name for layer in model.layers if layer.name.startswith("augment")]
    assert names == ["augment_affine", "augment_contrast"]
    assert pathlib.Path("changed/pictures/augmented.png").stat().st_size > 5000
    evaluated = json.loads(gpucnn("evaluate", "changed", "--json").stdout)
    assert evaluated["test_accuracy"] == json.loads(result.stdout)["test_accuracy"]
    assert gpucnn("train", "--resume", "changed", "--epochs", "3").exit_code == 0


def test_a_process_gives_pure_json_and_its_exit_status(user_npz):
    process = shell("train", "--data", user_npz, *FAST, "--target-acc", "1.0", "--lr", "1e-9", "--json")
    out, err = process.communicate(timeout=850)
    assert process.returncode == 1, err
    assert json.loads(out)["model"] == "slides"
    assert err.splitlines()[-1].endswith("misses the target 1.0")


def test_output_can_be_written_where_only_ascii_is_known():
    done = shell("models", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    out, err = done.communicate(timeout=600)
    assert (done.returncode, err) == (0, "")
    assert "28?28?1" in out, out


def wait_for_checkpoint(folder, process):
    deadline = time.monotonic() + 60
    while not list(folder.glob("checkpoints/*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


LONGER = ("--model", "slides", "--epochs", 8, "--batch-size", 8, "--no-pictures")


@pytest.fixture(scope="module")
def unbroken(user_npz, tmp_path_factory):
    """The weights' hash of a run that was not stopped."""
    result = gpucnn(
        "train", "--data", user_npz, *LONGER, "--json", "--out", tmp_path_factory.mktemp("runs") / "unbroken"
    )
    return json.loads(result.stdout)["weights_sha256"]


@needs.posix_here
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_process_is_resumed_bit_for_bit(user_npz, tmp_path, unbroken, number, status):
    process = shell("train", "--data", user_npz, *LONGER, "--save-every", 1, "--out", "broken")
    wait_for_checkpoint(tmp_path / "broken", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, err
    assert out == ""
    if number != signal.SIGKILL:
        assert err.splitlines()[-1] == f"gpucnn: stopped by {number.name}; resume with: gpucnn train --resume broken"
        assert run.Run.open("broken").record["status"] == "interrupted"
    resumed = gpucnn("train", "--resume", "broken", "--no-pictures", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["weights_sha256"] == unbroken


def test_the_advice_after_training_fits_the_images(user_npz, tmp_path):
    of_digits = gpucnn("train", *FAST, "--out", tmp_path / "digits").stdout
    assert f"gpucnn predict {tmp_path / 'digits'} IMAGE.png --invert --centre\n" in of_digits
    mine = tmp_path / "mnist.npz"
    mine.write_bytes(user_npz.read_bytes())
    of_mine = gpucnn("train", "--data", mine, *FAST, "--out", tmp_path / "mine").stdout
    assert f"gpucnn predict {tmp_path / 'mine'} IMAGE.png\n" in of_mine


def test_images_of_digits_are_light_strokes_on_dark():
    assert [name for name in datasets.names() if datasets.centring(name)] == ["digits", "mnist"]


def test_the_precision_is_kept_in_the_run_and_its_model(user_npz):
    result = gpucnn("train", "--data", user_npz, *FAST, "--precision", "tf32", "--out", "rounded", "--json")
    record = json.loads(result.stdout)
    assert record["precision"] == record["settings"]["precision"] == "tf32"
    assert run.Run.open("rounded").record["precision"] == "tf32"
    exact = json.loads(gpucnn("train", "--data", user_npz, *FAST, "--json").stdout)
    assert exact["precision"] == "float32" and exact["weights_sha256"] != record["weights_sha256"]
    again = json.loads(gpucnn("evaluate", "rounded", "--json").stdout)
    assert again["test_loss"] == record["test_loss"]


def test_a_precision_that_the_kernels_lack_is_refused_before_any_work(user_npz):
    result = gpucnn("train", "--data", user_npz, *FAST, "--precision", "bfloat16", "--backend", "njit")
    assert result.exit_code == 1
    assert "precision='bfloat16': the njit kernels compute products in float32 alone" in result.stderr
    assert not os.path.exists("runs") or not os.listdir("runs")
