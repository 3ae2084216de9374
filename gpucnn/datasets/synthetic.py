"""Small data sets that are computed: signals and volumes by class, and digits turned by an angle.

They are examples for models that `gpucnn train` does not build: in one and three dimensions, and
with a number as the answer. Equal arguments give equal arrays.

>>> (x_train, y_train), (x_test, y_test) = datasets.synthetic.signals()
"""

from __future__ import annotations

import numpy as np

from .. import random
from ..arguments import Count, Seed, checked
from . import digits
from .dataset import Pair

SIGNALS = ("sine", "square", "sawtooth", "chirp")
"""The classes of `signals`: three shapes of a wave, and a sine whose frequency doubles."""

VOLUMES = ("ball", "shell", "cube")
"""The classes of `volumes`: filled, hollow, and with edges."""

LENGTH, SIDE = 128, 16
LARGEST_ANGLE = 45.0
"""Degrees."""

_TEST = 4
"""One in so many examples is for the test."""


@checked
def signals(count: Count = 2000, seed: Seed = 0) -> tuple[Pair, Pair]:
    """Waves of 3 to 8 periods with a random phase and amplitude, and noise of half the least amplitude.

    →  `(x_train, y_train), (x_test, y_test)`; x (n, 128, 1) float32, y (n,) uint8 numbers in `SIGNALS`
    """
    draws = random.uniform(3 * count, seed=seed, stream=0).reshape(3, count, 1)
    periods, phase, amplitude = 3 + 5 * draws[0], draws[1], 0.6 + 0.4 * draws[2]
    y = np.arange(count) % len(SIGNALS)
    t = np.arange(LENGTH, dtype=np.float32) / LENGTH
    turns = np.where(y[:, None] == SIGNALS.index("chirp"), periods * (2 / 3 * t + t**2 / 3), periods * t) + phase
    sine, fraction = np.sin(2 * np.pi * turns), turns % 1
    shapes = np.stack([sine, np.sign(sine), 2 * fraction - 1, sine])
    noise = random.normal(count * LENGTH, seed=seed, stream=1).reshape(count, LENGTH)
    x = amplitude * shapes[y, np.arange(count)] + 0.3 * noise
    return _halves(x[..., None].astype(np.float32), y.astype(np.uint8))


@checked
def volumes(count: Count = 600, seed: Seed = 0) -> tuple[Pair, Pair]:
    """Bodies of random size and place in a cube of noise, as a scanner would see them.

    →  `(x_train, y_train), (x_test, y_test)`; x (n, 16, 16, 16, 1) float32, y (n,) uint8 numbers in
       `VOLUMES`
    """
    draws = random.uniform(4 * count, seed=seed, stream=2).reshape(4, count, 1, 1, 1)
    radius = 3.5 + 2 * draws[0]
    axes = np.arange(SIDE, dtype=np.float32)
    planes = np.meshgrid(axes, axes, axes, indexing="ij")
    offsets = [plane - (radius + (SIDE - 1 - 2 * radius) * draw) for plane, draw in zip(planes, draws[1:])]
    distance = np.sqrt(sum(offset**2 for offset in offsets))
    largest = np.max(np.abs(offsets), axis=0)
    y = np.arange(count) % len(VOLUMES)
    bodies = np.stack([distance <= radius, (distance <= radius) & (distance >= radius - 1.5), largest <= 0.8 * radius])
    noise = random.normal(count * SIDE**3, seed=seed, stream=3).reshape(count, SIDE, SIDE, SIDE)
    x = bodies[y, np.arange(count)] + 0.3 * noise
    return _halves(x[..., None].astype(np.float32), y.astype(np.uint8))


@checked
def rotated_digits(copies: Count = 4, seed: Seed = 0) -> tuple[Pair, Pair]:
    """The embedded digits, each turned by random angles of -45 to 45 degrees, counterclockwise.

    copies  how often each digit is turned

    →  `(x_train, angle_train), (x_test, angle_test)`; x (n, 28, 28, 1) uint8, angles (n,) float32 in
       degrees. The test has the 360 test images of `digits`, `copies` times.
    """
    halves = []
    for stream, (x, _) in enumerate(digits.load_data(), 4):
        x = np.repeat(x, copies, axis=0)
        angles = (2 * random.uniform(len(x), seed=seed, stream=stream) - 1) * LARGEST_ANGLE
        halves.append((_turned(x, angles)[..., None], angles.astype(np.float32)))
    return halves[0], halves[1]


def _turned(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Images (n, H, W) uint8, each turned about its centre; what lies outside is black."""
    from PIL import Image

    def turned(image: np.ndarray, angle: float) -> np.ndarray:
        return np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))

    return np.stack([turned(image, float(angle)) for image, angle in zip(images, angles)])


def _halves(x: np.ndarray, y: np.ndarray) -> tuple[Pair, Pair]:
    """Every fourth example of each class for the test; the classes follow one another in turn."""
    classes = int(y.max()) + 1
    test = np.arange(len(y)) // classes % _TEST == _TEST - 1
    return (x[~test], y[~test]), (x[test], y[test])
