"""Windows along an axis: numbers worked by hand, and counted one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucnn.ops.window import cells, positions, same_padding, span


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "expected"),
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 1, 1, 1, (0, 0)),
        (5, 2, 1, 1, (0, 1)),
        (6, 4, 1, 1, (1, 2)),
        (2, 5, 1, 1, (2, 2)),
        (28, 3, 2, 1, (0, 1)),
        (7, 3, 2, 1, (1, 1)),
        (8, 2, 2, 1, (0, 0)),
        (5, 1, 2, 1, (0, 0)),
        (4, 2, 3, 1, (0, 1)),
        (9, 2, 4, 1, (0, 1)),
        (10, 1, 4, 1, (0, 0)),
        (6, 3, 1, 2, (2, 2)),
        (6, 2, 1, 3, (1, 2)),
    ],
)
def test_same_padding_as_in_keras_with_an_odd_cell_at_the_end(size, window, stride, dilation, expected):
    assert same_padding(size, window, stride, dilation) == expected


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 3))
def test_same_padding_fits_as_many_windows_as_the_rounded_up_quotient(size, window, stride, dilation):
    padding = same_padding(size, window, stride, dilation)
    assert positions(size, window, stride, dilation, padding) == -(-size // stride)


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "padding", "expected"),
    [
        (28, 5, 1, 1, (0, 0), 24),
        (24, 2, 2, 1, (0, 0), 12),
        (5, 3, 1, 1, (0, 0), 3),
        (7, 3, 2, 1, (0, 0), 3),
        (8, 3, 2, 1, (0, 0), 3),
        (7, 3, 1, 3, (0, 0), 1),
        (6, 3, 1, 3, (0, 0), 0),
        (2, 3, 1, 1, (0, 0), 0),
        (2, 3, 1, 1, (0, 1), 1),
        (1, 9, 4, 1, (0, 0), 0),
    ],
)
def test_positions_counted_by_hand(size, window, stride, dilation, padding, expected):
    assert positions(size, window, stride, dilation, padding) == expected


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))
def test_a_window_fits_where_its_last_tap_is_inside(size, window, stride, dilation):
    starts = [start for start in range(0, size, stride) if start + span(window, dilation) <= size]
    assert positions(size, window, stride, dilation) == len(starts)
    axis = list(range(size))
    for tap in range(window if starts else 0):
        assert axis[cells(tap, len(starts), stride, dilation)] == [start + tap * dilation for start in starts]
