"""ModelCheckpoint and BackupAndRestore."""

import math

import numpy as np
import pytest
from refusals import refuses
from stand_in_model import StandIn, by_name, run

import gpucnn
from gpucnn import callbacks
from gpucnn.errors import ArgumentError, FileError
from gpucnn.models import saving


def test_model_checkpoint_fills_in_epoch_and_logs(tmp_path):
    path = str(tmp_path / "runs" / "{epoch:02d}-{val_loss:.2f}.safetensors")
    model, _ = run(callbacks.ModelCheckpoint(path), by_name("val_loss", 1.234, 0.5))
    names = [("model", str(tmp_path / "runs" / name), True) for name in ("01-1.23.safetensors", "02-0.50.safetensors")]
    assert model.saved == names
    assert (tmp_path / "runs").is_dir()


@pytest.mark.parametrize(("weights_only", "suffix"), [(False, ".keras"), (True, ".weights.h5")])
def test_model_checkpoint_writes_files_of_keras(tmp_path, weights_only, suffix):
    path = str(tmp_path / f"best{suffix}")
    model, _ = run(callbacks.ModelCheckpoint(path, save_weights_only=weights_only), by_name("val_loss", 1))
    assert [saved for _, saved, _ in model.saved] == [path]
    with pytest.raises(
        ArgumentError, match=f"saved in .safetensors or {'.keras' if not weights_only else '.weights.h5'}"
    ):
        callbacks.ModelCheckpoint("best.h5", save_weights_only=weights_only)


def test_model_checkpoint_keeps_only_the_best(capsys):
    checkpoint = callbacks.ModelCheckpoint(
        "{epoch}.weights.safetensors", save_best_only=True, save_weights_only=True, verbose=1
    )
    model, _ = run(checkpoint, by_name("val_loss", 3, 4, math.nan, 2))
    assert [(kind, path) for kind, path, _ in model.saved] == [
        ("weights", "1.weights.safetensors"),
        ("weights", "4.weights.safetensors"),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: val_loss improved to 3.00000",
        "Epoch 1: saved 1.weights.safetensors",
        "Epoch 2: val_loss did not improve from 3.00000",
        "Epoch 3: val_loss did not improve from 3.00000",
        "Epoch 4: val_loss improved from 3.00000 to 2.00000",
        "Epoch 4: saved 4.weights.safetensors",
    ]


def test_model_checkpoint_starts_from_its_threshold():
    checkpoint = callbacks.ModelCheckpoint(
        "{epoch}.safetensors", "val_accuracy", save_best_only=True, initial_value_threshold=0.5
    )
    model, _ = run(checkpoint, by_name("val_accuracy", 0.4, 0.6, 0.5))
    assert [path for _, path, _ in model.saved] == ["2.safetensors"]


def test_model_checkpoint_keeps_every_one_without_a_monitored_value():
    with pytest.warns(UserWarning, match="every checkpoint is kept. Available are loss"):
        model, _ = run(callbacks.ModelCheckpoint("{epoch}.safetensors", save_best_only=True), by_name("loss", 1, 2))
    assert len(model.saved) == 2


@pytest.mark.parametrize(
    ("every", "step", "saved"),
    [(2, 1, ["1-2", "1-4", "2-1", "2-3", "2-5"]), (3, 2, ["1-4", "2-2", "2-5"]), (100, 1, [])],
)
def test_model_checkpoint_counts_batches_across_epochs(every, step, saved):
    """`step` batches are reported at once, as with steps_per_execution."""
    model = StandIn()
    hooks = callbacks.CallbackList(
        [callbacks.ModelCheckpoint("{epoch}-{batch}.safetensors", save_freq=every)], model=model
    )
    hooks.on_train_begin()
    for epoch in range(2):
        hooks.on_epoch_begin(epoch)
        for batch in [*range(step - 1, 5, step), *([4] if 5 % step else [])]:
            hooks.on_train_batch_end(batch, lambda: {"loss": 1.0})
        hooks.on_epoch_end(epoch, {"loss": 1.0})
    assert [path.removesuffix(".safetensors") for _, path, _ in model.saved] == saved


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (
            lambda: callbacks.ModelCheckpoint("best.keras", save_weights_only=True),
            r"ends in '\.keras': weights are saved in \.safetensors or \.weights\.h5 files, such as best\.safetensors",
        ),
        (
            lambda: callbacks.ModelCheckpoint("w.weights.h5"),
            r"ends in '\.h5'.* \.safetensors or \.keras .* w\.safetensors",
        ),
        (lambda: callbacks.ModelCheckpoint("best"), "ends in 'no suffix'"),
        (lambda: callbacks.ModelCheckpoint("{epoch:02d.safetensors"), r"write \{epoch:02d\}"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", period=5), "period=5: it is now called save_freq"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", save_best=True), "did you mean 'save_best_only'"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", save_freq="batch"), "save_freq='batch'"),
        (lambda: callbacks.ModelCheckpoint("m.safetensors", save_freq=0), "save_freq=0"),
        (lambda: callbacks.BackupAndRestore("b", save_freq=True), "save_freq=True"),
        (lambda: callbacks.BackupAndRestore("b", double_checkpoint=True), "double_checkpoint=True"),
        (lambda: callbacks.BackupAndRestore(""), "backup_dir=''"),
        (lambda: callbacks.ReduceLROnPlateau(epsilon=1e-3), "epsilon=0.001: it is now called min_delta"),
        (lambda: callbacks.ReduceLROnPlateau(factor=1.0), "factor=1.0"),
        (lambda: callbacks.LambdaCallback(on_epoch_ends=print), "did you mean 'on_epoch_end'"),
        (lambda: callbacks.LambdaCallback(on_epoch_end=3), "on_epoch_end=3"),
        (lambda: callbacks.CSVLogger("a.csv", separator="\t,"), "separator="),
        (lambda: callbacks.CallbackList(verbose=3), "verbose=3"),
    ],
)


def test_path_with_a_missing_log_names_the_available_ones():
    with pytest.raises(
        ArgumentError, match=r"filepath='\{val_acc\}\.safetensors': there are epoch, loss, val_accuracy"
    ):
        run(callbacks.ModelCheckpoint("{val_acc}.safetensors"), [{"loss": 1.0, "val_accuracy": 0.5}])


def test_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make the folder"):
        run(callbacks.ModelCheckpoint(tmp_path / "file" / "m.safetensors"), [{"loss": 1.0}])


class Interruption(RuntimeError):
    pass


def test_backup_and_restore_resumes_where_training_was_interrupted(tmp_path, problem, small_model):
    x, y = problem
    end = {}

    def fit(name, *extra, epochs=4):
        model = small_model()
        model.fit(x, y, epochs=epochs, batch_size=16, verbose=0, callbacks=list(extra))
        end[name] = model.get_weights()

    def interrupt(epoch, logs):
        if epoch == 2:
            raise Interruption

    def backup():
        return callbacks.BackupAndRestore(tmp_path / "backup")

    gpucnn.utils.set_random_seed(1)
    fit("unbroken")
    gpucnn.utils.set_random_seed(1)
    with pytest.raises(Interruption):
        fit("broken", backup(), callbacks.LambdaCallback(on_epoch_begin=interrupt))
    assert (tmp_path / "backup" / "latest.safetensors").exists()
    gpucnn.utils.set_random_seed(1)
    trained = []
    fit("restored", backup(), callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: trained.append(epoch)))
    assert trained == [2, 3]
    for one, two in zip(end["unbroken"], end["restored"], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not (tmp_path / "backup").exists()


def test_backup_is_saved_by_batches_and_kept_on_request(tmp_path, problem, small_model, monkeypatch):
    saved = []
    monkeypatch.setattr(saving, "save_checkpoint", lambda path, model: saved.append(model.training_state.batch))
    x, y = problem
    other = tmp_path / "mine.txt"
    other.write_text("mine")
    backup = callbacks.BackupAndRestore(tmp_path, save_freq=4, delete_checkpoint=False)
    small_model().fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[backup])
    assert saved == [4, 2, 6]
    assert other.read_text() == "mine"


def test_backup_deletes_nothing_else_in_its_folder(tmp_path):
    other = tmp_path / "mine.txt"
    other.write_text("mine")
    backup = callbacks.BackupAndRestore(tmp_path)
    backup.path.write_text("checkpoint")
    backup.on_train_end()
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
