"""How far apart rounding may carry two trainings whose optimizer divides by the size of the gradients.

Where a gradient is all rounding error, RMSprop and Adam move its weight by as much as any other, so no bound of a few
lines holds. Instead, a training is repeated in which each result of each op is off by as much as that op's kernels may
be, at random: what Monte Carlo arithmetic does (D. S. Parker, "Monte Carlo arithmetic", UCLA CSD-970002, 1997).
"""

import math
from contextlib import contextmanager

import numpy as np

import gpucnn
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op
from gpucnn.runs import zoo

STEPS, BATCH = 4, 32
_EPS = float(np.finfo(np.float32).eps)
_REPEATS = 4


def trained_slides(backend, where):
    """The weights of the lecture's model after its training's first steps on the embedded digits."""
    gpucnn.utils.set_random_seed(7)
    gpucnn.use(backend, device=where)
    digits = gpucnn.datasets.load("digits")
    x, y = digits.x_train[: STEPS * BATCH] / np.float32(255), digits.y_train[: STEPS * BATCH]
    model = zoo.find("slides").build(x.shape[1:], 10)
    model.compile(gpucnn.optimizers.RMSprop(1e-4), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations[0]) == STEPS
    return model.get_weights()


def bounds(reference):
    """For each array of `trained_slides("numpy", "cpu")`, how far from it a training may end: twice the largest
    distance of disturbed ones, since each of two trainings rounds."""
    furthest = [0.0] * len(reference)
    for seed in range(_REPEATS):
        with _disturbed(seed):
            weights = trained_slides("numpy", "cpu")
        furthest = [max(f, float(np.abs(w - r).max())) for f, w, r in zip(furthest, weights, reference, strict=True)]
    return [2 * distance for distance in furthest]


@contextmanager
def _disturbed(seed):
    """Within it, results of ops are off at random, by at most (4 + √terms) · eps · Σ|a||b| and `ulps` units in the last
    place."""
    random, call = np.random.default_rng(seed), Op.__call__

    def disturb(op, *arrays, algorithm=None, out=None, **params):
        result = call(op, *arrays, algorithm=algorithm, out=out, **params)
        results = [r for r in (result if isinstance(result, tuple) else (result,)) if r is not None]
        sizes = [abs(r) * (0.0 if op.terms and not op.sums else op.ulps) for r in results]
        if op.terms:
            specs = [a if a is None else Spec(a.shape, a.dtype) for a in arrays]
            sums = (op.sums or op.body)(*(a if a is None else abs(a) for a in arrays), **params)
            sums = [s for s in (sums if isinstance(sums, tuple) else (sums,)) if s is not None]
            terms = 4 + math.sqrt(op.terms(*specs, **params))
            sizes = [size + terms * total for size, total in zip(sizes, sums, strict=True)]
        for values, size in zip(results, sizes, strict=True):
            if values.dtype == np.float32:
                values += (random.uniform(-_EPS, _EPS, values.shape) * size).astype(np.float32)
        return result

    Op.__call__ = disturb
    try:
        yield
    finally:
        Op.__call__ = call
