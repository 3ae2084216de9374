"""The command, in this process and in a new one."""

import subprocess
import sys

from click.testing import CliRunner

from gpucnn.cli import main

NOTE = "digits: not comparable with MNIST"
KEYS = {
    *("dataset", "model", "device", "backend", "precision", "threads", "seed", "epochs"),
    *("seconds", "images_per_second"),
    *("train_accuracy", "test_accuracy", "test_loss", "parameters", "weights_sha256"),
}


def gpucnn(*arguments):
    """The command in this process: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="gpucnn")


def shell(*arguments, **extra):
    """The command in a new process."""
    command = [sys.executable, "-m", "gpucnn", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **extra)


FAST = ("--model", "slides", "--epochs", 1, "--batch-size", 256, "--no-pictures")
