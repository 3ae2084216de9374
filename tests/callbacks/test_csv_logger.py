"""CSVLogger: one row for each epoch, and files of the user are kept."""

import csv
import os

import numpy as np
import pytest
from stand_in_model import run

from gpucnn import callbacks
from gpucnn.errors import FileError


def rows_of(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter=separator))


def test_csv_logger_writes_epochs_and_sorted_logs(tmp_path):
    path = tmp_path / "log.csv"
    run(callbacks.CSVLogger(path), [{"loss": 2.0, "accuracy": np.float32(0.5)}, {"loss": 1.0, "accuracy": 0.75}])
    assert path.read_text() == ("epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,2.0,NA,NA\n1,0.75,1.0,NA,NA\n")


def test_csv_logger_keeps_validation_that_comes_every_other_epoch(tmp_path):
    path = tmp_path / "log.tsv"
    logs = [{"loss": 3.0}, {"loss": 2.0, "val_loss": 4.0, "learning_rate": [0.1, 0.2]}]
    run(callbacks.CSVLogger(str(path), separator="\t"), logs)
    assert rows_of(path, "\t") == [
        {"epoch": "0", "loss": "3.0", "val_loss": "NA", "learning_rate": "NA"},
        {"epoch": "1", "loss": "2.0", "val_loss": "4.0", "learning_rate": "[0.1, 0.2]"},
    ]


def test_csv_logger_appends_and_keeps_lines_and_columns_of_the_user(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('epoch,loss,note\n0,3.5,"first, and best"\n\n1,3.0\n')
    run(callbacks.CSVLogger(path, append=True), [{"loss": 2.0, "accuracy": 0.5}], start=2)
    assert rows_of(path) == [
        {"epoch": "0", "loss": "3.5", "note": "first, and best", "accuracy": "NA"},
        {"epoch": "1", "loss": "3.0", "note": "NA", "accuracy": "NA"},
        {"epoch": "2", "loss": "2.0", "note": "NA", "accuracy": "0.5"},
    ]


@pytest.mark.parametrize("content", ["", "\n"])
def test_csv_logger_appends_to_an_empty_file(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_text(content)
    run(callbacks.CSVLogger(path, append=True), [{"loss": 2.0, "val_loss": 1.0}])
    assert rows_of(path) == [{"epoch": "0", "loss": "2.0", "val_loss": "1.0"}]


def test_csv_logger_replaces_the_file_only_after_the_first_epoch(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("precious\n")
    logger = callbacks.CSVLogger(path)
    logger.on_train_begin()
    assert path.read_text() == "precious\n"
    logger.on_epoch_end(0, {"loss": 1.0})
    assert path.read_text().startswith("epoch,loss")


@pytest.mark.parametrize("content", ["a,b\n1,2,3\n", "a,a\n1,2\n", "\u20ac".encode("utf-16")])
def test_csv_logger_leaves_a_file_that_it_cannot_read_alone(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(FileError, match="not a CSV file with one header"):
        run(callbacks.CSVLogger(path, append=True), [{"loss": 1.0}])
    assert path.read_bytes() == before


def test_csv_logger_finds_a_missing_folder_before_training(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*log\.csv: there is no folder"):
        callbacks.CSVLogger(tmp_path / "no" / "log.csv").on_train_begin()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_csv_logger_finds_a_protected_folder_before_training(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="permission denied"):
        callbacks.CSVLogger(tmp_path / "log.csv").on_train_begin()
