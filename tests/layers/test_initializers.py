"""Initial weights: fans, distributions, seeds."""

import math

import numpy as np
import pytest

from gpucnn import initializers, random
from gpucnn.config import deserialize, serialize
from gpucnn.errors import ArgumentError, ShapeError

SIGMAS = 5.0
N = 40_000
SHAPE = (200, 200)

RANDOM = [
    initializers.GlorotUniform,
    initializers.GlorotNormal,
    initializers.HeUniform,
    initializers.HeNormal,
    initializers.LecunUniform,
    initializers.LecunNormal,
    initializers.RandomNormal,
    initializers.RandomUniform,
    initializers.TruncatedNormal,
    initializers.VarianceScaling,
    initializers.Orthogonal,
]


def phi(z):
    return 0.5 * (1.0 + np.vectorize(math.erf)(z / math.sqrt(2.0)))


def uniform_cdf(limit):
    return lambda x: (x + limit) / (2 * limit)


def normal_cdf(mean, stddev):
    return lambda x: phi((x - mean) / stddev)


def truncated_cdf(mean, stddev):
    low, high = phi(np.float64(-2.0)), phi(np.float64(2.0))
    return lambda x: (phi((x - mean) / stddev) - low) / (high - low)


def largest_distance(values, cdf):
    """From the empirical distribution function to cdf: Kolmogorov's and Smirnov's statistic."""
    x = np.sort(values.astype(np.float64), axis=None)
    expected = cdf(x)
    steps = np.arange(len(x) + 1) / len(x)
    return max(np.max(expected - steps[:-1]), np.max(steps[1:] - expected))


WITHIN_TWO = 0.87962566103423978
DISTRIBUTIONS = {
    "glorot_uniform": (initializers.GlorotUniform(seed=1), uniform_cdf(math.sqrt(6 / 400))),
    "he_uniform": (initializers.HeUniform(seed=2), uniform_cdf(math.sqrt(6 / 200))),
    "lecun_uniform": (initializers.LecunUniform(seed=3), uniform_cdf(math.sqrt(3 / 200))),
    "glorot_normal": (initializers.GlorotNormal(seed=4), truncated_cdf(0, math.sqrt(2 / 400) / WITHIN_TWO)),
    "he_normal": (initializers.HeNormal(seed=5), truncated_cdf(0, math.sqrt(2 / 200) / WITHIN_TWO)),
    "lecun_normal": (initializers.LecunNormal(seed=6), truncated_cdf(0, math.sqrt(1 / 200) / WITHIN_TWO)),
    "random_normal": (initializers.RandomNormal(1.0, 0.5, seed=7), normal_cdf(1.0, 0.5)),
    "truncated_normal": (initializers.TruncatedNormal(1.0, 0.5, seed=8), truncated_cdf(1.0, 0.5)),
    "random_uniform": (initializers.RandomUniform(-2.0, 2.0, seed=9), uniform_cdf(2.0)),
    "untruncated": (
        initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal", seed=10),
        normal_cdf(0, math.sqrt(3 / 200)),
    ),
}


@pytest.mark.parametrize(("initializer", "cdf"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_values_follow_their_distribution(initializer, cdf):
    values = initializer(SHAPE)
    # Dvoretzky, Kiefer, Wolfowitz: P(distance > d) <= 2 exp(-2 n d²).
    # 5.7e-7 is the probability beyond five sigma.
    assert largest_distance(values, cdf) <= math.sqrt(math.log(2 / 5.7e-7) / (2 * N))


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / 400),
        ("glorot_normal", 2 / 400),
        ("he_uniform", 2 / 200),
        ("he_normal", 2 / 200),
        ("lecun_uniform", 1 / 200),
        ("lecun_normal", 1 / 200),
    ],
)
def test_mean_is_zero_and_variance_is_scale_over_fan(name, variance):
    values = initializers.get(name)(SHAPE).astype(np.float64)
    assert abs(values.mean()) <= SIGMAS * math.sqrt(variance / N)
    # Uniform and truncated normal distributions have a kurtosis below 3:
    # the sample variance varies less than this.
    assert abs(values.var() - variance) <= SIGMAS * variance * math.sqrt(2 / N)


def test_truncated_values_lie_within_two_stddev():
    values = initializers.TruncatedNormal(mean=3.0, stddev=0.5, seed=0)(SHAPE)
    assert np.abs(values - 3.0).max() <= 1.0
    assert np.abs(values - 3.0).max() > 0.99


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((), (1, 1)),
        ((7,), (7, 7)),
        ((3, 5), (3, 5)),
        ((5, 3, 4), (15, 20)),
        ((3, 3, 16, 32), (144, 288)),
        ((5, 5, 1, 10), (25, 250)),
        ((2, 3, 4, 5, 6), (120, 144)),
    ],
)
def test_fans_of_dense_and_convolution_weights(shape, fans):
    assert initializers.fans(shape) == fans


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 144), ("fan_out", 288), ("fan_avg", 216)])
def test_the_mode_chooses_the_fan(mode, fan):
    values = initializers.VarianceScaling(2.0, mode, "uniform", seed=0)((3, 3, 16, 32))
    limit = math.sqrt(3 * 2.0 / fan)
    assert 0.99 * limit < np.abs(values).max() <= limit


def test_an_empty_fan_does_not_divide_by_zero():
    assert initializers.VarianceScaling(seed=0)((0, 4)).shape == (0, 4)


def test_distribution_normal_means_truncated_normal():
    plain, named = (initializers.VarianceScaling(distribution=d, seed=3) for d in ("normal", "truncated_normal"))
    assert np.array_equal(plain((5, 5)), named((5, 5)))


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (3, 3, 2, 5), (2, 2, 1, 7)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    matrix = initializers.Orthogonal(gain=2.0, seed=0)(shape, np.float64).reshape(-1, shape[-1]) / 2.0
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    # A Householder QR is orthonormal within a small multiple of n · eps: Higham, theorem 19.4.
    assert np.abs(gram - np.eye(len(gram))).max() <= 10 * max(matrix.shape) * np.finfo(np.float64).eps


def test_orthogonal_does_not_favour_a_sign():
    diagonals = np.concatenate([np.diag(initializers.Orthogonal(seed=s)((4, 4))) for s in range(100)])
    assert abs((diagonals > 0).sum() - 200) <= SIGMAS * math.sqrt(400) / 2


def test_orthogonal_refuses_a_vector():
    with pytest.raises(ShapeError, match=r"at least two axes and got the shape \(3,\)"):
        initializers.Orthogonal()((3,))


def test_constants():
    assert np.array_equal(initializers.Zeros()((2, 3)), np.zeros((2, 3)))
    assert np.array_equal(initializers.Ones()((2, 3)), np.ones((2, 3)))
    assert np.array_equal(initializers.Constant(0.25)((2,)), [0.25, 0.25])


@pytest.mark.parametrize("cls", [*RANDOM, initializers.Zeros, initializers.Ones, initializers.Constant])
def test_values_are_float32_unless_dtype_says_otherwise(cls):
    assert cls()((3, 4)).dtype == np.float32
    assert cls()([3, 4]).shape == (3, 4)
    assert cls()((3, 4), dtype="float64").dtype == np.float64


@pytest.mark.parametrize("cls", RANDOM)
def test_a_seed_repeats_and_none_draws_other_values(cls):
    shape = (4, 5)
    seeded = cls(seed=7)
    assert np.array_equal(seeded(shape), cls(seed=7)(shape))
    assert np.array_equal(seeded(shape), seeded(shape))
    assert not np.array_equal(seeded(shape), cls(seed=8)(shape))
    unseeded = cls()
    assert np.array_equal(unseeded(shape), unseeded(shape))
    assert not np.array_equal(unseeded(shape), cls()(shape))


def test_the_global_seed_repeats_a_sequence_of_initializers():
    def draw():
        random.set_random_seed(5)
        return [initializers.get("he_normal")((3, 3)) for _ in range(3)]

    for one, other in zip(draw(), draw(), strict=True):
        assert np.array_equal(one, other)


def test_an_initializers_seed_never_meets_the_global_seed():
    random.set_random_seed(7)
    shape = (4, 5)
    seeded = initializers.RandomUniform(seed=7)(shape)
    assert all(not np.array_equal(seeded, initializers.RandomUniform()(shape)) for _ in range(3))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "7", True])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ArgumentError, match=r"HeNormal\(seed="):
        initializers.HeNormal(seed=seed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 0.0}, r"scale=0.0\): give a number above 0"),
        ({"scale": math.nan}, r"scale=nan\): give a number above 0"),
        ({"mode": "fan"}, r"mode='fan'\): give 'fan_in' or 'fan_out' or 'fan_avg'"),
        ({"distribution": "cauchy"}, r"distribution='cauchy'\): give 'truncated_normal' or"),
    ],
)
def test_variance_scaling_refuses_wrong_arguments(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        initializers.VarianceScaling(**arguments)


def test_lower_case_names_are_the_classes():
    assert initializers.he_normal is initializers.HeNormal
    assert initializers.OrthogonalInitializer is initializers.Orthogonal
    assert initializers.random_uniform(-1.0, 1.0, seed=0).minval == -1.0


@pytest.mark.parametrize("cls", RANDOM)
def test_a_description_gives_the_same_values(cls):
    initializer = cls(seed=11)
    again = deserialize(serialize(initializer))
    assert np.array_equal(initializer((3, 4)), again((3, 4)))


def test_identity_is_a_multiple_of_the_identity_matrix():
    assert initializers.get("identity")((2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert initializers.Identity(0.5)((2, 2)).tolist() == [[0.5, 0], [0, 0.5]]
    assert initializers.IdentityInitializer is initializers.Identity
    with pytest.raises(ShapeError, match=r"two axes and got the shape \(2, 2, 2\)"):
        initializers.Identity()((2, 2, 2))


def test_unknown_names_say_what_to_write_instead():
    with pytest.raises(ArgumentError, match="did you mean 'he_normal'"):
        initializers.get("he_norml")
    with pytest.raises(ArgumentError, match=r"initializers\.STFT is not in gpucnn"):
        _ = initializers.STFT
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = initializers.nothing
    with pytest.raises(ArgumentError, match=r"RandomNormal\(\) has no argument std"):
        initializers.RandomNormal(std=0.1)
