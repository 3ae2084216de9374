"""The picture of what predictions rest on."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

import gpucnn
from gpucnn import layers, plots
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.models import attribution


@pytest.fixture
def model():
    return gpucnn.Sequential(
        [
            gpucnn.Input((12, 12, 1)),
            layers.Conv2D(10, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def labels(picture):
    return [t.get_text() for t in picture.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text()]


def test_mistakes_come_first_then_one_image_of_each_class(model, rng):
    x = rng.uniform(0, 1, (20, 12, 12, 1)).astype(np.float32)
    y = np.arange(20) % 3
    probabilities = np.full((20, 3), 0.05)
    probabilities[np.arange(20), y] = 0.9
    probabilities[4] = [0.7, 0.1, 0.2]  # of class 1
    probabilities[6] = [0.1, 0.1, 0.8]  # of class 0
    picture = plots.explanations(model, x, y, probabilities, ["cat", "dog", "hen"], "a title")
    shown = [t for t in labels(picture) if t in ("cat", "dog", "hen") or "%" in t]
    assert shown == [
        "cat", "hen (80 %)", "cat (10 %)",
        "dog", "cat (70 %)", "dog (10 %)",
        "cat", "cat (90 %)", "dog (5 %)",
        "dog", "dog (90 %)", "cat (5 %)",
        "hen", "hen (90 %)", "cat (5 %)",
    ]  # fmt: skip
    assert "a title" in labels(picture)
    drawn = [image.get_array() for image in picture.axes[0].images]
    np.testing.assert_array_equal(drawn[0], x[6, ..., 0])
    np.testing.assert_array_equal(drawn[1], attribution.saliency(model, x[6:7], [2])[0])
    np.testing.assert_array_equal(drawn[3], attribution.grad_cam(model, x[6:7], [2])[0])
    assert Image.open(io.BytesIO(picture.png())).size[0] > 900


def test_colour_images_and_no_more_than_fourteen_are_drawn(rng):
    model = gpucnn.Sequential(
        [gpucnn.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(30, activation="softmax")]
    )
    x, y = rng.uniform(0, 1, (90, 8, 8, 3)).astype(np.float32), np.arange(90) % 30
    picture = plots.explanations(model, x, y, np.eye(30)[y])
    assert len(picture.axes[0].images) == 14 * 6
    assert picture.png()


def test_what_cannot_be_explained_is_refused(model):
    with pytest.raises(ShapeError, match="2 images, 1 labels, 2 predictions: give one row for each image"):
        plots.explanations(model, np.zeros((2, 12, 12, 1)), [0], np.eye(3)[:2])
    flat = gpucnn.Sequential([gpucnn.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no two-dimensional convolution"):
        plots.explanations(flat, np.zeros((1, 4, 4, 1)), [0], np.eye(2)[:1])
