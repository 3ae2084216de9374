"""The data sets that are computed: the same every time, balanced, and what their names say."""

import numpy as np
import pytest

from gpucnn.datasets import digits, synthetic
from gpucnn.errors import ArgumentError

SHAPES = {
    "signals": ((128, 1), np.float32, np.uint8),
    "volumes": ((16, 16, 16, 1), np.float32, np.uint8),
    "rotated_digits": ((28, 28, 1), np.uint8, np.float32),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_and_types_are_those_stated_and_each_seed_gives_its_own_data(name):
    load = getattr(synthetic, name)
    (x, y), (x_test, y_test) = load(24) if name != "rotated_digits" else load(1)
    shape, kind, kind_y = SHAPES[name]
    assert x.shape[1:] == x_test.shape[1:] == shape and x.dtype == kind and y.dtype == kind_y
    assert len(x) == len(y) > len(x_test) == len(y_test) > 0
    again, other = load(24 if name != "rotated_digits" else 1), load(24 if name != "rotated_digits" else 1, seed=1)
    assert (again[0][0] == x).all() and not (other[0][0] == x).all()


@pytest.mark.parametrize("name", ["signals", "volumes"])
def test_both_halves_have_as_many_of_each_class(name):
    for _, y in getattr(synthetic, name)(240):
        counts = np.bincount(y)
        assert len(set(counts)) == 1 and len(counts) == len(getattr(synthetic, name.upper()))


def test_without_noise_a_square_wave_has_two_values_and_a_chirp_speeds_up():
    (x, y), _ = synthetic.signals(4000)
    mean = {name: x[y == i, :, 0] for i, name in enumerate(synthetic.SIGNALS)}
    # Of a square wave the variance is the squared amplitude, of a sine half of it, of a sawtooth a third.
    variances = [mean[name].var() - 0.3**2 for name in ("square", "sine", "sawtooth")]
    squared = np.mean(np.linspace(0.6, 1.0, 1000) ** 2)
    assert variances == pytest.approx([squared, squared / 2, squared / 3], rel=0.05)
    halves = mean["chirp"][:, :64], mean["chirp"][:, 64:]
    frequencies = [np.abs(np.fft.rfft(half, axis=1)).argmax(axis=1).mean() for half in halves]
    assert 1.2 < frequencies[1] / frequencies[0] < 1.6  # 7/6 over 5/6 of the mean frequency, in whole bins


def test_a_shell_is_hollow_and_a_ball_is_not():
    (x, y), _ = synthetic.volumes(600)
    sums = [x[y == i].sum(axis=(1, 2, 3, 4)).mean() for i in range(3)]
    assert sums[0] > sums[1] > 0 and sums[2] > sums[1]


def test_digits_are_turned_by_their_angles():
    (x, angles), (x_test, _) = synthetic.rotated_digits(2)
    (plain, _), _ = digits.load_data()
    assert (len(x), len(x_test)) == (2 * 1437, 2 * 360)
    assert -45 <= angles.min() < -40 and 40 < angles.max() <= 45
    from PIL import Image

    first = np.asarray(Image.fromarray(plain[0]).rotate(float(angles[1]), Image.Resampling.BILINEAR))
    assert (x[1, ..., 0] == first).all()


@pytest.mark.parametrize("count", [0, -1, 1.5, "many"])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(ArgumentError, match="count"):
        synthetic.signals(count)
