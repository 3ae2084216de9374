"""What a shell sees of gpucnn: standard output, standard error, files and exit status."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from gpucnn import __version__, datasets, doctor, experiment, runs
from gpucnn.cli import main
from gpucnn.cli.screen import Screen
from gpucnn.errors import FileError, Interrupted

NOTE = "digits: not comparable with MNIST"
KEYS = {
    *("dataset", "model", "device", "backend", "precision", "seed", "epochs", "seconds", "images_per_second"),
    *("train_accuracy", "test_accuracy", "test_loss", "parameters", "weights_sha256"),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GPUCNN_OFFLINE", "1")
    for name in ("GPUCNN_DATA", "GPUCNN_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def gpucnn(*arguments):
    """The command in this process: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="gpucnn")


def shell(*arguments, **extra):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "gpucnn", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **extra)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """An .npz file of 48 + 24 images of two classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for half, count in (("train", 48), ("test", 24)):
        y = np.arange(count) % 2
        x = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        x[y == 1, 8:20, 8:20] += 150
        arrays |= {f"x_{half}": x, f"y_{half}": y}
    path = tmp_path_factory.mktemp("own") / "squares.npz"
    np.savez(path, **arrays, classes=np.array(["empty", "full"]))
    return path


@pytest.fixture(scope="module")
def run(own, tmp_path_factory):
    """A trained run, made by the command, with its pictures."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    result = gpucnn("train", "--data", own, "--model", "slides", "--epochs", 2, "--batch-size", 16, "--out", folder)
    assert result.exit_code == 0, result.stderr
    return folder


FAST = ("--model", "slides", "--epochs", 1, "--batch-size", 256, "--no-pictures")


# -- train -------------------------------------------------------------------------------------------------------------


def test_results_go_to_standard_output_and_progress_to_standard_error(own):
    result = gpucnn("train", "--data", own, *FAST)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"test accuracy   \d+\.\d\d %", lines[0])
    assert [line.split("  ")[0] for line in lines] == [
        "test accuracy", "test loss", "train accuracy", "time", "weights", "run", "next",
    ]  # fmt: skip
    assert "38,390" not in result.stdout
    assert "squares: 48 training and 24 test images" in result.stderr
    assert "loss: " in result.stderr
    assert "loss: " not in result.stdout


def test_train_prints_its_run_json_and_nothing_else(own):
    result = gpucnn("train", "--data", own, *FAST, "--json")
    record = json.loads(result.stdout)
    assert record.keys() >= KEYS
    (folder,) = (path for path in os.listdir("runs"))
    with open(f"runs/{folder}/run.json") as file:
        assert json.load(file) == record


def test_without_a_data_set_the_digits_are_taken_and_named_as_such():
    result = gpucnn("train", *FAST, "--target-acc", "0.01")
    assert result.exit_code == 0
    assert "no data set is given: taking the embedded digits" in result.stderr
    assert NOTE in result.stdout.splitlines()[0]
    (folder,) = os.listdir("runs")
    evaluated = gpucnn("evaluate", f"runs/{folder}")
    assert evaluated.stdout.splitlines()[0] == result.stdout.splitlines()[0]
    Image.new("L", (28, 28)).save("black.png")
    assert NOTE in gpucnn("predict", f"runs/{folder}", "black.png").stderr
    assert json.loads(gpucnn("predict", f"runs/{folder}", "black.png", "--json").stdout)["note"] == NOTE


def test_a_missed_target_is_one_line_and_exit_status_1(own):
    result = gpucnn("train", "--data", own, *FAST, "--lr", "1e-9", "--target-acc", "1.0", "--json")
    assert result.exit_code == 1
    accuracy = json.loads(result.stdout)["test_accuracy"]
    assert result.stderr.splitlines()[-1] == f"gpucnn: the test accuracy {accuracy:.4f} misses the target 1.0"


def test_options_reach_the_run(own):
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
        "train", "--data", own, *FAST, *options, "--save-every", "2", "--validation-split", "0.25", "--json"
    )
    record = json.loads(result.stdout)
    assert (record["seed"], record["backend"], record["device"], record["epochs"]) == (7, "numpy", "cpu", 1)
    settings = record["settings"]
    assert (settings["optimizer"], settings["learning_rate"], settings["threads"]) == ("sgd", 0.5, 1)
    assert (settings["save_every"], settings["validation_split"], settings["batch_size"]) == (2, 0.25, 256)
    assert "val_loss" in result.stderr


def test_a_run_is_resumed_with_its_own_settings(run, own, tmp_path):
    first = gpucnn("train", "--data", own, *FAST, "--out", "first")
    assert first.exit_code == 0
    result = gpucnn("train", "--resume", "first", "--epochs", 2, "--no-pictures", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["epochs"] == 2
    for other in (("--seed", 1), ("--out", "x"), ("mnist",), ("--data", own)):
        result = gpucnn("train", "--resume", "first", *other)
        assert result.exit_code == 2
        assert "only --epochs may differ" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("mnits",), 2, r"unknown data set 'mnits': did you mean mnist\?"),
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
def test_what_cannot_be_done_is_told_in_words_without_a_traceback(arguments, status, message):
    result = gpucnn("train", *arguments)
    assert result.exit_code == status
    assert result.stdout == ""
    assert re.search(f"gpucnn: error: .*{message}", result.stderr, re.DOTALL)
    assert "Traceback" not in result.stderr
    assert not os.path.exists("runs")


def test_a_folder_that_holds_a_run_already_is_not_overwritten(run, own):
    before = (run / "run.json").read_text()
    result = gpucnn("train", "--data", own, *FAST, "--out", run)
    assert result.exit_code == 1
    assert "holds a run already" in result.stderr
    assert (run / "run.json").read_text() == before


def test_warnings_are_lines_with_the_name_of_the_command(own):
    with np.load(own) as arrays:
        np.savez("sorted.npz", **{**arrays, "y_train": np.sort(arrays["y_train"])})
    result = gpucnn("train", "--data", "sorted.npz", *FAST, "--validation-split", "0.25")
    assert result.exit_code == 0
    assert re.search("^gpucnn: warning: validation_split holds out", result.stderr, re.MULTILINE)


# -- evaluate, predict, plot -------------------------------------------------------------------------------------------


def test_evaluate_repeats_the_figures_of_the_run_to_the_digit(run):
    record = json.loads((run / "run.json").read_text())
    answer = json.loads(gpucnn("evaluate", run, "--json").stdout)
    assert set(answer) == {
        "run", "dataset", "model", "images", "test_accuracy", "test_loss", "note", "weights_sha256",
    }  # fmt: skip
    for key in ("test_accuracy", "test_loss", "weights_sha256"):
        assert answer[key] == record[key]
    assert f"{record['test_loss']:.4f}" in gpucnn("evaluate", run).stdout


def test_evaluate_refuses_images_of_another_kind(run):
    result = gpucnn("evaluate", run, "digits")
    assert result.exit_code == 1
    assert "gpucnn: error: " in result.stderr


def test_predict_names_the_class_and_how_sure_it_is(run):
    image = np.zeros((28, 28), np.uint8)
    image[8:20, 8:20] = 200
    Image.fromarray(image).save("full.png")
    Image.fromarray(255 - image).save("inverted.jpg", quality=100)
    answer = json.loads(gpucnn("predict", run, "full.png", "--json").stdout)
    assert set(answer) == {"run", "dataset", "model", "note", "predictions"}
    (seen,) = answer["predictions"]
    assert set(seen) == {"image", "class", "probability", "probabilities"}
    assert sum(seen["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert seen["probability"] == max(seen["probabilities"].values()) == seen["probabilities"][seen["class"]]
    table = gpucnn("predict", run, "inverted.jpg", "full.png", "--invert").stdout.splitlines()
    assert table[0].split() == ["image", "class", "probability", "then"]
    assert table[1].split()[:2] == ["inverted.jpg", seen["class"]]


def test_predict_needs_an_image_that_is_one(run):
    assert gpucnn("predict", run).exit_code == 2
    with open("text.png", "w") as file:
        file.write("no image")
    result = gpucnn("predict", run, "text.png")
    assert result.exit_code == 1
    assert "text.png is not a PNG or JPEG image" in result.stderr


def test_a_photographed_digit_is_cut_out_and_centred_when_asked(run):
    photo = np.full((90, 120), 230, np.uint8)
    photo[10:50, 70:80] = 30
    Image.fromarray(photo).save("photo.png")
    assert gpucnn("predict", run, "photo.png", "--invert", "--centre").exit_code == 0
    assert gpucnn("predict", run, "photo.png", "--invert", "--center").exit_code == 0


def test_plot_draws_the_pictures_again(run):
    folder = run / "pictures"
    names = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    result = gpucnn("plot", run)
    assert result.exit_code == 0
    assert (
        {os.path.basename(line) for line in result.stdout.splitlines()} == names == {p.name for p in folder.iterdir()}
    )
    assert len(names) == 5


# -- summary, models, data, doctor, version ----------------------------------------------------------------------------


def test_summary_prints_keras_table_and_its_json(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    result = gpucnn("summary", "slides")
    assert "Total params: 38,390" in result.stdout
    assert "FLOPs / image" in result.stdout
    described = json.loads(gpucnn("summary", "slides", "--input-shape", "32x32x3", "--classes", 5, "--json").stdout)
    assert set(described) == {
        "model", "input_shape", "parameters", "trainable_parameters", "flops_per_image", "layers",
    }  # fmt: skip
    assert described["input_shape"] == [32, 32, 3]
    assert described["layers"][-1]["output_shape"] == [5]
    assert json.loads(gpucnn("summary", run, "--json").stdout)["layers"][-1]["output_shape"] == [2]
    assert gpucnn("summary", "slidez").exit_code == 2


def test_a_model_that_does_not_fit_its_images_shows_the_sizes_on_the_way():
    result = gpucnn("summary", "slides", "--input-shape", "8x8x1")
    assert result.exit_code == 1
    assert "Sizes so far: input (8, 8, 1)" in result.stderr


def test_models_lists_source_shape_parameters_and_work():
    listed = json.loads(gpucnn("models", "--json").stdout)["models"]
    assert [entry["name"] for entry in listed] == [
        "mnist_convnet",
        "slides",
        "mlearning",
        "keras-intro",
        "torres",
        "cifar",
    ]
    assert set(listed[0]) == {"name", "source", "input_shape", "classes", "parameters", "flops_per_image", "recipe"}
    assert set(listed[0]["recipe"]) == {
        "optimizer", "learning_rate", "decay", "options", "batch_size", "epochs", "loss",
    }  # fmt: skip
    table = gpucnn("models").stdout
    for entry in listed:
        row = next(line for line in table.splitlines() if line.startswith(entry["name"]))
        assert f"{entry['parameters']:,}" in row
        assert entry["source"] in row


def test_data_list_says_what_is_here_and_how_to_get_the_rest():
    listed = json.loads(gpucnn("data", "list", "--json").stdout)["datasets"]
    assert [entry["name"] for entry in listed] == datasets.names()
    assert set(listed[0]) == {"name", "about", "path", "form", "published"}
    assert listed[0]["published"] is True
    table = gpucnn("data", "list").stdout
    assert "gpucnn data fetch fashion_mnist" in table


def test_data_path_prints_a_folder_or_says_how_to_get_it(tmp_path):
    assert gpucnn("data", "path").stdout.strip() == str(datasets.user_cache())
    assert os.path.isdir(gpucnn("data", "path", "digits").stdout.strip())
    missing = gpucnn("data", "path", "mnist")
    assert missing.exit_code == 1
    assert missing.stderr == "gpucnn: error: mnist is not on this machine: get it by gpucnn data fetch mnist\n"


def test_data_fetch_without_a_network_tells_what_to_put_where():
    result = gpucnn("data", "fetch", "mnist")
    assert result.exit_code == 1
    assert "train-images-idx3-ubyte.gz" in result.stderr
    assert gpucnn("data", "fetch", "digits").exit_code == 0


def test_data_verify_compares_hashes():
    good = gpucnn("data", "verify", "digits")
    assert good.exit_code == 0
    assert "ok" in good.stdout
    missing = gpucnn("data", "verify", "mnist")
    assert missing.exit_code == 1
    assert missing.stdout.count("MISSING") == 4


def test_doctor_reports_and_exits_by_its_verdict(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", {})
    healthy = gpucnn("doctor")
    assert healthy.exit_code == 0, healthy.stdout
    assert healthy.stdout.startswith("ready: ")
    monkeypatch.setattr(doctor, "CHECKS", {"broken": lambda: 1 / 0})
    ill = gpucnn("doctor", "--json")
    assert ill.exit_code == 1
    assert json.loads(ill.stdout)["ok"] is False


def test_version_is_told_in_two_ways():
    assert gpucnn("version").stdout == gpucnn("--version").stdout == f"gpucnn {__version__}\n"


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "plot", "summary", "models", "data", "doctor", "version"]
)
def test_every_command_explains_itself(command):
    assert command in gpucnn("--help").stdout
    result = gpucnn(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: gpucnn {command}")


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpucnn", "version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("gpucnn", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gpucnn {__version__}\n"


def test_a_misspelt_command_is_answered_with_the_nearest_one():
    result = gpucnn("trian")
    assert result.exit_code == 2
    assert "train" in result.stderr


def documented(*command):
    """The words of the help text that follow `Keys of --json`."""
    words = gpucnn(*command, "--help").stdout.partition("Keys of --json")[2].partition("Options:")[0]
    return set(re.findall(r"\w+", words))


def keys_in(value):
    """All keys of an object in JSON, and of the first object in each list in it."""
    if isinstance(value, list):
        return keys_in(value[0]) if value else set()
    if not isinstance(value, dict):
        return set()
    return set(value).union(*(keys_in(item) for item in value.values() if isinstance(item, list)))


def test_the_help_text_names_every_key_of_the_json(run, monkeypatch):
    Image.new("L", (28, 28)).save("black.png")
    monkeypatch.setattr(doctor, "CHECKS", {"fine": lambda: "well"})
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    printed = {
        ("train",): json.loads((run / "run.json").read_text()),
        **{
            command: json.loads(gpucnn(*command, *arguments, "--json").stdout)
            for command, *arguments in (
                (("evaluate",), run),
                (("predict",), run, "black.png"),
                (("summary",), "slides"),
                (("models",),),
                (("data", "list"),),
                (("doctor",),),
            )
        },
    }
    for command, value in printed.items():
        assert keys_in(value) <= documented(*command), command
    assert set(printed["models",]["models"][0]["recipe"]) <= documented("models")


# -- how commands end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (FileError("cannot write a: the disk is full"), 1, "gpucnn: error: cannot write a: the disk is full"),
        (OSError(28, "No space left on device"), 1, "gpucnn: error: [Errno 28] No space left on device"),
        (MemoryError(), 1, "gpucnn: error: MemoryError"),
        (KeyboardInterrupt(), 130, "gpucnn: stopped"),
        (Interrupted("stopped by SIGTERM", exit_status=143), 143, "gpucnn: stopped by SIGTERM"),
    ],
)
def test_each_kind_of_failure_has_its_line_and_its_status(monkeypatch, error, status, line):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(experiment, "train", fail)
    result = gpucnn("train", "digits")
    assert result.exit_code == status
    assert result.stderr == f"{line}\n"


def test_a_traceback_is_shown_when_asked_for(monkeypatch):
    monkeypatch.setenv("GPUCNN_DEBUG", "1")
    result = gpucnn("evaluate", "nowhere")
    assert isinstance(result.exception, FileError)


def test_a_bug_is_not_dressed_up_as_an_error_of_the_user(monkeypatch):
    monkeypatch.setattr(experiment, "evaluate", lambda *_, **__: 1 / 0)
    assert isinstance(gpucnn("evaluate", "x").exception, ZeroDivisionError)


def test_downloads_are_bars_on_a_terminal_and_single_lines_elsewhere(monkeypatch, capsys):
    def work():
        with Screen() as screen:
            for done in (0, 50, 100):
                screen.progress("downloading a", done, 100)
            screen.progress("decoding", 1, 0)
            screen.say("done")

    work()
    assert capsys.readouterr().err.splitlines() == ["downloading a", "decoding", "done"]
    monkeypatch.setenv("FORCE_COLOR", "1")
    work()
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert shown.endswith("done\n")


# -- real processes ----------------------------------------------------------------------------------------------------


def test_a_process_gives_pure_json_and_its_exit_status(own):
    process = shell("train", "--data", own, *FAST, "--target-acc", "1.0", "--lr", "1e-9", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert json.loads(out)["model"] == "slides"
    assert err.splitlines()[-1].endswith("misses the target 1.0")


def test_output_can_be_written_where_only_ascii_is_known():
    done = shell("models", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, "")
    assert "28?28?1" in out


def wait_for_checkpoint(folder, process):
    deadline = time.monotonic() + 60
    while not list(folder.glob("checkpoints/*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


LONGER = ("--model", "slides", "--epochs", 8, "--batch-size", 8, "--no-pictures")


@pytest.fixture(scope="module")
def unbroken(own, tmp_path_factory):
    """The weights' hash of a run that nobody stopped."""
    result = gpucnn("train", "--data", own, *LONGER, "--json", "--out", tmp_path_factory.mktemp("runs") / "unbroken")
    return json.loads(result.stdout)["weights_sha256"]


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_process_is_resumed_to_the_bit(own, tmp_path, unbroken, number, status):
    process = shell("train", "--data", own, *LONGER, "--save-every", 1, "--out", "broken")
    wait_for_checkpoint(tmp_path / "broken", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert out == ""
    if number != signal.SIGKILL:
        assert err.splitlines()[-1] == f"gpucnn: stopped by {number.name}; go on with: gpucnn train --resume broken"
        assert runs.Run.open("broken").record["status"] == "interrupted"
    resumed = gpucnn("train", "--resume", "broken", "--no-pictures", "--json")
    assert json.loads(resumed.stdout)["weights_sha256"] == unbroken
