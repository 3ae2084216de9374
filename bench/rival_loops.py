"""What `models_vs.py` runs: a training step, predictions in batches and of one image, by gpucnn and
by each of its rivals at its best. All inputs lie in memory in the layout that suits the library."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
from model_kinds import Kind
from train_step_vs_torch import gpucnn_optimizer, gpucnn_step, torch_optimizer, torch_step
from translations import as_onnx

import gpucnn
from gpucnn.runs.rivals import Absent, compiled_loss, jax_optimizer
from gpucnn.runs.translations import Untranslated, as_jax, as_torch, channels_first, trained_by_jax

PREDICT_BATCH = 256
IMAGES = 2 * PREDICT_BATCH
"""How many images are predicted in batches."""

TORCH = ("torch", "torch-last")
"""PyTorch in its two memory formats, of which the better counts."""


@dataclass(frozen=True)
class Problem:
    """Inputs of one model: a batch to train on, and images to predict."""

    kind: Kind
    dropout: bool
    count: int = IMAGES
    """How many images are predicted."""
    x: np.ndarray = field(init=False)
    y: np.ndarray = field(init=False)
    images: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        size = self.kind.batch_size
        object.__setattr__(self, "x", rng.random((size, *self.kind.shape), np.float32))
        object.__setattr__(self, "y", rng.integers(0, 10, size))
        object.__setattr__(self, "images", rng.random((self.count, *self.kind.shape), np.float32))

    def model(self) -> gpucnn.Sequential:
        """The model with its initial weights, the same each time."""
        return self.kind.build(self.dropout)


@dataclass(frozen=True)
class Runs:
    """What can be timed of one contender: `step` returns the loss, the others probabilities."""

    step: Callable[[], float] | None
    predict: Callable[[], np.ndarray] | None
    one: Callable[[], np.ndarray] | None


def gpucnn_runs(problem: Problem) -> Runs:
    """gpucnn by the methods that its users call."""
    model, predicting = problem.model(), problem.model()
    model.compile(gpucnn_optimizer(problem.kind.optimizer), "sparse_categorical_crossentropy")
    return Runs(
        gpucnn_step(model, problem.x, problem.y),
        lambda: predicting.predict(problem.images, batch_size=PREDICT_BATCH, verbose=0),
        lambda: predicting.predict(problem.images[:1], verbose=0),
    )


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def _channels_last(problem: Problem) -> Any:
    """PyTorch's memory format for images or volumes with the channels last. Raises `Absent`."""
    import torch

    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    if len(problem.kind.shape) - 1 not in formats:
        raise Absent("no channels_last for sequences")
    return formats[len(problem.kind.shape) - 1]


def torch_runs(problem: Problem, memory_format: Any) -> Runs:
    """PyTorch, eager."""
    import torch

    net, x, y, images = _torch_parts(problem, memory_format)
    predicting = copy.deepcopy(net).eval()
    optimizer = torch_optimizer(problem.kind.optimizer, net.parameters())

    def predict(parts: Sequence[Any]) -> np.ndarray:
        with torch.inference_mode():
            return torch.cat([predicting(part).softmax(1) for part in parts]).numpy()

    batches = images.split(PREDICT_BATCH)
    one = images[:1].contiguous(memory_format=memory_format)
    return Runs(torch_step(net, optimizer, x, y), lambda: predict(batches), lambda: predict([one]))


def torch_compiled_runs(problem: Problem) -> Runs:
    """PyTorch's compiler on forward, loss and backward: channels last where there are such formats."""
    import torch

    try:
        memory_format = _channels_last(problem)
    except Absent:
        memory_format = torch.contiguous_format
    net, x, y, _ = _torch_parts(problem, memory_format)
    optimizer = torch_optimizer(problem.kind.optimizer, net.parameters())
    loss_of = compiled_loss(net)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return Runs(step, None, None)


def _torch_parts(problem: Problem, memory_format: Any) -> tuple[Any, Any, Any, Any]:
    """(net, batch, labels, images to predict) in this format."""
    import torch

    net = as_torch(problem.model()).to(memory_format=memory_format)
    x, images = (
        torch.from_numpy(channels_first(a)).contiguous(memory_format=memory_format) for a in (problem.x, problem.images)
    )
    return net, x, torch.from_numpy(problem.y), images


# -- JAX and ONNX Runtime ----------------------------------------------------------------------------------------------


def jax_runs(problem: Problem) -> Runs:
    """JAX: the whole step in one `jit`."""
    import jax
    import jax.numpy as jnp

    model = problem.model()
    forward, initial = as_jax(model)
    trained = trained_by_jax(model)
    weights = jax.tree_util.tree_map(jnp.array, initial)
    update, state = jax_optimizer(problem.kind.optimizer, weights)

    def loss_of(weights: Any, x: Any, y: Any, key: Any) -> Any:
        logits, changed = forward(weights, x, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), changed

    def step(carry: Any, x: Any, y: Any) -> Any:
        weights, state, key = carry
        key, used = jax.random.split(key)
        (loss, changed), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, x, y, used)
        updated, state = update(weights, gradients, state)
        weights = jax.tree_util.tree_map(lambda t, u, c: u if t else c, trained, updated, changed)
        return (weights, state, key), loss

    compiled = jax.jit(step, donate_argnums=0)
    kept = [(weights, state, jax.random.key(0))]
    x, y = jnp.array(problem.x), jnp.array(problem.y)

    def train() -> float:
        kept[0], loss = compiled(kept[0], x, y)
        return float(loss)

    probabilities = jax.jit(lambda weights, x: jax.nn.softmax(forward(weights, x)[0]))
    frozen = jax.tree_util.tree_map(jnp.array, initial)
    batches = [jnp.array(problem.images[i : i + PREDICT_BATCH]) for i in range(0, problem.count, PREDICT_BATCH)]
    one = jnp.array(problem.images[:1])
    return Runs(
        train,
        lambda: np.concatenate([np.asarray(probabilities(frozen, batch)) for batch in batches]),
        lambda: np.asarray(probabilities(frozen, one)),
    )


def onnx_runs(problem: Problem) -> Runs:
    """ONNX Runtime, which only predicts."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = gpucnn.devices.threads.in_use()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(as_onnx(problem.model()), options, providers=["CPUExecutionProvider"])
    images = channels_first(problem.images)
    batches = [images[i : i + PREDICT_BATCH] for i in range(0, problem.count, PREDICT_BATCH)]

    def predict(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([session.run(None, {"x": part})[0] for part in parts])

    return Runs(None, lambda: predict(batches), lambda: predict([images[:1]]))


# -- all ---------------------------------------------------------------------------------------------------------------


def _torch_contiguous(problem: Problem) -> Runs:
    import torch

    return torch_runs(problem, torch.contiguous_format)


MAKERS: dict[str, Callable[[Problem], Runs]] = {
    "gpucnn": gpucnn_runs,
    "torch": _torch_contiguous,
    "torch-last": lambda problem: torch_runs(problem, _channels_last(problem)),
    "torch-compile": torch_compiled_runs,
    "jax": jax_runs,
    "onnxruntime": onnx_runs,
}
"""By contender."""


def contestants(problem: Problem, names: Sequence[str]) -> dict[str, Runs]:
    """The contenders that can run the model."""
    runs = {}
    for name in names:
        try:
            runs[name] = MAKERS[name](problem)
        except (Absent, Untranslated) as reason:
            if name == "gpucnn":
                raise
            click.echo(f"{name}: {reason}", err=True)
    return runs


def prepare(thread_count: int, contenders: Sequence[str]) -> None:
    """Import the libraries, each with this number of threads. Raises `Absent` if one is missing."""
    gpucnn.devices.threads.use(thread_count)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        if any(name.startswith("torch") for name in contenders):
            import torch

            torch.set_num_threads(thread_count)
        if "jax" in contenders:
            import jax  # noqa: F401
        if "onnxruntime" in contenders:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
    except ImportError as error:
        raise Absent(f"{error.name} is not installed: leave it out with --rivals") from None
