"""The classic filters: what each does to an image, by gpucnn's convolution, and the sheet of them."""

import matplotlib
import numpy as np
import pytest

from gpucnn import plots
from gpucnn.errors import DataError, ShapeError

ONE = np.zeros((7, 9, 1), np.float32)
ONE[3, 4] = 1.0


@pytest.mark.parametrize("name", plots.FILTERS)
def test_a_convolution_copies_the_filter_to_a_single_pixel_and_a_correlation_the_flipped_one(name):
    weights = np.array(plots.FILTERS[name], np.float32)
    r = len(weights) // 2
    field = (slice(3 - r, 4 + r), slice(4 - r, 5 + r), 0)
    np.testing.assert_array_equal(plots.filter_image(ONE, weights, flip=True)[field], weights)
    np.testing.assert_array_equal(plots.filter_image(ONE, weights)[field], weights[::-1, ::-1])


def test_each_filter_does_what_its_name_says(rng):
    image = rng.uniform(0, 1, (8, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(plots.filter_image(image, plots.FILTERS["identity"]), image)
    box = plots.filter_image(image, plots.FILTERS["box blur"])
    np.testing.assert_allclose(box[3, 2], image[2:5, 1:4].mean(axis=(0, 1)), rtol=9 * np.finfo(np.float32).eps)
    flat = np.full((5, 5, 1), 0.5, np.float32)
    for name, weights in plots.FILTERS.items():
        expected = 0.0 if name.startswith("edges") or "Sobel" in name else 0.5
        np.testing.assert_allclose(plots.filter_image(flat, weights), expected, atol=25 * np.finfo(np.float32).eps)
    step = np.repeat([[0.0] * 3 + [1.0] * 3], 6, axis=0)[..., None]
    edge = plots.filter_image(step, plots.FILTERS["Sobel, left to right"])[..., 0]
    np.testing.assert_array_equal(edge[2], [0, 0, 4, 4, 0, 0])
    assert (plots.filter_image(step, plots.FILTERS["Sobel, left to right"], flip=True)[2, 2:4] == -4).all()


def test_bytes_and_grey_images_without_channels_are_taken():
    image = np.full((4, 4), 51, np.uint8)
    filtered = plots.filter_image(image, plots.FILTERS["identity"])
    assert filtered.shape == (4, 4, 1) and filtered.dtype == np.float32
    np.testing.assert_array_equal(filtered, np.float32(51) / np.float32(255))


@pytest.mark.parametrize(
    ("image", "weights", "error", "message"),
    [
        (np.zeros(5), [[1]], ShapeError, r"an image of shape \(5,\): give \(H, W\) or \(H, W, C\)"),
        (np.zeros((4, 0, 1)), [[1]], ShapeError, r"shape \(4, 0, 1\)"),
        (np.full((3, 3), np.nan), [[1]], DataError, "the image holds values that are not finite"),
        (np.zeros((3, 3)), [[1, 2]], ShapeError, r"a filter of shape \(1, 2\): give an odd number of rows and columns"),
        (np.zeros((3, 3)), [1.0], ShapeError, r"a filter of shape \(1,\)"),
        (np.zeros((3, 3)), [[np.inf]], DataError, "the filter holds values that are not finite"),
    ],
)
def test_what_cannot_be_filtered_is_refused(image, weights, error, message):
    with pytest.raises(error, match=message):
        plots.filter_image(image, weights)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_shows_each_filter_with_both_results(rng, channels):
    image = rng.integers(0, 256, (20, 30, channels)).astype(np.uint8)
    picture = plots.filtered(image, "a title")
    shown = [t.get_text() for t in picture.findobj(matplotlib.text.Text) if t.get_visible()]
    for text in ("a title", "cross-correlation", "convolution\n(filter flipped)", "filter", *plots.FILTERS):
        assert text in shown
    drawn = [axes for axes in picture.axes if axes.images]
    assert len(drawn) == 3 * len(plots.FILTERS)
    correlated = drawn[len(plots.FILTERS)].images[0].get_array()
    np.testing.assert_allclose(correlated, (image[..., 0] if channels == 1 else image) / 255, atol=1e-6)
    assert picture.png()
