"""The progress line: its fields, its pace, and what it becomes without a terminal."""

import io
import itertools
import re
import sys
from types import SimpleNamespace

import pytest
from terminal import Terminal

from gpucnn import progress
from gpucnn.callbacks.callback_list import LateLogs


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "perf_counter", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=terminal, stderr=sys.stderr, modules=sys.modules))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress, "_on_screen", None)
    return terminal


def test_bar_has_keras_fields(terminal, clock):
    bar = progress.Progress(10, draws=True)
    clock.now += 1.0
    bar.update(1, {"loss": 2.0})
    assert terminal.lines() == [" 1/10 ━━━━━━━━━━━━━━━━━━━━ 9s 1s/step - loss: 2.0000"]
    clock.now += 0.4
    bar.update(5, {"loss": 0.5, "accuracy": 0.00012345})
    assert terminal.lines() == [" 5/10 ━━━━━━━━━━━━━━━━━━━━ 0s 100ms/step - loss: 0.5000 - accuracy: 1.2345e-04"]
    clock.now += 0.5
    bar.finish({"loss": 0.25})
    assert terminal.lines() == ["10/10 ━━━━━━━━━━━━━━━━━━━━ 2s 100ms/step - loss: 0.2500", ""]
    assert terminal.getvalue().count("\n") == 1


def test_bar_is_filled_in_green_as_far_as_the_work_is_done(terminal, clock):
    bar = progress.Progress(10, draws=True)
    clock.now += 1.0
    bar.update(5, {})
    assert re.search("\x1b\\[32m━{10}\x1b\\[0m\x1b\\[90m━{10}\x1b\\[0m", terminal.getvalue())


def test_bar_is_drawn_at_most_every_tenth_of_a_second(terminal, clock):
    bar = progress.Progress(1000, draws=True)
    for step in range(1000):
        clock.now += 0.001
        bar.update(step + 1, {})
    assert terminal.getvalue().count("\r") == 10


def test_unknown_number_of_steps(terminal, clock):
    bar = progress.Progress(None, draws=True)
    clock.now += 3.0
    bar.update(3, {"loss": 1.0})
    assert terminal.lines() == ["      3/Unknown 3s 1s/step - loss: 1.0000"]


@pytest.mark.parametrize(
    ("step", "left", "shown"),
    [(1.0, 9, "9s 1s/step"), (0.002, 10, "0s 2ms/step"), (2e-5, 10, "0s 20us/step"), (30.0, 9, "4:30 30s/step")],
)
def test_time_left_and_time_per_step(step, left, shown, terminal, clock):
    bar = progress.Progress(left + 1, draws=True)
    clock.now += step
    bar.update(1, {})
    assert terminal.lines()[0].endswith(shown)


def test_hours_are_shown_with_minutes_and_seconds(terminal, clock):
    bar = progress.Progress(3, draws=True)
    clock.now += 2000.0
    bar.update(1, {})
    assert terminal.lines()[0].endswith("1:06:40 2000s/step")


def test_first_step_does_not_count_in_the_time_per_step(clock, capsys):
    """It compiles."""
    bar = progress.Progress(11, draws=False)
    clock.now += 5.0
    bar.update(1, {})
    clock.now += 0.1
    bar.finish({})
    assert capsys.readouterr().out == "11/11 - 5s - 10ms/step\n"


def test_long_line_is_cut_at_the_width_of_the_terminal_until_it_is_final(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    bar = progress.Progress(10, draws=True)
    values = {f"metric_{i}": 1.0 for i in range(9)}
    bar.update(5, values)
    (line,) = terminal.lines()
    assert len(line) <= 39
    assert line.endswith("…")
    bar.finish(values)
    assert terminal.lines()[0].endswith("metric_8: 1.0000")


def test_terminal_without_unicode_gets_ascii(terminal, clock, monkeypatch):
    monkeypatch.setattr(Terminal, "encoding", "ascii")
    bar = progress.Progress(10, draws=True)
    clock.now += 1.0
    bar.update(5, {})
    assert terminal.lines() == [" 5/10 -------------------- 1s 200ms/step"]


def test_other_lines_stand_above_the_bar(terminal, clock):
    bar = progress.Progress(2, draws=True)
    clock.now += 1.0
    bar.update(1, {})
    progress.say("something happened")
    bar.update(1, {})
    bar.finish({})
    progress.say("after it")
    lines = terminal.lines()
    assert lines[0] == "something happened"
    assert lines[1].startswith("2/2 ━━━━")
    assert lines[2:] == ["after it", ""]


def test_without_a_terminal_there_is_one_line_at_the_end(capsys, clock):
    bar = progress.Progress(469, draws=False)
    for step in range(469):
        bar.update(step + 1, {"loss": 1.0})
    assert capsys.readouterr().out == ""
    clock.now += 2.8
    bar.finish({"loss": 0.2104, "accuracy": 0.9361}, "Epoch 1/5")
    out, err = capsys.readouterr()
    assert err == ""
    assert out == "Epoch 1/5 - 469/469 - 3s - 6ms/step - loss: 0.2104 - accuracy: 0.9361\n"


def test_without_steps_the_line_has_times_and_values_alone(capsys, clock):
    progress.Progress(None, draws=False).finish({"loss": 1.0})
    assert capsys.readouterr().out == "0s - loss: 1.0000\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5000"),
        (-0.5, "-0.5000"),
        (1e-3, "0.0010"),
        (9e-4, "9.0000e-04"),
        (float("nan"), "nan"),
        ([1, 2], "1.5000"),
    ],
)
def test_values_have_four_decimals_and_small_ones_an_exponent(value, shown, capsys):
    progress.Progress(None, draws=False).finish({"v": value})
    assert capsys.readouterr().out.endswith(f"v: {shown}\n")


def test_bars_are_for_terminals_and_notebooks_alone(terminal, monkeypatch):
    assert progress.is_interactive()
    monkeypatch.setenv("TERM", "dumb")
    assert not progress.is_interactive()
    monkeypatch.setattr(progress.sys, "stdout", io.StringIO())
    assert not progress.is_interactive()
    monkeypatch.setattr(progress.sys, "stdout", None)
    assert not progress.is_interactive()
    progress.say("to nobody")


def test_notebook_gets_the_bar_on_standard_output(terminal, clock, monkeypatch):
    cell = io.StringIO()
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr(progress.sys, "stdout", cell)
    assert progress.is_interactive()
    bar = progress.Progress(2, draws=True)
    clock.now += 1.0
    bar.update(1, {"loss": 1.0})
    bar.finish({"loss": 1.0})
    progress.say("done")
    assert terminal.getvalue() == ""
    assert cell.getvalue().startswith("\r")
    assert cell.getvalue().endswith("\ndone\n")


def test_bar_of_more_steps_than_announced_stays_full(terminal, clock):
    progress.Progress(2, draws=True).update(3, {})
    assert terminal.lines()[0].startswith("3/2 " + "━" * 20 + " ")


def test_logs_that_are_read_from_a_device_are_asked_for_at_most_ten_times_a_second(terminal, clock):
    asked = []
    bar = progress.Progress(5000, draws=True)
    for step in range(5000):
        clock.now += 0.001
        bar.update(step + 1, LateLogs(lambda: asked.append(clock.now) or {"loss": 1.0}))
    assert 45 <= len(asked) <= 51
    assert min(after - before for before, after in itertools.pairwise(asked)) >= 0.0999


def test_nothing_is_shown_while_it_is_silenced(capsys):
    with progress.silenced():
        progress.say("hidden")
    progress.say("shown")
    assert capsys.readouterr().out == "shown\n"
