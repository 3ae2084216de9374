"""A recipe fills in what the user leaves open, and a run knows whether it followed one."""

import json
import runpy
from dataclasses import asdict, replace

import numpy as np
import pytest
from click.testing import CliRunner
from places import ROOT

from gpucnn import datasets
from gpucnn.datasets import Dataset
from gpucnn.devices import choose
from gpucnn.errors import ArgumentError
from gpucnn.runs import augmentation, commands, recipes, zoo
from gpucnn.runs.commands import RunSettings
from gpucnn.runs.training import Training


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A data set of 60 training images in the place of every published one; `small` is a short recipe for it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (80, 28, 28, 1)).astype(np.uint8)
    y = np.arange(80) // 8  # sorted by class, as many people's files are

    def load(name, data_dir=None, data=None, **_):
        assert data is None
        return Dataset(name, x[:60], y[:60], x[60:], y[60:], list("0123456789"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load", load)
    recipe = recipes.Recipe(
        *("small", "mnist", "slides", 0.9, "here"), Training("adam", 16, 2, 0.002), validation_split=0.25, best=True
    )
    monkeypatch.setattr(recipes, "RECIPES", (recipe, *recipes.RECIPES))
    return recipe


def trained(**settings):
    return commands.train(RunSettings(device="cpu", **settings), pictures=False)


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.name)
def test_each_recipe_names_a_data_set_and_a_model_that_takes_its_images(recipe):
    height, width, channels = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[
        recipe.dataset
    ]
    model = zoo.find(recipe.model).build((height, width, channels))
    assert recipe.describe()["parameters"] == model.count_params()
    assert recipe.accuracy is None or 0.5 < recipe.accuracy < 1
    recipe.training.make_optimizer(100)
    assert recipes.find(recipe.name.upper().replace("-", "_")) is recipe
    assert not recipe.best or recipe.validation_split > 0


def test_the_names_of_recipes_differ():
    names = [recipe.name for recipe in recipes.RECIPES]
    assert len(set(names)) == len(names)


def test_an_unknown_recipe_is_answered_with_the_nearest_one():
    with pytest.raises(ArgumentError, match=r"there is no recipe 'slide': did you mean 'slides'\? the recipes are sl"):
        recipes.find("slide")


def test_a_recipe_decides_what_the_user_leaves_open(small):
    run = trained(recipe="small", seed=3)
    expected = {"dataset": "mnist", "model": "slides", "optimizer": "adam", "learning_rate": 0.002, "seed": 3}
    expected |= {"batch_size": 16, "epochs": 2, "validation_split": 0.25, "best": True, "recipe": "small"}
    assert {key: run.settings[key] for key in expected} == expected
    assert run.record["best_epoch"] in (1, 2)
    assert small.followed_by(run.settings)


def test_options_override_a_recipe_and_the_run_no_longer_follows_it(small):
    run = trained(recipe="small", epochs=1, best=False, validation_split=0.0)
    assert (run.settings["epochs"], run.settings["best"], run.settings["validation_split"]) == (1, False, 0.0)
    assert run.settings["learning_rate"] == 0.002
    assert "val_loss" not in run.read_history()
    assert not small.followed_by(run.settings)


@pytest.mark.parametrize(
    "departure",
    [{"epochs": 3}, {"optimizer": "sgd"}, {"learning_rate": 0.1}, {"weight_decay": 0.1}, {"schedule": "cosine"}],
)
def test_each_departure_is_noticed(small, departure):
    settings = asdict(small.fill(RunSettings(recipe="small", seed=8, threads=1)))
    settings |= asdict(small.training.altered())
    settings = {key: settings[key] for key in asdict(RunSettings()) if key in settings}
    assert small.followed_by(settings)
    assert not small.followed_by(settings | departure)


def test_a_recipe_trains_on_the_images_of_the_user(small):
    filled = small.fill(RunSettings(recipe="small", data="mine.npz"))
    assert (filled.dataset, filled.data, filled.model) == (None, "mine.npz", "slides")


def test_a_run_of_a_recipe_is_resumed_with_the_training_of_the_recipe(small, monkeypatch):
    whole = trained(recipe="small")
    first = trained(recipe="small", epochs=1)
    resumed = commands.resume(first.folder, 2, pictures=False)
    assert resumed.record["weights_sha256"] == whole.record["weights_sha256"]


def test_a_run_whose_recipe_has_a_schedule_cannot_be_given_more_epochs(small, monkeypatch):
    scheduled = replace(small, training=replace(small.training, schedule="one-cycle"))
    monkeypatch.setattr(recipes, "RECIPES", (scheduled,))
    run = trained(recipe="small")
    with pytest.raises(
        ArgumentError, match=r"fall over its 2 epochs \(schedule one-cycle\): resume it without --epochs"
    ):
        commands.resume(run.folder, 3)


def test_held_out_images_are_drawn_at_random_by_the_seed(small, monkeypatch):
    labels = {}

    def fit(model, x, y, *, validation_data, **_):
        labels[seed] = (x.copy(), y.copy(), validation_data[1].copy())
        raise KeyboardInterrupt

    monkeypatch.setattr("gpucnn.models.sequential.Sequential.fit", fit)
    for seed in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            trained(recipe="small", seed=seed)
    for _, y, y_held_out in labels.values():
        assert (len(y), len(y_held_out)) == (45, 15)
        assert len(set(y_held_out)) > 4, "the last quarter of this data set has two classes"
        assert sorted([*y, *y_held_out]) == [*(np.arange(80) // 8)[:60]]
    assert not np.array_equal(labels[0][2], labels[1][2])


def test_recipes_describe_themselves_in_json_values():
    described = recipes.find("slides").describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["parameters"], described["accuracy"], described["dataset"]) == (38_390, 0.9883, "mnist")
    assert str(recipes.find("slides")) == "rmsprop 0.0001, batch 128, 50 epochs, 0.167 held out"
    assert str(replace(recipes.find("cifar-early-stopping"), training=Training("sgd", 1, 2))) == (
        "sgd, batch 1, 2 epochs, 0.1 held out, stops after 3 epochs without progress, best epoch kept"
    )


def test_the_table_in_the_documents_is_that_of_the_record():
    script = runpy.run_path(str(ROOT / "bench" / "recipes.py"))
    folder = ROOT / "bench" / "results" / "cpu-amd-epyc"
    record, in_torch = (json.loads((folder / name).read_text()) for name in ("recipes.json", "recipes_vs_torch.json"))
    assert script["table"](record, in_torch) in (ROOT / "bench" / "README.md").read_text()
    assert script["merged"](record, [record[-1] | {"test_accuracy": 1.0}, record[0]])[-1]["test_accuracy"] == 1.0


def test_a_recipe_with_dropout_and_a_schedule_is_trained_in_pytorch_alike(small, monkeypatch):
    """Without dropout, gpucnn and PyTorch take the same steps; with it, the network is tested without."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(ROOT / "bench")
    in_torch = runpy.run_path(str(ROOT / "bench" / "recipes_vs_torch.py"))
    data = datasets.load("mnist")
    recipe = replace(small, best=False, training=Training("adam", 16, 3, 0.002, epoch_decay=0.5))
    monkeypatch.setattr(recipes, "RECIPES", (recipe,))
    ours = trained(recipe="small", seed=1).record["test_accuracy"]
    assert in_torch["accuracy"](recipe, data, 1) == ours
    noisy = replace(recipe, model="torres-batchnorm")
    assert 0 <= in_torch["accuracy"](noisy, data, 1) == in_torch["accuracy"](noisy, data, 1) <= 1
    assert [one.name for one in recipes.RECIPES if not in_torch["_is_comparable"](one)] == []
    assert not in_torch["_is_comparable"](recipes.Recipe(**{**vars(recipe), "augment": "light"}))


def test_more_seeds_in_pytorch_are_added_to_the_record(small, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(ROOT / "bench")
    command = runpy.run_path(str(ROOT / "bench" / "recipes_vs_torch.py"))["main"]
    monkeypatch.setattr(recipes, "RECIPES", (replace(small, best=False, training=Training("adam", 16, 1)),))
    monkeypatch.setitem(command.callback.__globals__, "accuracy", lambda recipe, data, seed, device: seed / 10)
    saved = ["small", "--save", str(tmp_path / "record.json")]

    def known():
        return json.loads((tmp_path / "record.json").read_text())["small"]["test_accuracies"]

    assert CliRunner().invoke(command, [*saved, "--seeds", "2"]).exit_code == 0
    assert known() == [0.0, 0.1]
    done = CliRunner().invoke(command, [*saved, "--first", "2", "--seeds", "1"])
    assert "20.00 % (20.00 … 20.00, 1 seeds)" in done.output
    assert CliRunner().invoke(command, [*saved, "--seeds", "1"]).exit_code == 0
    assert known() == [0.0, 0.1, 0.2]
    done = CliRunner().invoke(command, [*saved, "--first", "4"])
    assert done.exit_code == 1 and "has the seeds below 3: go on with that one" in done.output


def test_the_table_has_the_minutes_of_whole_trainings_alone(small, monkeypatch, tmp_path):
    script = runpy.run_path(str(ROOT / "bench" / "recipes.py"))
    monkeypatch.setitem(script["IMAGES"], "mnist", 60)
    for seed, epochs in ((0, 2), (1, 1)):
        settings = RunSettings(recipe="small", seed=seed, epochs=epochs, device="cpu", threads=1)
        commands.train(settings, tmp_path / f"runs/{seed}", pictures=False)
    commands.resume(tmp_path / "runs/1", 2, pictures=False)
    whole, resumed = script["entries_of"](tmp_path / "runs")
    assert whole["seconds"] == json.loads((tmp_path / "runs/0/run.json").read_text())["seconds"] > 0
    assert (whole["threads"], resumed["threads"]) == (1, 1) and resumed["seconds"] is None

    def minutes(*entries):
        return script["table"](entries, {}).splitlines()[-1].rsplit("|", 2)[1].strip()

    assert minutes(resumed) == minutes({key: whole[key] for key in script["KEPT"]} | {"recipe": "small"}) == "–"
    assert minutes(whole | {"seconds": 90.0}, resumed) == "1.5 min (1 thread)"
    two = whole | {"threads": 2, "seconds": 60.0}
    assert minutes(whole | {"seconds": 90.0}, two, two | {"seconds": 72.0}) == "1.5 min (1 thread), 1.1 min (2 threads)"


@pytest.mark.parametrize(
    ("level", "ops"),
    [
        ("light", ["random_affine", "affine"]),
        ("strong", ["random_affine", "affine", "globalavgpool", "random_contrast"]),
    ],
)
def test_augmentation_costs_few_kernels_which_run_without_python_on_the_cpu(level, ops, monkeypatch):
    kernels = []
    monkeypatch.setattr(choose.current(), "begin", lambda kernel, *_: kernels.append(kernel))
    x = np.ones((4, 5, 6, 3), np.float32)
    for layer in augmentation.layers(level, True, 1.0):
        x = layer(x, training=True)
    assert [kernel.op.name for kernel in kernels] == ops
    assert all(kernel.compiled and kernel.backend == "njit" for kernel in kernels)
