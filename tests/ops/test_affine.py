"""Affine maps read the pixels that their definition says, and random ones are what their limits say."""

import numpy as np
import pytest

from gpucnn import random
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops import affine as module
from gpucnn.ops.affine import FILLS, PIXEL, affine, random_affine

STEP = np.array([5])
STILL = {
    "rotation": (0.0, 0.0),
    "translation": ((0.0, 0.0), (0.0, 0.0)),
    "zoom": ((0.0, 0.0),),
    "flip": (False, False),
    "seed": 1,
    "stream": 2,
}


def maps(count, shape, size=None, step=STEP, **changes):
    return random_affine(step, count=count, shape=shape, size=size or shape, **STILL | changes)


def seen(x, lines, fill="constant", value=0.0, size=None):
    lines = np.broadcast_to(np.round(np.array(lines) * PIXEL), (len(x), 6)).astype(np.int32)
    return affine(x, lines, size=size or x.shape[1:3], fill=fill, value=value)


def test_the_map_without_limits_is_the_identity():
    assert (maps(3, (28, 17)) == np.array([PIXEL, 0, 0, 0, PIXEL, 0])).all()


@pytest.mark.parametrize("fill", FILLS)
def test_the_identity_and_shifts_by_whole_pixels_return_the_values_themselves(fill):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    assert np.array_equal(seen(x, [1, 0, 0, 0, 1, 0], fill), x)
    assert np.array_equal(seen(x, [1, 0, 1, 0, 1, -1], fill)[:, :4, 1:], x[:, 1:, :3])


def test_outside_lies_what_the_fill_says():
    row = np.arange(1.0, 5.0, dtype=np.float32).reshape(1, 1, 4, 1)
    shown = {fill: seen(row, [1, 0, 0, 0, 1, -3], fill, 9.0, (1, 10)).ravel().tolist() for fill in FILLS}
    assert shown == {
        "constant": [9, 9, 9, 1, 2, 3, 4, 9, 9, 9],
        "nearest": [1, 1, 1, 1, 2, 3, 4, 4, 4, 4],
        "reflect": [3, 2, 1, 1, 2, 3, 4, 4, 3, 2],
        "wrap": [2, 3, 4, 1, 2, 3, 4, 1, 2, 3],
    }


def test_between_pixels_values_are_interpolated_in_both_directions():
    x = np.array([[0, 4], [8, 16]], np.float32).reshape(1, 2, 2, 1)
    assert seen(x, [1, 0, 0.25, 0, 1, 0.5], "nearest")[0, :, :, 0].tolist() == [[4.5, 7], [12, 16]]


def test_random_angles_shifts_and_zooms_fill_their_limits():
    drawn = maps(4000, (100, 100), translation=((-0.25, 0.1), (0.0, 0.3))) / PIXEL
    down, right = -drawn[:, 2] / 100, -drawn[:, 5] / 100
    for shifts, low, high in ((down, -0.25, 0.1), (right, 0.0, 0.3)):
        assert low <= shifts.min() < low + 0.005
        assert high - 0.005 < shifts.max() <= high
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.06
    turned = maps(4000, (9, 9), rotation=(-0.1, 0.2))
    angles = np.arctan2(turned[:, 1], turned[:, 0]) / (2 * np.pi)
    assert (round(angles.min(), 2), round(angles.max(), 2)) == (-0.1, 0.2)
    assert np.hypot(turned[:, 0], turned[:, 1]) == pytest.approx(np.full(4000, PIXEL), abs=1)
    zoomed = maps(4000, (9, 9), zoom=((-0.5, 0.5),)) / PIXEL
    assert (zoomed[:, 0] == zoomed[:, 4]).all()
    assert (round(zoomed[:, 0].min(), 2), round(zoomed[:, 0].max(), 2)) == (0.5, 1.5)
    apart = maps(4000, (9, 9), zoom=((-0.5, 0.5), (0.1, 0.2))) / PIXEL
    assert 1.1 <= apart[:, 4].min() < apart[:, 4].max() <= 1.2


def test_half_of_the_images_are_mirrored_in_each_direction():
    mirrored = maps(4000, (4, 5), flip=(True, True))
    up, left = mirrored[:, 0] < 0, mirrored[:, 4] < 0
    assert abs(up.mean() - 0.5) < 0.04
    assert abs(left.mean() - 0.5) < 0.04
    assert abs((up & left).mean() - 0.25) < 0.04
    assert set(mirrored[:, 2].tolist()) == {0, 3 * PIXEL}
    assert set(mirrored[:, 5].tolist()) == {0, 4 * PIXEL}


def test_parts_are_cut_at_each_place_alike():
    cut = maps(6000, (5, 9), (3, 9))
    assert set(cut[:, 5].tolist()) == {0}
    places, counts = np.unique(cut[:, 2], return_counts=True)
    assert places.tolist() == [0, PIXEL, 2 * PIXEL]
    assert counts == pytest.approx(np.full(3, 2000), abs=150)


def test_a_rotation_keeps_the_centre_and_turns_counter_clockwise():
    quarter = maps(1, (3, 3), rotation=(0.25, 0.25))
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    assert (
        affine(x, quarter, size=(3, 3), fill="constant", value=0.0)[0, :, :, 0].tolist()
        == np.rot90(x[0, :, :, 0]).tolist()
    )


def test_sines_in_integers_are_near_to_real_ones():
    phase = np.random.default_rng(0).integers(-(2**33), 2**33, 10**5)
    error = module._sine(phase) * 2.0**-30 - np.sin(2 * np.pi * 2.0**-32 * phase)
    assert np.abs(error).max() < 2.0**-26


def test_each_step_seed_and_stream_draws_other_maps_and_the_same_again():
    first = maps(8, (9, 9), rotation=(0.0, 1.0))
    assert np.array_equal(first, maps(8, (9, 9), rotation=(0.0, 1.0)))
    for change in ({"step": STEP + 1}, {"seed": 2}, {"stream": 3}):
        assert not np.array_equal(first, maps(8, (9, 9), rotation=(0.0, 1.0), **change))


def test_the_words_are_those_of_the_purpose_augment():
    words = random.bits(8, seed=1, step=5, stream=2, purpose=random.AUGMENT)
    down = maps(1, (1, 1), translation=((0.0, 1.0), (0.0, 0.0)))[0, 2]
    assert down == -int(words[3] * 2.0**-32 * PIXEL)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: maps(1, (5000, 3)), ShapeError, "sides of 5000, 3"),
        (lambda: maps(1, (3, 3), rotation=(0.5, 0.2)), ArgumentError, r"rotation=\(0.5, 0.2\) is out of range"),
        (lambda: maps(1, (3, 3), zoom=((-2.0, 0.0),)), ArgumentError, "zoom"),
        (lambda: seen(np.zeros((2, 3, 3), np.float32), [1, 0, 0, 0, 1, 0]), ShapeError, "x needs 4 axes"),
        (
            lambda: seen(np.zeros((2, 3, 3, 1), np.float32), [1, 0, 0, 0, 1, 0], "mirror"),
            ArgumentError,
            "fill='mirror'",
        ),
        (
            lambda: affine(np.zeros((2, 3, 3, 1)), np.zeros((2, 6)), size=(3, 3), fill="wrap", value=0.0),
            ShapeError,
            r"maps is an int32 array of shape \(2, 6\)",
        ),
    ],
)
def test_wrong_calls_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
