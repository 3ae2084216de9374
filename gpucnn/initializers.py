"""How the values of a new weight are drawn: Keras' initializers on gpucnn's own random numbers.

An initializer without a seed takes the global seed and a new stream when it is constructed. Called
again with the same shape, an initializer returns the same values again, as in Keras 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from . import config, random
from .arguments import NotNegative, Positive, Seed, checked
from .config import Configurable
from .errors import ShapeError
from .retired import absent

_SEEDED = 0xFFFFFFFF
"""The stream of initializers that have a seed; `random.next_stream` never reaches this number."""

_STDDEV_WITHIN_TWO = 0.87962566103423978
"""Standard deviation of the standard normal distribution cut off at ±2."""


class Initializer(Configurable):
    """Base of all initializers. A subclass defines `__call__(shape, dtype=None)`."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """An array of `shape`; float32 unless `dtype` says otherwise."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(shape, dtype=None) -> array")


class Constant(Initializer):
    """All elements are `value`."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        return np.full(shape, self.value, dtype or np.float32)


class Zeros(Initializer):
    """All elements are 0."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        return np.zeros(shape, dtype or np.float32)


class Ones(Initializer):
    """All elements are 1."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        return np.ones(shape, dtype or np.float32)


class _Random(Initializer):
    """Base of the initializers that draw random numbers."""

    def __init__(self, seed: Seed | None = None) -> None:
        self.seed = random.global_seed() if seed is None else int(seed)
        self.stream = random.next_stream() if seed is None else _SEEDED

    def _uniform(self, shape: Sequence[int], low: float, high: float, dtype: Any) -> np.ndarray:
        unit = random.uniform(math.prod(shape), seed=self.seed, stream=self.stream, purpose=random.INITIALIZE)
        return (low + (high - low) * unit.astype(np.float64)).astype(dtype or np.float32).reshape(shape)

    def _normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> np.ndarray:
        return self._scale(self._standard_normal(math.prod(shape)), shape, mean, stddev, dtype)

    def _truncated_normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> np.ndarray:
        """Values beyond two standard deviations are drawn again until none is left."""
        standard, attempt = self._standard_normal(math.prod(shape)), 0
        while (outside := np.abs(standard) > 2.0).any():
            attempt += 1
            standard[outside] = self._standard_normal(int(outside.sum()), attempt)
        return self._scale(standard, shape, mean, stddev, dtype)

    def _standard_normal(self, count: int, attempt: int = 0) -> np.ndarray:
        return random.normal(count, seed=self.seed, step=attempt, stream=self.stream, purpose=random.INITIALIZE)

    @staticmethod
    def _scale(standard: np.ndarray, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> np.ndarray:
        return (mean + stddev * standard.astype(np.float64)).astype(dtype or np.float32).reshape(shape)


class RandomUniform(_Random):
    """Uniform over [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        return self._uniform(shape, self.minval, self.maxval, dtype)


class RandomNormal(_Random):
    """Normal with the given mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: NotNegative = 0.05, seed: Seed | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        return self._normal(shape, self.mean, self.stddev, dtype)


class TruncatedNormal(_Random):
    """As `RandomNormal`, without values further than two `stddev` from the mean."""

    def __init__(self, mean: float = 0.0, stddev: NotNegative = 0.05, seed: Seed | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        return self._truncated_normal(shape, self.mean, self.stddev, dtype)


class VarianceScaling(_Random):
    """Variance `scale` / n, where n is the number of inputs, outputs, or their mean.

    mode            "fan_in", "fan_out" or "fan_avg".
    distribution    "truncated_normal" (or "normal"), "untruncated_normal" or "uniform".
    """

    def __init__(
        self,
        scale: Positive = 1.0,
        mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
        distribution: Literal["truncated_normal", "untruncated_normal", "uniform", "normal"] = "truncated_normal",
        seed: Seed | None = None,
    ) -> None:
        super().__init__(seed)
        self.scale, self.mode = scale, mode
        self.distribution = "truncated_normal" if distribution == "normal" else distribution

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`."""
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return self._uniform(shape, -limit, limit, dtype)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, 0.0, math.sqrt(variance), dtype)
        return self._truncated_normal(shape, 0.0, math.sqrt(variance) / _STDDEV_WITHIN_TWO, dtype)


class GlorotUniform(VarianceScaling):
    """Uniform over ±√(6 / (fan_in + fan_out)): Glorot and Bengio, AISTATS 2010, equation 16."""

    def __init__(self, seed: Seed | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out).

    Glorot and Bengio, AISTATS 2010, equation 12.
    """

    def __init__(self, seed: Seed | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Uniform over ±√(6 / fan_in): He, Zhang, Ren, Sun, ICCV 2015, section 2.2."""

    def __init__(self, seed: Seed | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Truncated normal of variance 2 / fan_in: He, Zhang, Ren, Sun, ICCV 2015, section 2.2."""

    def __init__(self, seed: Seed | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Uniform over ±√(3 / fan_in).

    LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998, section 4.6.
    """

    def __init__(self, seed: Seed | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Truncated normal of variance 1 / fan_in.

    LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998, section 4.6.
    """

    def __init__(self, seed: Seed | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Orthogonal(_Random):
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    All leading axes together are the rows. Source: Saxe, McClelland, Ganguli, ICLR 2014; the signs
    that make the matrix uniform: Mezzadri, Notices of the AMS 54 (2007), section 5.
    """

    def __init__(self, gain: float = 1.0, seed: Seed | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`, which must have at least two axes."""
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal needs a weight of at least two axes and got the shape {tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = self._normal((max(rows, columns), min(rows, columns)), 0.0, 1.0, np.float64)
        q, r = np.linalg.qr(tall)
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)
        return (self.gain * (q if rows >= columns else q.T)).astype(dtype or np.float32).reshape(shape)


class Identity(Initializer):
    """`gain` times the identity matrix: ones where row and column are equal."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """A new array of `shape`, which must have two axes."""
        if len(shape) != 2:
            raise ShapeError(f"Identity needs a weight of two axes and got the shape {tuple(shape)}")
        return np.asarray(self.gain * np.eye(*shape), dtype or np.float32)


@checked
def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(inputs per output, outputs per input) of a weight (inputs, units) or (…, C, K)."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def get(identifier: Any) -> Any:
    """The initializer behind a name, an object, a class or a description; None stays None."""
    return config.get(Initializer, identifier, _ALIASES)


def check(identifier: Any) -> None:
    """Raise `ArgumentError` for what `get` does not take, without creating an object."""
    config.find(Initializer, identifier, _ALIASES)


constant, zeros, ones = Constant, Zeros, Ones
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal, OrthogonalInitializer = VarianceScaling, Orthogonal, Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
identity, IdentityInitializer = Identity, Identity

_ALIASES = {"uniform": RandomUniform, "normal": RandomNormal, "zero": Zeros, "one": Ones}

__getattr__ = absent(
    __name__,
    {
        "STFT": "gpucnn has no audio layers",
        "STFTInitializer": "gpucnn has no audio layers",
        "stft": "gpucnn has no audio layers",
    },
)
