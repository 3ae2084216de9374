"""The training step of the course models on one GPU: gpucnn beside PyTorch and JAX, each at its best.

    python bench/competitors.py --out bench/results/h100/competitors --model slides
    python bench/competitors.py --out /tmp/dry --model slides --dry-run

Each setting (model, contender, precision) runs in a process of its own and leaves one JSON file, written whole as soon
as it is known; what is there already is skipped, so that a run that was stopped goes on. A step is forward, loss,
backward and update, on batches that lie on the device for all contenders; several batches are taken in turn. Before
any time counts, the losses of the first steps, from equal weights and with dropout off, must agree with those of
gpucnn on the CPU. Compilation, capture and the first steps are recorded apart as `prepare_seconds`.

gpucnn's step ends with the loss as a Python number, so the host waits in each; the losses of the others stay on the
device until the last of the batches. gpucnn computes in float32; the others also with TF32 allowed, which rounds
operands to 10 bits.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from train_step_vs_torch import OPTIMIZERS, as_torch, gpucnn_optimizer

import gpucnn
from gpucnn import layers
from gpucnn.devices import choose, storage
from gpucnn.files import write_atomically
from gpucnn.models.batches import Batch
from gpucnn.profiling import records
from gpucnn.runs import zoo

MODELS = ("slides", "mlearning", "keras-intro", "torres", "cifar")
CONTENDERS = ("gpucnn-cuda", "gpucnn-numba", "torch-eager", "torch-compile", "torch-graph", "jax-scan")
ABOUT = {
    "gpucnn-njit": "train step, layer by layer, on the CPU",
    "gpucnn-cuda": "train step, layer by layer, kernels in CUDA C++",
    "gpucnn-numba": "train step, layer by layer, kernels in numba.cuda",
    "torch-eager": "eager, fused optimizer, cuDNN benchmark mode",
    "torch-compile": "forward, loss and backward by torch.compile(mode='max-autotune'), fused optimizer",
    "torch-graph": "all steps, with a capturable optimizer, in one CUDA graph",
    "jax-scan": "all steps in one jit(scan)",
}
TOLERANCE = {"float32": 1e-3, "tf32": 2e-2}
"""Largest relative difference of the losses of the first steps."""
SEED = 0


class Absent(Exception):
    """The setting cannot run here, which is no failure."""


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    model: str
    contender: str
    precision: str

    def __str__(self) -> str:
        return f"{self.model}-{self.contender}-{self.precision}"


@dataclass(frozen=True)
class Effort:
    """How much to do. `limit` is in seconds of measuring; a dry run measures nothing worth keeping."""

    dry: bool
    limit: float

    @property
    def batches(self) -> int:
        return 2 if self.dry else 8

    def batch_size(self, entry: zoo.Entry) -> int:
        return 2 if self.dry else entry.recipe.batch_size


@dataclass(frozen=True)
class Loop:
    """One step on each batch: `run` starts it, `losses` waits for what it returned."""

    run: Callable[[], Any]
    losses: Callable[[Any], list[float]]
    notes: dict[str, Any]


Maker = Callable[[bool], Loop]
"""Makes the loop anew from the first weights; the argument says whether dropout is on."""


# -- the problem -------------------------------------------------------------------------------------------------------


def problem(model: str, effort: Effort) -> tuple[np.ndarray, np.ndarray]:
    """(batches, images, …) and their labels."""
    entry = zoo.find(model)
    rng = np.random.default_rng(SEED)
    size = (effort.batches, effort.batch_size(entry))
    return rng.random((*size, *entry.input_shape), np.float32), rng.integers(0, entry.classes, size)


def first_model(name: str, dropout: bool) -> gpucnn.Sequential:
    """The model with its first weights, which are the same in every process."""
    gpucnn.utils.set_random_seed(SEED)
    model = zoo.find(name).build()
    for layer in model.layers:
        if isinstance(layer, layers.Dropout) and not dropout:
            layer.rate = 0.0
    return model


def has_dropout(name: str) -> bool:
    return any(isinstance(layer, layers.Dropout) for layer in zoo.find(name).build().layers)


# -- gpucnn ------------------------------------------------------------------------------------------------------------


def gpucnn_maker(setting: Setting, effort: Effort) -> Maker:
    backend = setting.contender.removeprefix("gpucnn-")
    where = "cpu" if backend == "njit" else "emulator" if effort.dry else "gpu"
    x, y = problem(setting.model, effort)
    if where == "emulator":
        x, y = x[:1], y[:1]
    gpucnn.use(backend, device=where)

    def make(dropout: bool) -> Loop:
        model = first_model(setting.model, dropout)
        model.compile(gpucnn_optimizer(OPTIMIZERS[setting.model]), zoo.find(setting.model).recipe.loss)
        trainer = model._trainer
        trainer.take(x[0], y[0], None, len(x[0]), None)
        resident = [
            Batch(image if where == "emulator" else storage.own(image), label, None) for image, label in zip(x, y)
        ]
        return Loop(lambda: [trainer.step.train(batch) for batch in resident], list, {"device": where})

    return make


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def torch_maker(setting: Setting, effort: Effort, memory_format: str) -> Maker:
    try:
        import torch
    except ImportError:
        raise Absent("PyTorch is not installed") from None
    where = "cpu" if effort.dry else "cuda"
    if where == "cuda" and not torch.cuda.is_available():
        raise Absent(f"PyTorch {torch.__version__} finds no GPU")
    if effort.dry and setting.contender == "torch-graph":
        raise Absent("a CUDA graph needs a GPU")
    if effort.dry:
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    x, y = problem(setting.model, effort)
    form = getattr(torch, memory_format)
    images = [torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=form).to(where) for a in x]
    labels = [torch.from_numpy(a).to(where) for a in y]

    def make(dropout: bool) -> Loop:
        net = as_torch(first_model(setting.model, dropout)).to(where).to(memory_format=form)
        optimizer = torch_optimizer(OPTIMIZERS[setting.model], net.parameters(), where == "cuda")
        steps = {"torch-eager": eager_steps, "torch-compile": compiled_steps, "torch-graph": graphed_steps}
        run = steps[setting.contender](net, optimizer, images, labels)
        told = {"device": where, "memory_format": memory_format}
        return Loop(run, lambda losses: (losses if torch.is_tensor(losses) else torch.stack(losses)).tolist(), told)

    return make


def torch_optimizer(name: str, parameters: Any, on_gpu: bool) -> Any:
    """PyTorch's fastest form of it; on a GPU one that can be captured."""
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

    how = {"mode": "max-autotune"} if images[0].is_cuda else {"backend": "aot_eager"}  # a dry run has no minute for it
    loss_of = torch.compile(lambda x, y: cross_entropy(net(x), y), **how)

    def run() -> list:
        losses = []
        for x, y in zip(images, labels, strict=True):
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x, y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().clone())  # the next step writes its loss to the same place
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


def jax_maker(setting: Setting, effort: Effort) -> Maker:
    try:
        import jax
    except ImportError:
        raise Absent("JAX is not installed") from None
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if setting.precision == "tf32" else "float32")
    if effort.dry:
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        raise Absent(f"JAX {jax.__version__} finds no GPU")
    x, y = (jnp.asarray(a) for a in problem(setting.model, effort))

    def make(dropout: bool) -> Loop:
        model = first_model(setting.model, dropout)
        weights = [[jnp.asarray(w) for w in layer.get_weights()] for layer in model.layers]
        update, state = jax_optimizer(OPTIMIZERS[setting.model], weights)
        loss_of = jax_loss(model)

        def step(carry: Any, batch: Any) -> Any:
            weights, state, key = carry
            key, used = jax.random.split(key)
            loss, gradients = jax.value_and_grad(loss_of)(weights, *batch, used)
            return (*update(weights, gradients, state), key), loss

        all_steps = jax.jit(lambda carry, x, y: jax.lax.scan(step, carry, (x, y)), donate_argnums=0)
        kept = [(weights, state, jax.random.key(SEED))]

        def run() -> Any:
            kept[0], losses = all_steps(kept[0], x, y)
            return losses

        return Loop(run, lambda losses: np.asarray(losses).tolist(), {"device": jax.default_backend()})

    return make


def jax_loss(model: gpucnn.Sequential) -> Callable[..., Any]:
    """The mean crossentropy as a function of the weights by layer, images, labels and a random key."""
    import jax
    import jax.numpy as jnp

    def loss(weights: Any, x: Any, y: Any, key: Any) -> Any:
        for i, (layer, w) in enumerate(zip(model.layers, weights, strict=True)):
            if isinstance(layer, layers.Conv2D):
                dims = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(x, w[0], (1, 1), layer.padding.upper(), dimension_numbers=dims)
                x = jax.nn.relu(x + w[1])
            elif isinstance(layer, layers.MaxPooling2D):
                window = (1, *layer.pool_size, 1)
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
            elif isinstance(layer, layers.Flatten):
                x = x.reshape(len(x), -1)
            elif isinstance(layer, layers.Dense):
                x = x @ w[0] + w[1]
                x = x if i == len(weights) - 1 else jax.nn.relu(x)
            elif isinstance(layer, layers.Dropout) and layer.rate:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - layer.rate, x.shape)
                x = jnp.where(kept, x / (1 - layer.rate), 0)
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    return loss


def jax_optimizer(name: str, weights: Any) -> tuple[Callable[..., Any], Any]:
    """(update, first state), with the numbers of `gpucnn_optimizer`."""
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


# -- one setting, in a process of its own ------------------------------------------------------------------------------


def makers(setting: Setting, effort: Effort) -> list[Maker]:
    """The ways to run the setting, of which the fastest counts."""
    if setting.contender.startswith("gpucnn"):
        return [gpucnn_maker(setting, effort)]
    if effort.dry and setting.precision == "tf32":
        raise Absent("TF32 is of GPUs")
    if setting.contender == "jax-scan":
        return [jax_maker(setting, effort)]
    formats = ("channels_last",) if effort.dry else ("channels_last", "contiguous_format")
    return [torch_maker(setting, effort, memory_format) for memory_format in formats]


def measure(setting: Setting, effort: Effort, expected: list[float]) -> dict[str, Any]:
    """The entries of the record that this setting decides. Raises `Absent`, or whatever went wrong."""
    variants = []
    ways = makers(setting, effort)
    for make in ways:
        gc.collect()
        begin = time.perf_counter()
        loop = make(False)
        losses = loop.losses(loop.run())
        difference = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=False))
        if not difference <= TOLERANCE[setting.precision]:
            raise ValueError(f"the losses of the first steps differ by {difference:.2g}: {losses}, expected {expected}")
        told = {**loop.notes, "losses": losses, "loss_difference": difference, "milliseconds": None}
        if loop.notes["device"] != "emulator":
            if has_dropout(setting.model):
                loop = make(True)
                loop.losses(loop.run())
            told["prepare_seconds"] = time.perf_counter() - begin
            told["milliseconds"] = timed(loop, len(losses), effort, effort.limit / len(ways))
        else:
            told["prepare_seconds"] = time.perf_counter() - begin
        variants.append(told)
    best = min(variants, key=lambda told: told["milliseconds"]["median"] if told["milliseconds"] else 0.0)
    status = "timed" if best["milliseconds"] and not effort.dry else "checked"
    return {"status": status, **best, "variants": variants}


def timed(loop: Loop, steps: int, effort: Effort, limit: float) -> dict[str, float]:
    """Milliseconds of a step: percentiles over samples of one step on each batch."""
    loop.losses(loop.run())
    samples: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit and len(samples) < (3 if effort.dry else 1000):
        start = time.perf_counter()
        loop.losses(loop.run())
        samples.append((time.perf_counter() - start) / steps * 1e3)
    low, median, high = np.percentile(samples, [10, 50, 90])
    return {"median": float(median), "low": float(low), "high": float(high), "samples": len(samples)}


def reference(model: str, effort: Effort) -> list[float]:
    """The losses of the first steps by gpucnn on the CPU."""
    loop = gpucnn_maker(Setting(model, "gpucnn-njit", "float32"), effort)(False)
    return loop.losses(loop.run())


def in_this_process(setting: Setting, effort: Effort, out: Path) -> None:
    """Measure, and write what is known about the setting."""
    known: dict[str, Any] = {"status": "failed", "why": None}
    try:
        if setting.contender == "reference":
            known = {"status": "checked", "why": None, "losses": reference(setting.model, effort)}
        else:
            given = json.loads((out / f"{setting.model}-reference-float32.json").read_text())
            known |= measure(setting, effort, given["losses"])
    except Absent as reason:
        known |= {"status": "absent", "why": str(reason)}
    except Exception as error:
        traceback.print_exc()
        known |= {"why": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    write(setting, effort, out, known)


def write(setting: Setting, effort: Effort, out: Path, known: dict[str, Any]) -> None:
    entry = zoo.find(setting.model)
    gpus, names = choose.gpu_state()
    record = {
        "model": setting.model,
        "contender": setting.contender,
        "precision": setting.precision,
        "about": ABOUT.get(setting.contender, "gpucnn on the CPU: the losses that all must have"),
        "batch_size": effort.batch_size(entry),
        "optimizer": OPTIMIZERS[setting.model],
        "input": "resident on the device, several batches in turn",
        "dry_run": effort.dry,
        "limit_seconds": effort.limit,
        **known,
        "gpu": names if gpus else None,
        "versions": records.versions(),
        "commit": records.commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(out / f"{setting}.json", (json.dumps(record, indent=1) + "\n").encode())


# -- all settings ------------------------------------------------------------------------------------------------------


def settings(models: Sequence[str], contenders: Sequence[str], dry: bool) -> list[Setting]:
    """All rows, model by model."""
    made = []
    for model in models:
        if dry and "gpucnn-cuda" in contenders:
            made.append(Setting(model, "gpucnn-njit", "float32"))
        for contender in contenders:
            precisions = ("float32",) if contender.startswith("gpucnn") else ("float32", "tf32")
            made += [Setting(model, contender, precision) for precision in precisions]
    return made


def in_a_process(setting: Setting, effort: Effort, out: Path, prepare: float, ends: float) -> bool:
    """Run a setting beside; one that fails without a word, or takes too long, gets a record that says so. False if the
    deadline came first, which is nobody's fault and leaves no record."""
    command = [sys.executable, __file__, "--out", str(out), "--limit", str(effort.limit), "--only-this", str(setting)]
    allowed = prepare + effort.limit + 30
    left = ends - time.monotonic()
    try:
        done = subprocess.run(
            [*command, *(["--dry-run"] if effort.dry else [])],
            timeout=min(allowed, left),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        why = f"ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
        if done.returncode == 0:
            return True
    except subprocess.TimeoutExpired:
        if left < allowed:
            return False
        why = f"took more than {allowed:.0f} s"
    write(setting, effort, out, {"status": "failed", "why": why})
    return True


def known(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "contender", "precision", "batch", "ms/step", "10 … 90 %", "prepared in", "", box=None)
    for r in rows:
        ms, told = r.get("milliseconds"), r["why"] or ("dry run: no time" if r["dry_run"] else "")
        times = (f"{ms['median']:.3f}", f"{ms['low']:.3f} … {ms['high']:.3f}") if ms else ("", "")
        prepared = f"{r['prepare_seconds']:.1f} s" if "prepare_seconds" in r else ""
        told = f"{r['status']}: {told}" if told else r["status"]
        table.add_row(r["model"], r["contender"], r["precision"], str(r["batch_size"]), *times, prepared, told)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder of the records.")
@click.option("--model", "models", multiple=True, type=click.Choice(MODELS), help="Only this model; repeatable.")
@click.option(
    "--contender", "contenders", multiple=True, type=click.Choice(CONTENDERS), help="Only this one; repeatable."
)
@click.option("--limit", type=float, help="Seconds of measuring of a setting.  [default: 60, dry 5]")
@click.option(
    "--prepare", default=240.0, show_default=True, help="Seconds that compiling and the first steps may take."
)
@click.option("--deadline", type=float, help="Stop cleanly before so many seconds are over; the next run goes on.")
@click.option("--again", is_flag=True, help="Also repeat settings whose record says that they failed.")
@click.option("--dry-run", "dry", is_flag=True, help="CPU and emulator, two images, two steps: does all of it work?")
@click.option("--only-this", hidden=True)
def main(
    out: Path,
    models: tuple[str, ...],
    contenders: tuple[str, ...],
    limit: float | None,
    prepare: float,
    deadline: float | None,
    again: bool,
    dry: bool,
    only_this: str | None,
) -> None:
    effort = Effort(dry, limit or (5.0 if dry else 60.0))
    planned = settings(models or MODELS, contenders or CONTENDERS, dry)
    if only_this is not None:
        references = [Setting(model, "reference", "float32") for model in MODELS]
        found = {str(s): s for s in [*references, *settings(MODELS, CONTENDERS, dry)]}
        return in_this_process(found[only_this], effort, out)
    if not dry and not choose.gpu_state()[0]:
        raise click.ClickException(f"no GPU: {choose.gpu_state()[1]}; --dry-run tries everything without one")
    out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + (deadline or float("inf"))
    told = []
    for setting in [s for m in dict.fromkeys(p.model for p in planned) for s in with_reference(m, planned)]:
        path = out / f"{setting}.json"
        record = known(path)
        if record is None or record["dry_run"] != dry or (again and record["status"] == "failed"):
            click.echo(f"{setting} …", err=True)
            if not in_a_process(setting, effort, out, prepare, ends):
                show(told)
                click.echo("stopped at the deadline: run again to go on", err=True)
                sys.exit(75)
            record = known(path)
        if record is not None and setting.contender != "reference":
            told.append(record)
    show(told)
    failed = [f"{r['model']}-{r['contender']}-{r['precision']}" for r in told if r["status"] == "failed"]
    if failed or len(told) < len(planned):
        click.echo(f"failed: {', '.join(failed) or 'no record was written'}", err=True)
        sys.exit(1)


def with_reference(model: str, planned: Sequence[Setting]) -> list[Setting]:
    """The reference first: the others are compared with it."""
    return [Setting(model, "reference", "float32"), *(s for s in planned if s.model == model)]


if __name__ == "__main__":
    main()
