"""What `competitors.py` compares: the training step of gpucnn, PyTorch and JAX, each at its best.

Each maker takes a combination of model, contender and precision, and returns a function that builds
a loop of steps from the initial weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rivals import as_jax, as_torch
from train_step_vs_torch import OPTIMIZERS, gpucnn_optimizer

import gpucnn
from gpucnn import layers
from gpucnn.devices import storage
from gpucnn.models.batches import Batch
from gpucnn.models.resident import TOGETHER
from gpucnn.models.resident_steps import ResidentSteps
from gpucnn.runs import zoo

SEED = 0


class Absent(Exception):
    """The combination cannot run on this machine, which does not count as a failure."""


@dataclass(frozen=True)
class Combination:
    """One row of the table."""

    model: str
    contender: str
    precision: str

    def __str__(self) -> str:
        return f"{self.model}-{self.contender}-{self.precision}"


@dataclass(frozen=True)
class Budget:
    """How much to measure: `limit` is in seconds; the times of a dry run mean nothing."""

    dry: bool
    limit: float

    @property
    def batches(self) -> int:
        return 2 if self.dry else 16

    def batch_size(self, entry: zoo.Entry) -> int:
        return 2 if self.dry else entry.recipe.batch_size


@dataclass(frozen=True)
class Loop:
    """One step on each batch: `run` starts the steps, `losses` waits for the result of `run`."""

    run: Callable[[], Any]
    losses: Callable[[Any], list[float]]
    notes: dict[str, Any]


Maker = Callable[[bool], Loop]
"""Builds the loop from the initial weights; the argument says whether dropout is on."""


# -- the problem -------------------------------------------------------------------------------------------------------


def problem(model: str, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """(batches, images, …) and their labels."""
    entry = zoo.find(model)
    rng = np.random.default_rng(SEED)
    size = (budget.batches, budget.batch_size(entry))
    return rng.random((*size, *entry.input_shape), np.float32), rng.integers(0, entry.classes, size)


def first_model(name: str, dropout: bool) -> gpucnn.Sequential:
    """The model with its initial weights, which are the same in every process."""
    gpucnn.utils.set_random_seed(SEED)
    model = zoo.find(name).build()
    for layer in model.layers:
        if isinstance(layer, layers.Dropout) and not dropout:
            layer.rate = 0.0
    return model


def has_dropout(name: str) -> bool:
    return any(isinstance(layer, layers.Dropout) for layer in zoo.find(name).build().layers)


# -- gpucnn ------------------------------------------------------------------------------------------------------------


def gpucnn_maker(combination: Combination, budget: Budget) -> Maker:
    _, backend, *eager = combination.contender.split("-")
    where = "cpu" if backend == "njit" else "emulator" if budget.dry else "gpu"
    x, y = problem(combination.model, budget)
    if where == "emulator":
        x, y = x[:1], y[:1]
    gpucnn.use(backend, device=where)

    def make(dropout: bool) -> Loop:
        model = first_model(combination.model, dropout)
        model.compile(gpucnn_optimizer(OPTIMIZERS[combination.model]), zoo.find(combination.model).recipe.loss)
        data = model._trainer.take(np.concatenate(x), np.concatenate(y), None, len(x[0]), None)
        step = model._trainer.step
        if where == "cpu" or eager:
            held = [Batch(storage.own(image) if where == "gpu" else image, label, None) for image, label in zip(x, y)]
            return Loop(lambda: [step.train(batch) for batch in held], list, {"device": where})
        losses: list[float] = []
        steps = ResidentSteps(model, step, data, lambda batch, loss: losses.append(loss))

        def run() -> None:
            losses.clear()
            for train, _ in steps.epoch(0, steps.steps, 0, SEED, shuffle=False, together=TOGETHER):
                train()

        def collected(_: Any) -> list[float]:
            steps.collect()
            return list(losses)

        return Loop(run, collected, {"device": where})

    return make


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def torch_maker(combination: Combination, budget: Budget, memory_format: str) -> Maker:
    try:
        import torch
    except ImportError:
        raise Absent("PyTorch is not installed") from None
    where = "cpu" if budget.dry else "cuda"
    if where == "cuda" and not torch.cuda.is_available():
        raise Absent(f"PyTorch {torch.__version__} finds no GPU")
    if budget.dry and combination.contender == "torch-graph":
        raise Absent("a CUDA graph needs a GPU")
    if budget.dry:
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = combination.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    x, y = problem(combination.model, budget)
    form = getattr(torch, memory_format)
    images = [torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=form).to(where) for a in x]
    labels = [torch.from_numpy(a).to(where) for a in y]

    def make(dropout: bool) -> Loop:
        net = as_torch(first_model(combination.model, dropout)).to(where).to(memory_format=form)
        optimizer = torch_optimizer(OPTIMIZERS[combination.model], net.parameters(), where == "cuda")
        steps = {"torch-eager": eager_steps, "torch-compile": compiled_steps, "torch-graph": graphed_steps}
        run = steps[combination.contender](net, optimizer, images, labels)
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


def compiled_steps(net: Any, optimizer: Any, images: Sequence[Any], labels: Sequence[Any]) -> Callable[[], list]:
    import torch
    from torch.nn.functional import cross_entropy

    how = {"mode": "max-autotune"} if images[0].is_cuda else {"backend": "aot_eager"}  # a dry run must not take minutes
    loss_of = torch.compile(lambda x, y: cross_entropy(net(x), y), **how)

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


def jax_maker(combination: Combination, budget: Budget) -> Maker:
    try:
        import jax
    except ImportError:
        raise Absent("JAX is not installed") from None
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if combination.precision == "tf32" else "float32")
    if budget.dry:
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        raise Absent(f"JAX {jax.__version__} finds no GPU")
    x, y = (jnp.asarray(a) for a in problem(combination.model, budget))

    def make(dropout: bool) -> Loop:
        model = first_model(combination.model, dropout)
        weights = [[jnp.asarray(w) for w in layer.get_weights()] for layer in model.layers]
        update, state = jax_optimizer(OPTIMIZERS[combination.model], weights)
        loss_of = jax_loss(model)

        def step(carry: Any, batch: Any) -> Any:
            weights, state, key = carry
            key, used = jax.random.split(key)
            (loss, _), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, *batch, used)
            return (*update(weights, gradients, state), key), loss

        all_steps = jax.jit(lambda carry, x, y: jax.lax.scan(step, carry, (x, y)), donate_argnums=0)
        kept = [(weights, state, jax.random.key(SEED))]

        def run() -> Any:
            kept[0], losses = all_steps(kept[0], x, y)
            return losses

        return Loop(run, lambda losses: np.asarray(losses).tolist(), {"device": jax.default_backend()})

    return make


def jax_loss(model: gpucnn.Sequential) -> Callable[..., Any]:
    """The mean crossentropy as a function of weights by layer, images, labels and a random key, and the
    weights with new moving statistics."""
    import jax
    import jax.numpy as jnp

    forward, _ = as_jax(model)

    def loss(weights: Any, x: Any, y: Any, key: Any) -> Any:
        logits, changed = forward(weights, x, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), changed

    return loss


def jax_optimizer(name: str, weights: Any) -> tuple[Callable[..., Any], Any]:
    """(update, initial state), with the parameters of `gpucnn_optimizer`."""
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


def makers(combination: Combination, budget: Budget) -> list[Maker]:
    """The variants of the combination, of which the fastest counts."""
    if combination.contender.startswith("gpucnn"):
        return [gpucnn_maker(combination, budget)]
    if budget.dry and combination.precision == "tf32":
        raise Absent("TF32 needs a GPU")
    if combination.contender == "jax-scan":
        return [jax_maker(combination, budget)]
    formats = ("channels_last",) if budget.dry else ("channels_last", "contiguous_format")
    return [torch_maker(combination, budget, memory_format) for memory_format in formats]
