"""Layers of data augmentation change images in training alone, each step in another way."""

import numpy as np
import pytest
from refusals import refuses

import gpucnn
from gpucnn import layers
from gpucnn.errors import ArgumentError, ShapeError

RANDOM = {
    "flip": lambda **how: layers.RandomFlip(**how),
    "rotation": lambda **how: layers.RandomRotation(0.2, **how),
    "translation": lambda **how: layers.RandomTranslation(0.3, 0.3, **how),
    "zoom": lambda **how: layers.RandomZoom(0.4, **how),
    "affine": lambda **how: layers.RandomAffine(0.1, 0.1, 0.1, 0.1, "vertical", **how),
    "contrast": lambda **how: layers.RandomContrast(0.5, (0, 1), **how),
    "crop": lambda **how: layers.RandomCrop(5, 6, **how),
}


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(16, 8, 9, 3)).astype(np.float32)


@pytest.mark.parametrize("name", RANDOM)
def test_images_change_in_training_in_each_step_anew_and_not_in_inference(name, images):
    layer = RANDOM[name](seed=3)
    plain = layer(images)
    expected = layers.CenterCrop(5, 6)(images) if name == "crop" else images
    assert np.array_equal(plain, expected)
    first, second = layer(images, training=True), layer(images, training=True)
    assert first.shape == second.shape == plain.shape
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, second)
    again = RANDOM[name](seed=3)
    again.stream = layer.stream
    assert np.array_equal(again(images, training=True), first)


@pytest.mark.parametrize("name", RANDOM)
def test_a_saved_layer_is_the_same_layer(name, images):
    layer = RANDOM[name](seed=3)
    copy = type(layer).from_config(layer.get_config())
    copy.stream = layer.stream
    assert np.array_equal(copy(images, training=True), layer(images, training=True))


def losses_on(device, images):
    gpucnn.utils.set_random_seed(1)
    model = gpucnn.Sequential(
        [
            layers.Input((8, 9, 3)),
            *(make() for name, make in RANDOM.items() if name != "crop"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with gpucnn.using(device=device):
        return model.fit(images, np.arange(16) % 3, epochs=2, batch_size=8, verbose=0).history["loss"]


def test_training_sees_the_same_images_on_every_device(images):
    assert losses_on("emulator", images) == pytest.approx(losses_on("cpu", images), abs=1e-6)


def test_a_flip_mirrors_whole_images(images):
    for mode, axes in (("horizontal", [2]), ("vertical", [1]), ("horizontal_and_vertical", [1, 2])):
        changed = layers.RandomFlip(mode, seed=1)(images, training=True)
        for x, y in zip(images, changed, strict=True):
            mirrored = [np.flip(x, [axis - 1 for axis in chosen]) for chosen in ([], *([a] for a in axes), axes)]
            assert any(np.array_equal(y, candidate) for candidate in mirrored)


def test_resizing_agrees_with_interpolation_at_half_pixels(images):
    resized = layers.Resizing(16, 3)(images)
    rows, columns = (np.arange(16) + 0.5) / 2 - 0.5, (np.arange(3) + 0.5) * 3 - 0.5
    i = np.clip(np.floor(rows).astype(int), 0, 6)
    part = np.clip(rows - i, 0, 1)[None, :, None, None]
    expected = ((1 - part) * images[:, i] + part * images[:, i + 1])[:, :, columns.astype(int)]
    assert np.abs(resized - expected).max() < 1e-4  # coordinates are rounded to 1 / 65536 pixel
    assert np.array_equal(layers.Resizing(8, 9)(images), images)


def test_a_centre_crop_has_the_gradient_of_its_pixels(images):
    layer = layers.CenterCrop(4, 4)
    y, backward = layer.forward(images, np.zeros(1, np.int64), True)
    assert np.array_equal(y, images[:, 2:6, 2:6])
    dx = backward(np.ones_like(y))
    assert dx.sum() == y.size
    assert (dx[:, 2:6, 2:6] == 1).all()


@pytest.mark.parametrize("layer", [layers.RandomZoom(0.1), layers.Resizing(4, 4)], ids=["random", "resizing"])
def test_a_layer_without_gradient_must_stand_in_front(layer, images):
    model = gpucnn.Sequential([layers.Input((8, 9, 3)), layers.Conv2D(2, 3), layer, layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="has no gradient: put it before the first layer with weights"):
        model.fit(images, np.zeros((16, 2)), verbose=0)


def test_contrast_keeps_the_mean_and_stays_in_its_range(images):
    changed = layers.RandomContrast(0.3, (-9, 9), seed=2)(images, training=True)
    assert changed.mean(axis=(1, 2)) == pytest.approx(images.mean(axis=(1, 2)), abs=1e-6)
    ratio = changed.std(axis=(1, 2)) / images.std(axis=(1, 2))
    assert ratio.std(axis=1).max() < 1e-5
    assert ratio.min() >= 0.7 - 1e-5
    assert ratio.max() <= 1.3 + 1e-5
    clipped = layers.RandomContrast(1.0, (0.2, 0.8), seed=2)(images, training=True)
    assert (clipped.min(), clipped.max()) == (np.float32(0.2), np.float32(0.8))


test_wrong_arguments_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.RandomFlip("sideways"), "RandomFlip(mode='sideways')"),
        (lambda: layers.RandomRotation(2), "RandomRotation(factor=2)"),
        (lambda: layers.RandomZoom((0.3, 0.1)), "RandomZoom(height_factor=(0.3, 0.1))"),
        (lambda: layers.RandomTranslation(0.1, 0.1, "mirror"), "fill_mode='mirror'"),
        (lambda: layers.RandomZoom(0.1, interpolation="nearest"), "interpolation='nearest'"),
        (lambda: layers.RandomContrast("much"), "RandomContrast(factor='much')"),
        (lambda: layers.RandomContrast(0.1, (1, 0)), "value_range=(1, 0)"),
        (lambda: layers.RandomFlip(seed=-1), "seed=-1"),
        (lambda: layers.RandomCrop(0, 3), "RandomCrop(height=0)"),
        (lambda: layers.RandomFlip(data_format="channels_first"), "channels"),
        (lambda: layers.Resizing(3, 3, crop_to_aspect_ratio=True), "crop_to_aspect_ratio=True"),
    ],
    literal=True,
)


def test_parts_larger_than_the_images_are_refused(images):
    for layer in (layers.RandomCrop(9, 9), layers.CenterCrop(3, 10)):
        with pytest.raises(ShapeError, match=r"images of \(8, 9\) are smaller"):
            layer(images)
