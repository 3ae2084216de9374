"""How long a training step takes on many GPUs that each compute a part of the batch: predicted from the
step of one GPU, the gradients to be added up, and the network. A prediction, never a measurement.

    step = forward and backward + what of the all-reduces is not hidden + update

The time of an all-reduce is that of NCCL's own model, by which it chooses between rings and trees
(`ncclTopoTuneModel` in src/graph/tuning.cc, commit 01afd20): latency + bytes / bandwidth. Of its
protocols, LL has the lowest latency and Simple the highest bandwidth. Gradients are final from the
last layer to the first, and go in buckets: an all-reduce begins when its bucket is complete and the
one before it is done, while the backward pass continues.

Not modelled: GPUs that wait for the slowest, multiprocessors that NCCL takes from the kernels,
networks that others use, reduction inside switches (NVLink SHARP), and how data reach the GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, log2

BACKWARD = 2 / 3
"""The share of the backward pass in forward and backward: a product for each of two gradients, to one in the
forward pass."""

BUCKETS = (1, 2, 4, 8)
"""Numbers of buckets, of which the best counts."""


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs.

    gpus      in a node
    link      bytes that a GPU sends to the others of its node in a microsecond
    rails     bytes that a node sends to another in a microsecond, by all its adapters
    sources   where these numbers come from
    """

    name: str
    title: str
    gpus: int
    link: float
    rails: float
    sources: str


DGX_H100 = Cluster(
    "dgx-h100",
    "nodes of 8 NVIDIA H100 SXM with an NDR adapter each",
    8,
    18 * 20.6e3,
    8 * 50e3 * 0.85,
    "link: NCCL, src/graph/topo.h, 20.6 GB/s for each of 18 NVLinks; rails: DGX H100 datasheet, 8 adapters of "
    "400 Gbit/s, of which 85 % are reached (estimate)",
)

_PROTOCOLS = ("LL", "LL128", "Simple")

_BASE = {"tree": (4.4, 4.4, 0.0), "ring": (3.6, 10.0, 8.4)}
"""Microseconds of any all-reduce: NCCL's baseLat, by protocol."""

_LINK = {"tree": (0.52, 1.2, 28.0), "ring": (0.47, 1.9, 3.4)}
"""Microseconds of a step over NVLink: NCCL's hwLat."""

_NETWORK = {"tree": (5.0, 8.5, 50.0), "ring": (2.7, 4.0, 9.6)}
"""Microseconds of a step over the network: NCCL's hwLat."""

_LL_LINK = 1.8
"""NCCL's factor for the latency of LL inside the nodes, if there are several."""

_SHARE = {"ring": (1 / 4, 0.92, 1.0), "tree": (0.9 / 3.8, 0.9 * 0.915, 0.9)}
"""The share of the bandwidth that carries data, by protocol."""


def all_reduce(nbytes: float, gpus: int, cluster: Cluster) -> tuple[float, str]:
    """(microseconds, such as "tree LL") of the fastest way to add up so many bytes over so many GPUs."""
    if gpus == 1:
        return 0.0, "none"
    nodes = ceil(gpus / cluster.gpus)
    bus = cluster.link if nodes == 1 else min(cluster.link, cluster.rails)
    choices = []
    for number, protocol in enumerate(_PROTOCOLS):
        link = {name: times[number] for name, times in _LINK.items()}
        if nodes > 1 and protocol == "LL":
            link = {name: time * _LL_LINK for name, time in link.items()}
        steps, between = 2 * (gpus - 1), 2 * (nodes - 1)
        latency = {
            "ring": (steps - between) * link["ring"] + between * _NETWORK["ring"][number],
            "tree": 2 * ((gpus / nodes - 1) * link["tree"] + ceil(log2(nodes)) * _NETWORK["tree"][number]),
        }
        moved = {"ring": nbytes * steps / gpus, "tree": 2 * nbytes}
        choices += [
            (_BASE[name][number] + latency[name] + moved[name] / (bus * _SHARE[name][number]), f"{name} {protocol}")
            for name in latency
        ]
    return min(choices)


@dataclass(frozen=True)
class Work:
    """The step of one GPU.

    compute  microseconds of forward and backward
    update   microseconds of the update
    layers   for each layer, the first one first: its share in the operations, and the bytes of its gradients
    """

    compute: float
    update: float
    layers: tuple[tuple[float, int], ...]

    @property
    def nbytes(self) -> int:
        """Of all gradients."""
        return sum(size for _, size in self.layers)


@dataclass(frozen=True)
class Prediction:
    """The step on several GPUs; times in microseconds.

    reduce   all all-reduces, one after the other
    exposed  what of them is not hidden behind the backward pass
    """

    gpus: int
    step: float
    reduce: float
    exposed: float
    buckets: int
    algorithm: str


def predict(work: Work, gpus: int, cluster: Cluster, buckets: Sequence[int] = BUCKETS) -> Prediction:
    """The step with the number of buckets that is best for it."""
    return min((_predict(work, gpus, cluster, count) for count in buckets), key=lambda one: one.step)


def _predict(work: Work, gpus: int, cluster: Cluster, buckets: int) -> Prediction:
    backward = BACKWARD * work.compute
    cuts = _buckets(work, buckets)
    end = reduced = 0.0
    for ready, nbytes in cuts:
        time, _ = all_reduce(nbytes, gpus, cluster)
        end, reduced = max(end, ready * backward) + time, reduced + time
    exposed = max(0.0, end - backward) if gpus > 1 else 0.0
    step = work.compute + exposed + work.update
    return Prediction(gpus, step, reduced, exposed, len(cuts), all_reduce(cuts[-1][1], gpus, cluster)[1])


def _buckets(work: Work, count: int) -> list[tuple[float, int]]:
    """(when it is complete, as a part of the backward pass; bytes) of each bucket: about equally many bytes
    each, whole layers, from the last layer to the first."""
    done = accumulate(share for share, _ in reversed(work.layers))
    cuts: list[tuple[float, int]] = []
    filled, limit = 0, work.nbytes / count
    for ready, (_, size) in zip(done, reversed(work.layers), strict=True):
        filled += size
        if filled >= limit:
            cuts.append((ready, filled))
            filled = 0
    return [*cuts, (1.0, filled)] if filled else cuts
