"""What training prints, on a terminal and elsewhere."""

import sys
import warnings
from types import SimpleNamespace

import pytest
from stand_in_model import StandIn, follows_batches

from gpucnn import callbacks, progress


def drive(verbose, epochs=2, steps=2, kind="fit"):
    hooks = callbacks.CallbackList(model=StandIn(), verbose=verbose, epochs=epochs, steps=steps)
    if kind == "evaluate":
        hooks.on_test_begin()
        for batch in range(2):
            hooks.on_test_batch_end(batch, {"loss": 1.0})
        hooks.on_test_end({"loss": 0.5})
    elif kind == "predict":
        hooks.on_predict_begin()
        for batch in range(2):
            hooks.on_predict_batch_end(batch, {})
        hooks.on_predict_end()
    else:
        hooks.on_train_begin()
        for epoch in range(epochs):
            hooks.on_epoch_begin(epoch)
            for batch in range(2):
                hooks.on_train_batch_end(batch, {"loss": 1.0})
            hooks.on_test_begin()
            hooks.on_test_batch_end(0, {"loss": 9.0})
            hooks.on_test_end({"loss": 9.0})
            hooks.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 9.0})
        hooks.on_train_end({})
    return hooks


@pytest.mark.parametrize("verbose", [1, 2, "auto", True])
def test_without_a_terminal_each_epoch_is_one_line(verbose, capsys):
    drive(verbose)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line[:15] for line in lines] == ["Epoch 1/2 - 2/2", "Epoch 2/2 - 2/2"]
    assert all(line.endswith(" - loss: 0.5000 - val_loss: 9.0000") for line in lines)


def test_single_epoch_has_no_title(capsys):
    drive(2, epochs=1)
    assert capsys.readouterr().out.startswith("2/2 - 0s - ")


def test_line_of_an_unknown_number_of_steps_counts_them(capsys):
    assert follows_batches(drive(2, epochs=1, steps=None))
    assert capsys.readouterr().out.startswith("2/2 - 0s - ")
    assert not follows_batches(drive(2))


@pytest.mark.parametrize("kind", ["fit", "evaluate", "predict"])
def test_verbose_0_writes_nothing(kind, capsys):
    drive(0, kind=kind)
    assert capsys.readouterr() == ("", "")


def test_evaluate_and_predict_write_one_line_if_verbose(capsys):
    drive("auto", kind="evaluate")
    assert capsys.readouterr().out.endswith("- loss: 0.5000\n")
    drive("auto", kind="predict")
    assert capsys.readouterr().out == ""
    drive(2, kind="predict")
    assert capsys.readouterr().out.startswith("2/2 - 0s")


def test_on_a_terminal_there_is_a_bar_for_each_epoch(monkeypatch):
    from terminal import Terminal

    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=terminal, stderr=sys.stderr, modules=sys.modules))
    assert follows_batches(drive(1))
    drive(1, kind="evaluate")
    drive("auto", kind="predict")
    lines = terminal.lines()
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("2/2 " + "━" * 20)
    assert lines[1].endswith("- loss: 0.5000 - val_loss: 9.0000")
    assert lines[2] == "Epoch 2/2"
    assert lines[4].endswith("- loss: 0.5000")
    assert lines[5].endswith("/step")
    assert len(lines) == 7


def test_progress_of_a_real_fit_goes_to_standard_output_as_in_keras(problem, small_model, capsys):
    x, y = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_model().fit(x, y, epochs=2, batch_size=32, validation_data=(x, y))
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split(" - ")[:2] for line in out.splitlines()] == [["Epoch 1/2", "3/3"], ["Epoch 2/2", "3/3"]]
    assert " - val_accuracy: " in out


def test_where_standard_output_is_for_results_progress_goes_to_standard_error(capsys):
    with progress.on_standard_error():
        drive(2)
    assert capsys.readouterr().out == ""
    drive(2)
    assert capsys.readouterr().err == ""
