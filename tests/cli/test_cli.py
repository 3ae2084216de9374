"""What a shell sees of the other commands, and how commands end."""

import json
import os
import re
import runpy
import sys

import click
import numpy as np
import pytest
from command import gpucnn
from PIL import Image

from gpucnn import __version__, datasets
from gpucnn.cli import doctor, main
from gpucnn.cli.screen import Screen, print_table
from gpucnn.errors import FileError, Interrupted
from gpucnn.runs import commands

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_evaluate_repeats_the_figures_of_the_run_to_the_last_digit(run):
    record = json.loads((run / "run.json").read_text())
    answer = json.loads(gpucnn("evaluate", run, "--json").stdout)
    assert set(answer) == {
        "run", "dataset", "model", "images", "left_out", "tested_on", "test_accuracy", "test_loss", "per_class",
        "note", "weights_sha256",
    }  # fmt: skip
    assert "24 of squares: the test images" in gpucnn("evaluate", run).stdout
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
    assert set(answer) == {"run", "dataset", "model", "note", "predictions", "failed"}
    (prediction,) = answer["predictions"]
    assert set(prediction) == {"image", "class", "probability", "probabilities"}
    probabilities = prediction["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert prediction["probability"] == max(probabilities.values()) == probabilities[prediction["class"]]
    table = gpucnn("predict", run, "inverted.jpg", "full.png", "--invert").stdout.splitlines()
    assert table[0].split() == ["image", "class", "probability", "then"]
    assert table[1].split()[:2] == ["inverted.jpg", prediction["class"]]


def test_predict_answers_for_the_good_images_and_fails_for_the_others(run):
    assert gpucnn("predict", run).exit_code == 2
    Image.new("L", (28, 28)).save("good.png")
    with open("text.png", "w") as file:
        file.write("not an image")
    result = gpucnn("predict", run, "text.png", "good.png", "gone.png")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "gpucnn: error: text.png is not a PNG, JPEG, WebP, BMP, TIFF or GIF image: convert it first",
        "gpucnn: error: gone.png cannot be read: No such file or directory",
    ]
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["image", "good.png"]
    result = gpucnn("predict", run, "text.png", "good.png", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert [failure["image"] for failure in answer["failed"]] == ["text.png"]
    assert [prediction["image"] for prediction in answer["predictions"]] == ["good.png"]
    assert gpucnn("predict", run, "text.png").stdout == ""


def test_predict_takes_folders(run):
    os.makedirs("photos/more")
    Image.new("L", (28, 28)).save("photos/b.webp")
    Image.new("L", (30, 20)).save("photos/more/a.gif")
    result = gpucnn("predict", run, "photos")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["image", "photos/b.webp", "photos/more/a.gif"]


def test_evaluate_names_classes_that_are_not_those_of_the_run(run):
    for name in ("empty", "half"):
        os.makedirs(f"other/{name}")
        for i in range(5):
            Image.new("L", (28, 28)).save(f"other/{name}/{i}.png")
    result = gpucnn("evaluate", run, "--data", "other")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the model does not know half and there is no image of full" in result.stderr
    result = gpucnn("evaluate", run, "--data", "other", "--common-classes")
    assert result.exit_code == 0
    assert "images          5 of other: all images of other" in result.stdout
    assert "gpucnn: warning: other: 5 images were left out" in result.stderr
    assert "2 of other" in gpucnn("evaluate", run, "--data", "other", "--common-classes", "--fraction", "0.5").stdout


def test_how_a_folder_is_divided_is_in_the_help():
    text = " ".join(gpucnn("train", "--help").stdout.split())
    assert "a fixed random fifth of each class is held out for the test" in text
    assert "a folder with train/ and test/" in text
    assert "With --data, all images of a folder are used" in " ".join(gpucnn("evaluate", "--help").stdout.split())


def test_a_photographed_digit_is_cut_out_and_centred_with_centre(run):
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
    assert len(names) == 6


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
        "torres-wide",
        "torres-batchnorm",
        "cifar",
        "vgg-small",
        "speedrun",
    ]
    assert set(listed[0]) == {"name", "source", "input_shape", "classes", "parameters", "flops_per_image", "training"}
    assert set(listed[0]["training"]) == {
        "optimizer", "learning_rate", "decay", "epoch_decay", "options", "batch_size", "epochs", "loss", "schedule",
    }  # fmt: skip
    table = gpucnn("models").stdout.partition("recipe ")[0]
    for entry in listed:
        row = next(line for line in table.splitlines() if line.startswith(entry["name"]))
        assert f"{entry['parameters']:,}" in row
        assert entry["source"] in row


def test_models_lists_the_recipes_with_the_accuracy_to_be_reached():
    listed = json.loads(gpucnn("models", "--json").stdout)["recipes"]
    table = gpucnn("models").stdout.partition("\nrecipe ")[2]
    slides = next(entry for entry in listed if entry["name"] == "slides")
    assert (slides["accuracy"], slides["parameters"]) == (0.9883, 38_390)
    for entry in listed:
        row = next(line for line in table.splitlines() if line.startswith(f"{entry['name']} "))
        assert entry["dataset"] in row
        assert entry["model"] in row
    assert "98.83 %" in table


def test_train_follows_a_recipe(monkeypatch):
    settings = []
    monkeypatch.setattr(commands, "train", lambda given, *_, **__: settings.append(given) or 1 / 0)
    assert isinstance(gpucnn("train", "--recipe", "torres", "--no-best").exception, ZeroDivisionError)
    assert settings == [commands.RunSettings(recipe="torres", best=False)]


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
    assert missing.stderr == "gpucnn: error: mnist is not on this machine: get it with gpucnn data fetch mnist\n"


def test_data_fetch_without_a_network_says_what_to_put_where():
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
    broken = gpucnn("doctor", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["ok"] is False


def test_version_can_be_printed_in_two_ways():
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


def test_resume_is_an_option_of_train():
    result = gpucnn("resume", "runs/a")
    assert result.exit_code == 2
    assert "No such command 'resume': write gpucnn train --resume RUN" in result.stderr


@pytest.mark.parametrize("command", [(), ("data",), ("kernels",)])
def test_a_group_without_a_command_prints_its_help(command):
    result = gpucnn(*command)
    assert result.exit_code == 0
    assert result.stdout == gpucnn(*command, "--help").stdout
    assert result.stderr == ""


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
                (("runs",), run),
                (("summary",), "slides"),
                (("models",),),
                (("data", "list"),),
                (("doctor",),),
            )
        },
    }
    for command, value in printed.items():
        assert keys_in(value) <= documented(*command), command
    assert set(printed["models",]["models"][0]["training"]) <= documented("models")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (FileError("cannot write a: the disk is full"), 1, "gpucnn: error: cannot write a: the disk is full"),
        (OSError(28, "No space left on device"), 1, "gpucnn: error: [Errno 28] No space left on device"),
        (MemoryError(), 75, "gpucnn: error: MemoryError"),
        (KeyboardInterrupt(), 130, "gpucnn: stopped"),
        (Interrupted("stopped by SIGTERM", exit_status=143), 143, "gpucnn: stopped by SIGTERM"),
    ],
)
def test_each_kind_of_failure_has_its_line_and_its_status(monkeypatch, error, status, line):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(commands, "train", fail)
    result = gpucnn("train", "digits")
    assert result.exit_code == status
    assert result.stderr == f"{line}\n"


def test_a_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("GPUCNN_DEBUG", "1")
    result = gpucnn("evaluate", "nowhere")
    assert isinstance(result.exception, FileError)


def test_a_bug_is_not_dressed_up_as_an_error_of_the_user(monkeypatch):
    monkeypatch.setattr(commands, "evaluate", lambda *_, **__: 1 / 0)
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


def options_of_numbers():
    return [
        pytest.param(command, option, id=f"{command.name} {option.opts[0]}")
        for command in commands_of(main)
        for option in command.params
        if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
    ]


def commands_of(group):
    for command in group.commands.values():
        yield from commands_of(command) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize(("command", "option"), options_of_numbers())
def test_an_option_takes_no_number_that_is_not_finite_or_fits_nowhere(command, option):
    for text in (
        "nan",
        "inf",
        "-inf",
        "x",
        "-3",
        str(2**40) if isinstance(option.type, click.types.IntParamType) else "",
    ):
        with pytest.raises(click.BadParameter):
            option.process_value(click.Context(command), text)


def test_a_number_that_is_not_finite_is_named():
    result = gpucnn("train", "--validation-split", "nan")
    assert result.exit_code == 2
    assert "'--validation-split': nan is not in the range 0<=x<1" in result.stderr


def test_tables_fit_the_columns_of_the_terminal(monkeypatch, capsys):
    rows = [("a" * 70, "b" * 40, "97.55 %"), ("short", "text", "1.00 %")]
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("one", "two", "accuracy"), rows)
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 60
    assert "97.55 %" in narrow
    assert narrow.count("b") == 40
    monkeypatch.delenv("COLUMNS")
    print_table(("one", "two", "accuracy"), rows)
    assert f"{'a' * 70}   {'b' * 40}   97.55 %" in capsys.readouterr().out


def test_cells_fold_after_a_slash_or_between_words_and_no_line_ends_in_spaces(monkeypatch, capsys):
    path, words = "runs/2026-01-31-mnist/a_very_long_name.png", "no kernel serves this call"
    rows = [("1", path, words), ("2", "short", "")]
    monkeypatch.setenv("COLUMNS", "55")
    print_table(("number", "image", "note"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    columns = [lines[0].index("image"), lines[0].index("note")]
    parts = [(line[columns[0] : columns[1]].strip(), line[columns[1] :].strip()) for line in lines[1:-1]]
    assert "".join(part for part, _ in parts) == path
    assert all(part.endswith("/") for part, _ in parts[:-1] if part and not path.endswith(part))
    assert " ".join(part for _, part in parts if part) == words
    monkeypatch.delenv("COLUMNS")
    print_table(("number", "image", "note"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and path in lines[1] and lines[2].endswith("short")
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("number", "image"), rows=[("1", "x" * 40)])
    assert capsys.readouterr().out.count("x") == 40
