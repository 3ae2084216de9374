"""How each op of a training step is computed on a card: which kernel, in which tiles, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..devices import choose
from ..devices.cards import Card
from ..devices.cuda import CudaFunction
from ..dispatch.op import Kernel
from ..dispatch.precision import Precision, scope
from ..profiling import launches, prediction
from ..profiling.launches import Call, Launch, LaunchRecorder
from . import step


@dataclass(frozen=True)
class Decision:
    """How one call of an op is computed.

    tile          values of a block along M and N, and of a slab along K; None if there are no tiles
    parts         into how many parts the sums are cut
    waves         blocks divided by those that the card holds at a time
    alternatives  predicted microseconds of other kernels that serve the call, by algorithm
    """

    call: Call
    tile: tuple[int, int, int] | None
    parts: int
    waves: float
    nodes: list[prediction.Node]
    card: Card
    alternatives: dict[str, float]
    reason: str

    @property
    def microseconds(self) -> float:
        """Predicted, of all kernels of the call."""
        return sum(self.card.node + node.microseconds for node in self.nodes)


def plan(model: str, card: Card, backend: str = "cuda", precision: Precision = "float32") -> Iterator[Decision]:
    """The decisions of a step of a model, in the order of the step."""
    recorded = step.nodes(model, card.arch, backend, precision)
    predicted = prediction.of_step(recorded, card)
    pairs = [(node, one) for node, one in zip(recorded, predicted, strict=True) if isinstance(node, Launch)]
    for _, group in groupby(pairs, key=lambda pair: id(pair[0].call)):
        of_call = list(group)
        launch = of_call[0][0]
        assert launch.call is not None
        with scope(precision):
            alternatives, reason = _others(launch.call, card)
        tile = _tile(launch)
        parts = launch.geometry.grid[1] if tile and len(launch.geometry.grid) > 1 else 1
        nodes = [node for _, node in of_call]
        yield Decision(launch.call, tile, parts, nodes[0].waves, nodes, card, alternatives, reason)


def _tile(launch: Launch) -> tuple[int, int, int] | None:
    """The tile of a product, which its kernel gets as macros."""
    defines = launch.function.defines if isinstance(launch.function, CudaFunction) else {}
    if not {"TILE_M", "TILE_N", "TILE_K"} <= defines.keys():
        return None
    return defines["TILE_M"], defines["TILE_N"], defines["TILE_K"]


def _others(call: Call, card: Card) -> tuple[dict[str, float], str]:
    """(predicted microseconds of the kernels that were passed over and of the next one, why the kernel
    of a call was chosen)."""
    kernel, op = call.kernel, call.kernel.op
    kernels = op.kernels((kernel.backend,))
    place = op.prefer.index(kernel.algorithm) if kernel.algorithm in op.prefer else len(op.prefer)
    reasons, candidates = [], []
    with choose.using(LaunchRecorder(card.arch)):
        for algorithm in op.prefer[:place]:
            other = kernels.get(f"{algorithm}_{kernel.backend}")
            if other is None:
                continue
            serves = other.serves(call.operands, call.params)
            reasons.append(f"{algorithm} {'does not pay' if serves else 'does not serve it'}")
            candidates += [other] if serves else []
        after = (kernels.get(f"{algorithm}_{kernel.backend}") for algorithm in op.prefer[place + 1 :])
        candidates += [other for other in after if other and other.serves(call.operands, call.params)][:1]
    alternatives = {other.algorithm: _alone(other, call, card) for other in candidates}
    return alternatives, "; ".join(reasons) or ("first choice" if len(kernels) > 1 else "the only kernel")


def _alone(kernel: Kernel, call: Call, card: Card) -> float:
    """Predicted microseconds of a kernel on a call, which finds its operands in L2 if they fit."""
    other = Call(kernel, call.operands, call.params)
    return prediction.total(prediction.of_step(launches.of_call(other, card.arch), card), card)


def row(decision: Decision) -> dict[str, Any]:
    """As JSON values; all times are predicted."""
    call = decision.call
    return {
        "op": call.kernel.op.name,
        "operands": [None if spec is None else list(spec.shape) for spec in call.operands],
        "kernel": call.kernel.id,
        "algorithm": call.kernel.algorithm,
        "tile": decision.tile,
        "parts": decision.parts,
        "waves": decision.waves,
        "launches": [node.function for node in decision.nodes],
        "flops": call.flops,
        "predicted_us": decision.microseconds,
        "tolerance": max(node.tolerance for node in decision.nodes),
        "branch": decision.nodes[0].branch,
        "beside": decision.nodes[0].beside,
        "bottleneck": max(decision.nodes, key=lambda node: node.microseconds).bottleneck,
        "reason": decision.reason,
        "predicted_us_of_others": decision.alternatives,
    }
