"""One training step of a model in gpucnn, PyTorch and JAX, each at its best, from equal weights.

A contender is built as a loop over several batches that are already on the device. What its losses
are must be compared before it is timed: `agree`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import layers
from ..devices import storage, threads
from ..dispatch import choice
from ..dispatch.precision import BFLOAT16, FLOAT32, TF32, Precision
from ..errors import GpucnnError
from ..models.batches import Arrays, Batch
from ..models.resident import TOGETHER
from ..models.resident_steps import ResidentSteps
from ..models.sequential import Sequential
from . import step, zoo
from .translations import as_jax, as_torch, trained_by_jax

SEED = 0
TOLERANCE = {FLOAT32: 1e-3, TF32: 2e-2, BFLOAT16: 16e-2}
"""Largest relative difference of the losses of the first steps; bfloat16 rounds 8 times as coarsely as
TF32."""


class Absent(GpucnnError):
    """A contender cannot run on this machine."""


@dataclass(frozen=True)
class Problem:
    """What all contenders train.

    x, y       batches: (count, images, …) float32, and their labels
    where      cpu, gpu, gpu:N or emulator
    precision  of the factors in products
    """

    model: str
    x: np.ndarray
    y: np.ndarray
    where: str
    precision: Precision = "float32"

    @classmethod
    def random(
        cls, model: str, where: str, count: int, size: int | None = None, precision: Precision = "float32"
    ) -> Problem:
        """Random images, in batches of `size` (by default that of the model's training)."""
        entry, rng = zoo.find(model), np.random.default_rng(SEED)
        shape = (count, size or entry.training.batch_size)
        x = rng.random((*shape, *entry.input_shape), np.float32)
        return cls(model, x, rng.integers(0, entry.classes, shape), where, precision)

    @property
    def optimizer(self) -> str:
        """Its name."""
        return step.OPTIMIZERS.get(self.model, "sgd")


@dataclass(frozen=True)
class Loop:
    """One step on each batch: `run` starts the steps, `losses` waits for the result of `run`."""

    run: Callable[[], Any]
    losses: Callable[[Any], list[float]]
    notes: dict[str, Any]


Maker = Callable[[bool], Loop]
"""Builds the loop from the initial weights; the argument says whether dropout is on."""


def has_dropout(name: str) -> bool:
    """Whether a model has a layer whose rate is not 0."""
    return any(isinstance(layer, layers.Dropout) for layer in zoo.find(name).build().layers)


def agree(losses: Sequence[float], expected: Sequence[float], precision: str = FLOAT32) -> float:
    """The largest relative difference of the losses of the first steps. Raises `GpucnnError` if it is
    more than rounding explains."""
    count = min(len(losses), len(expected))
    got, right = np.array(losses[:count]), np.array(expected[:count])
    difference = float(np.max(np.abs(got - right) / np.abs(right)))  # NaN stays NaN
    if not difference <= TOLERANCE[precision]:
        raise GpucnnError(
            f"the losses of the first steps differ by {difference:.2g}: {list(losses)}, expected {list(expected)}"
        )
    return difference


def _require_same_precision(problem: Problem) -> None:
    """Raise `Absent` for bfloat16, by which other libraries also mean activations that are stored so."""
    if problem.precision == BFLOAT16:
        raise Absent("there is no step with bfloat16 factors and float32 activations")


# -- gpucnn ------------------------------------------------------------------------------------------------------------


def gpucnn_maker(problem: Problem, backend: str = "auto", eager: bool = False) -> Maker:
    """gpucnn's step: as a CUDA graph on a GPU (and in the emulator), unless it is `eager`."""
    x, y = problem.x, problem.y

    def make(dropout: bool) -> Loop:
        choice.use(backend, device=problem.where)
        model = step.compiled(problem.model, dropout, problem.precision)
        data = model._trainer.take(np.concatenate(x), np.concatenate(y), None, x.shape[1], None)
        training = model._trainer.step
        notes = {"device": problem.where, "backend": choice.backend()}
        if problem.where == "cpu" or eager:
            own = np.asarray if problem.where == "cpu" else storage.own
            held = [Batch(own(images), labels, None) for images, labels in zip(x, y, strict=True)]

            def run_eagerly() -> list[float]:
                with threads.one_blas_thread(), choice.computing(problem.precision):
                    return [training.train(batch) for batch in held]

            return Loop(run_eagerly, list, notes)
        assert isinstance(data, Arrays)
        losses: list[float] = []
        steps = ResidentSteps(model, training, data, lambda batch, loss: losses.append(loss))

        def run() -> None:
            losses.clear()
            with choice.computing(problem.precision):
                for train, _ in steps.epoch(0, steps.steps, 0, SEED, shuffle=False, together=TOGETHER):
                    train()

        def collected(_: Any) -> list[float]:
            steps.collect()
            return list(losses)

        return Loop(run, collected, notes)

    return make


# -- PyTorch -----------------------------------------------------------------------------------------------------------

TORCH = {"torch": "eager", "torch-compile": "torch.compile", "torch-graph": "all steps in one CUDA graph"}


def torch_maker(problem: Problem, how: str, memory_format: str) -> Maker:
    """PyTorch's step; `how` is a key of TORCH. Raises `Absent`."""
    try:
        import torch
    except ImportError:
        raise Absent("PyTorch is not installed: pip install torch") from None
    where = problem.where.replace("gpu", "cuda") if problem.where.startswith("gpu") else "cpu"
    if where != "cpu" and not torch.cuda.is_available():
        raise Absent(f"PyTorch {torch.__version__} finds no GPU")
    if where == "cpu" and how == "torch-graph":
        raise Absent("a CUDA graph needs a GPU")
    _require_same_precision(problem)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = problem.precision == TF32
    torch.backends.cudnn.benchmark = True
    form = getattr(torch, memory_format)
    images = [torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=form).to(where) for a in problem.x]
    labels = [torch.from_numpy(a).to(where) for a in problem.y]

    def make(dropout: bool) -> Loop:
        with choice.using("auto", device="cpu"):
            net = as_torch(step.compiled(problem.model, dropout)).to(where).to(memory_format=form)
        optimizer = torch_optimizer(problem.optimizer, net.parameters(), where != "cpu")
        builders = {"torch": eager_steps, "torch-compile": compiled_steps, "torch-graph": graphed_steps}
        run = builders[how](net, optimizer, images, labels)
        notes = {"device": where, "memory_format": memory_format}
        return Loop(run, lambda losses: (losses if torch.is_tensor(losses) else torch.stack(losses)).tolist(), notes)

    return make


def torch_optimizer(name: str, parameters: Any, on_gpu: bool) -> Any:
    """PyTorch's fastest version of the optimizer; on a GPU one that can be captured."""
    import torch

    if name == "adam":
        return torch.optim.Adam(parameters, 1e-3, eps=1e-8, fused=True, capturable=on_gpu)
    return torch.optim.SGD(parameters, 0.01, fused=True)


def eager_steps(net: Any, optimizer: Any, images: Sequence[Any], labels: Sequence[Any]) -> Callable[[], list]:
    """Steps that Python launches."""
    from torch.nn.functional import cross_entropy

    def run() -> list:
        losses = []
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    return run


def compiled_loss(net: Any, mode: str | None = None) -> Callable[[Any, Any], Any]:
    """The loss of a batch by `torch.compile`, which forgets other models: the ninth version of a function would
    not be compiled."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.compiler.reset()
    return torch.compile(lambda x, y: cross_entropy(net(x), y), mode=mode, dynamic=False)


def compiled_steps(net: Any, optimizer: Any, images: Sequence[Any], labels: Sequence[Any]) -> Callable[[], list]:
    """Steps with forward pass, loss and backward pass by `torch.compile`."""
    import torch

    loss_of = compiled_loss(net, "max-autotune" if images[0].is_cuda else None)

    def run() -> list:
        losses = []
        for x, y in zip(images, labels, strict=True):
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x, y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().clone())  # the next step overwrites the loss
        return losses

    return run


def graphed_steps(net: Any, optimizer: Any, images: Sequence[Any], labels: Sequence[Any]) -> Callable[[], Any]:
    """All steps, optimizer included, in one CUDA graph."""
    import torch

    steps = eager_steps(net, optimizer, images, labels)
    first = [p.detach().clone() for p in net.parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            steps()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = torch.stack(steps())
    with torch.no_grad():
        for p, value in zip(net.parameters(), first, strict=True):
            p.copy_(value)
        for state in optimizer.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.zero_()

    def run() -> Any:
        graph.replay()
        return losses

    return run


# -- JAX ---------------------------------------------------------------------------------------------------------------


def jax_maker(problem: Problem) -> Maker:
    """JAX's step: all of them in one `jit` of a `scan`. Raises `Absent`."""
    try:
        import jax
    except ImportError:
        raise Absent("JAX is not installed: pip install jax") from None
    import jax.numpy as jnp

    _require_same_precision(problem)
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if problem.precision == TF32 else "float32")
    if not problem.where.startswith("gpu"):
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        raise Absent(f"JAX {jax.__version__} finds no GPU")
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    def make(dropout: bool) -> Loop:
        with choice.using("auto", device="cpu"):
            model = step.compiled(problem.model, dropout)
        weights = [[jnp.asarray(w) for w in layer.get_weights()] for layer in model.layers]
        update, state = jax_optimizer(problem.optimizer, weights)
        loss_of = jax_loss(model)
        trained = trained_by_jax(model)

        def joined(updated: Any, moved: Any) -> Any:
            """What training changes as updated, moving statistics as the forward pass left them."""
            each = zip(trained, updated, moved, strict=True)
            return [[a if flag else b for flag, a, b in zip(*layer, strict=True)] for layer in each]

        def one(carry: Any, batch: Any) -> Any:
            weights, state, key = carry
            key, used = jax.random.split(key)
            (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, *batch, used)
            updated, state = update(weights, gradients, state)
            return (joined(updated, moved), state, key), loss

        all_steps = jax.jit(lambda carry, x, y: jax.lax.scan(one, carry, (x, y)), donate_argnums=0)
        kept = [(weights, state, jax.random.key(SEED))]

        def run() -> Any:
            kept[0], losses = all_steps(kept[0], x, y)
            return losses

        return Loop(run, lambda losses: np.asarray(losses).tolist(), {"device": jax.default_backend()})

    return make


def jax_loss(model: Sequential) -> Callable[..., Any]:
    """The mean crossentropy, and the weights with new moving statistics, as a function of weights by layer,
    images, labels and a random key. Raises `Untranslated`."""
    import jax
    import jax.numpy as jnp

    forward, _ = as_jax(model)

    def loss(weights: Any, x: Any, y: Any, key: Any) -> Any:
        logits, changed = forward(weights, x, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), changed

    return loss


def jax_optimizer(name: str, weights: Any) -> tuple[Callable[..., Any], Any]:
    """(update, initial state), with the parameters of `step.optimizer`."""
    import jax
    import jax.numpy as jnp

    tree = jax.tree_util.tree_map
    if name == "sgd":
        return lambda weights, g, state: (tree(lambda w, d: w - 0.01 * d, weights, g), state), ()

    def adam(weights: Any, g: Any, state: Any) -> Any:
        m, v, count = state
        count = count + 1
        m = tree(lambda a, d: 0.9 * a + 0.1 * d, m, g)
        v = tree(lambda a, d: 0.999 * a + 0.001 * d * d, v, g)
        one, two = 1 - 0.9**count, 1 - 0.999**count
        weights = tree(lambda w, a, b: w - 1e-3 * (a / one) / (jnp.sqrt(b / two) + 1e-8), weights, m, v)
        return weights, (m, v, count)

    return adam, (tree(jnp.zeros_like, weights), tree(jnp.zeros_like, weights), jnp.zeros((), jnp.float32))


# -- all contenders ----------------------------------------------------------------------------------------------------

NAMES = (*TORCH, "jax")
"""What gpucnn can be compared with."""


def makers(problem: Problem, name: str) -> list[Maker]:
    """The variants of a rival, of which the fastest counts. Raises `Absent`."""
    if name == "jax":
        return [jax_maker(problem)]
    return [torch_maker(problem, name, form) for form in ("channels_last", "contiguous_format")]
