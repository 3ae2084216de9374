"""Arrays that stay on the device, and launches on their batches that are recorded once and replayed.

The device chooses the images of each batch and counts the batches itself. What a batch leaves
behind, such as its losses, is kept there until someone asks for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..activations import UserFunction
from ..config import changes
from ..devices import ahead, branches, choose, storage
from ..devices.feed import Feed
from ..devices.free_memory import readable
from ..dispatch import choice
from ..layers.layer import Activated, every
from ..losses import Loss
from ..ops.batch import gather_batch
from ..optimizers.optimizer import Optimizer
from . import fusion
from .batches import Arrays, Batch, Batches, StoredArrays, chosen_labels
from .model import Model

Turn = tuple[Callable[[], None], int]
"""What does something with one or more batches, and with how many."""

PLAIN = (type(None), bool, int, float, str, tuple, np.generic)
"""What settings are compared by; other attributes of layers and the like change without one of these."""

TOGETHER = 16
"""The most batches that are replayed as one unless more are asked for: the host launches one graph for
all of them. More save little, since 16 share one launch, and each costs the time of its capture."""

MOST_TOGETHER = 1024
"""The most that can be asked for: capturing them takes seconds."""

_RING_BYTES = 256 << 20
"""The most memory of the device for batches of a data set that is too large for it, unless two
batches need more."""

_rehearsed: WeakKeyDictionary[Model, set[Any]] = WeakKeyDictionary()
"""What has been compiled ahead for each model."""

Part = Callable[[int], slice]
"""What chooses the rows of a batch that this process computes, from how many the batch has."""

ALL: Part = partial(slice, 0)

_IN_ORDER: dict[str, Any] = {"seed": 0, "stream": 0, "shuffle": False}

_SPARED = 16
"""What is kept for the next call takes at most this part of the memory that was free."""

_KEPT_BYTES = 64 << 20
"""What batches leave behind is read when it takes this much memory of the device."""


def is_used() -> bool:
    """Whether the device in use records launches, and the environment does not forbid it."""
    return choose.current().records and os.environ.get("GPUCNN_GRAPH") != "0"


def _say_nothing(line: str) -> None:
    """Where nobody listens."""


def compile_ahead(rehearse: Callable[[], None], say: Callable[[str], None] = _say_nothing) -> None:
    """Compile side by side what `rehearse` would launch, unless it would choose kernels by measuring them."""
    if choice.tuning() == "off":
        ahead.compile_ahead(rehearse, say)


def obstacle(model: Model, data: Batches, loss: Loss | None = None) -> str | None:
    """Why the batches of `data` cannot stay on the device, or None if they can."""
    if not isinstance(data, Arrays):
        return "its batches come from a generator"
    if isinstance(data, StoredArrays):
        return "its images stay in a file"
    reason = unrecordable(model, loss)
    if reason is not None:
        return reason
    need, free = 4 * (0 if data.y is None else data.y.size), choose.current().free_bytes()
    if free is not None and need > free // 4:
        return f"y needs {readable(need)}, and {readable(free)} is free on {choose.current().name}"
    return None


def unrecordable(model: Model, loss: Loss | None = None) -> str | None:
    """Why a pass through the model, and the loss, cannot be repeated without Python; None if it can."""
    for part in (*every(model.layers), *([] if loss is None else [loss])):
        if not is_ours(part):
            return f"{type(part).__name__} is not one of gpucnn's own"
    if loss is not None and not loss.on_device:
        return f"the loss {loss.name} computes on the host"
    if loss is not None and not loss.by_sample:
        return f"the loss {loss.name} looks at a whole batch together"
    for layer in every(model.layers):
        if layer.activity_regularizer is not None:
            return f"{layer.name} has an activity_regularizer"
        if isinstance(layer, Activated) and isinstance(layer.activation, UserFunction):
            return f"{layer.name} has the activation {layer.activation.name}"
    return None


def changing(model: Model, optimizer: Optimizer) -> str | None:
    """Why the updates of an optimizer cannot be repeated with other numbers alone; None if they can."""
    if not optimizer.repeats:
        return f"{type(optimizer).__name__} does not do the same in each step, as it is set up"
    return foreign(model, optimizer)


def foreign(model: Model, optimizer: Optimizer) -> str | None:
    """What gpucnn does not know of an update; None if it knows all."""
    parts = [part for w in model.trainable_weights for part in (w.regularizer, w.constraint) if part is not None]
    for part in (optimizer, *parts):
        if not is_ours(part):
            return f"{type(part).__name__} is not one of gpucnn's own"
    return None


def plain_settings(things: Iterable[object]) -> list[tuple[str, Any]]:
    """The attributes of layers and the like by which their settings are compared."""
    return [item for thing in things for item in vars(thing).items() if isinstance(item[1], PLAIN)]


def excess(data: Arrays) -> str | None:
    """Why x does not stay on the device as a whole, or None if it does."""
    need, free = data.x.size * _dtype(data).itemsize, choose.current().free_bytes()
    if free is None or need <= free // 2:
        return None
    return f"x needs {readable(need)}, and {readable(free)} is free on {choose.current().name}"


def is_ours(part: object) -> bool:
    """Whether gpucnn defines the class of an object, and so knows that it can be recorded."""
    return type(part).__module__.startswith("gpucnn.")


def _kind(data: Arrays) -> tuple[Any, ...]:
    """What arrays have in common that can take each other's place."""
    kinds = [None if array is None else (array.shape, array.dtype) for array in (data.y, data.weight)]
    return data.batch_size, data.x.shape, _dtype(data), *kinds


def _dtype(data: Arrays) -> np.dtype:
    """What x is on the device."""
    return np.dtype(np.uint8 if data.x.dtype == np.uint8 else np.float32)


class Place:
    """Fixed places on the device that batches overwrite, and what they held after the last ones."""

    def __init__(self, shape: tuple[int, ...], together: int, count: int) -> None:
        self.now, self._kept = storage.zeros((together, *shape)), storage.empty((count, *shape))

    def keep(self, slot: int, count: int) -> None:
        """Copy what the first `count` places hold now."""
        self._kept[slot : slot + count] = self.now[:count]

    def copies(self, slot: int, count: int) -> Any:
        """`count` copies from this one on."""
        return self._kept[slot : slot + count]


class Resident:
    """Base of what is done with each batch of arrays on the device.

    data      the arrays, of which the device gets a copy: of x in parts, in turn, if it is too large
    places    what each batch leaves behind: names and shapes, float32
    together  how many batches are to be replayed as one, if memory allows it
    own       chooses the rows that this process computes; all by default

    A subclass defines `launch` and `collect`.
    """

    def __init__(
        self,
        model: Model,
        data: Arrays,
        places: dict[str, tuple[int, ...]],
        together: int = TOGETHER,
        own: Part = ALL,
    ) -> None:
        self.model, self.data, self.own = model, data, own
        self.steps, self.full = math.ceil(len(data.x) / data.batch_size), len(data.x) // data.batch_size
        """All batches, and those that are full."""
        self.order: Callable[[], np.ndarray | None] = lambda: None
        """The order of the samples; computed when it is first needed, while the device is at work."""
        self.chosen = _IN_ORDER
        self._free = choose.current().free_bytes()
        self.excess, self._kind = excess(data), _kind(data)
        each = 4 * sum(math.prod(shape) for shape in places.values())
        self.slots = max(TOGETHER, min(self.steps, _KEPT_BYTES // max(each, 1)))
        """How many batches leave something before it must be read."""
        self.together = min(max(TOGETHER, together), MOST_TOGETHER, self.slots)
        """The most batches that can be replayed as one."""
        self._feed: Feed | None = None
        self._width = 0
        """How many images of each batch the feed gets."""
        self._filled = -1
        """The first batch of those that the feed got last."""
        self.coming: dict[int, int] = {}
        """How many batches are replayed as one, by the first of them."""
        if self.excess is None:
            self._images = storage.put(np.ascontiguousarray(data.x, _dtype(data)))
        else:
            self._images = self._open_feed().array
        # kernels take rows that start at a multiple of 16 bytes
        numbers = storage.zeros((self.together + 1, 4), np.int64)
        self.counters = [numbers[place, :3] for place in range(self.together + 1)]
        """The number of the batch, of the epoch and of all steps: for each of the batches that are
        replayed as one, and for the one after them."""
        self.places = {name: Place(shape, self.together, self.slots) for name, shape in places.items()}
        self.read = self.done = 0
        """The batches before `done` have been replayed, and those before `read` collected."""
        self.origin = 0
        """The batch whose copies are in the first slot of each place."""
        self._recorded: dict[tuple[int, int], Callable[[], None]] = {}
        self._key: Any = None
        self.say: Callable[[str], None] = _say_nothing
        """Called with a line where something takes long."""
        self._seen = self.now()

    def now(self) -> tuple[Any, ...]:
        """What differs where anything may have changed on which the recorded launches depend."""
        return changes(), choice.decides(), fusion.is_enabled(), branches.is_enabled(), self.chosen

    def rest(self) -> bool:
        """Give up the arrays of the host until `replace`; returns whether the device can spare what it keeps."""
        del self.data
        self.say = _say_nothing
        free = choose.current().free_bytes()
        return self._free is None or free is None or self._free - free <= self._free // _SPARED

    def replace(self, data: Arrays) -> bool:
        """Take these arrays instead of those before, if they are alike and nothing has changed since the last
        launches; returns whether that is so."""
        if self.excess is not None or self._kind != _kind(data) or self._seen != self.now():
            return False
        self.data = data
        storage.write(self._images, data.x)
        return True

    def launch(self, rows: int, place: int) -> None:
        """Launch all that is done with a batch of this many rows, on fixed arrays alone; what it leaves
        behind goes to `places[name].now[place]`."""
        raise NotImplementedError

    def rehearse(self) -> None:
        """Launch once what is done with a batch of each size."""
        for rows in sorted({self.rows_of(0), self.rows_of(self.steps - 1)}):
            self.launch(rows, 0)

    def is_new(self) -> bool:
        """Whether the model has not computed batches of these sizes yet: asked once for each."""
        sizes, known = (self.rows_of(0), self.rows_of(self.steps - 1)), _rehearsed.setdefault(self.model, set())
        key = type(self), sizes, len(self.model.trainable_weights), choice.decides()[1:]
        is_new = key not in known
        known.add(key)
        return is_new

    def record(self, launch: Callable[[], None]) -> Callable[[], None]:
        """Launch, and return what repeats it."""
        return choose.current().record(launch)

    def is_full(self, stop: int) -> bool:
        """Whether what the batches have left must be read before those up to `stop` leave more."""
        return stop - self.origin > self.slots

    def collect(self) -> None:
        """Take in what the batches since the last look have left."""
        raise NotImplementedError

    def start(self, first: int, epoch: int = 0, total: int = 0) -> None:
        """Begin with batch number `first`, when all batches before have been collected."""
        storage.write(self.counters[0], np.array([first, epoch, total], np.int64))
        self.read = self.done = self.origin = first
        self._filled = -1

    def renew(self, things: Iterable[object], *others: object) -> bool:
        """Forget what was recorded with other settings of these layers and the like; returns whether
        there are such."""
        plain = plain_settings(things)
        settings = branches.is_enabled(), tuple(self.chosen.items()), plain, others
        key = choice.decides(), id(self.model.parameters.values), *settings
        changed = key != self._key
        if changed:
            self._key = key
            self._recorded.clear()
        return changed

    def turns(self, first: int, stop: int, together: int) -> list[tuple[int, int]]:
        """(number, count) for runs of batches from `first` to `stop` of one size: `together`, from a
        multiple of it on, or one."""
        self.coming = {}
        while first < stop:
            behind = first + together
            whole = first % together == 0 and behind <= stop
            self.coming[first] = together if whole and self.rows_of(first) == self.rows_of(behind - 1) else 1
            first += self.coming[first]
        return list(self.coming.items())

    def replay(self, number: int, count: int) -> None:
        """Do what is done with `count` batches, of which `number` is the first and the next one."""
        if self.is_full(number + count):
            self.collect()
        if self._feed is not None:
            self._fill(number)
            self._feed.await_rows()
        rows = self.rows_of(number)
        recorded = self._recorded.get((rows, count))
        if recorded is None:
            if self.is_new():
                compile_ahead(self.rehearse, self.say)

            def launch() -> None:
                for place in range(count):
                    self.launch(rows, place)
                self.counters[0][...] = self.counters[count]

            self._recorded[rows, count] = self.record(launch)
            if self._key is not None:  # the first step imports kernel files, which registers their kernels
                self._key = (choice.decides(), *self._key[1:])
            self._seen = self.now()  # layers keep what they compute
        else:
            recorded()
        for kept in self.places.values():
            kept.keep(number - self.origin, count)
        self.done = number + count
        if self._feed is not None:
            self._feed.mark_used()
            self._fill(self.done)

    def left(self) -> dict[str, np.ndarray]:
        """What the batches since the last look have left, by place, on the host: now they are read."""
        first, count = self.read - self.origin, self.done - self.read
        values = {name: storage.get(place.copies(first, count)) for name, place in self.places.items() if count}
        self.read = self.origin = self.done
        return values

    def labels(self, first: int, count: int, measured: bool) -> list[Batch]:
        """Batches with their weights, and their labels if they are `measured`, on the host; x is a stand-in of
        the same length."""
        size = self.data.batch_size
        chosen: Any = slice(size * first, size * (first + count))
        x, y, weight = np.broadcast_to(np.float32(0), (len(self.data.x),))[chosen], None, self.data.weight
        if measured or weight is not None:
            order = self.order()
            rows = chosen if order is None else order[chosen]
            y, weight = chosen_labels(self.data.y, rows), chosen_labels(weight, rows)
        batches = []
        for span in (slice(start, start + size) for start in range(0, len(x), size)):
            batches.append(Batch(x[span], None if y is None else y[span], None if weight is None else weight[span]))
        return batches

    def rows_of(self, number: int) -> int:
        """How many rows batch `number` has: the last one may be shorter."""
        return min(self.data.batch_size, len(self.data.x) - number * self.data.batch_size)

    def _open_feed(self) -> Feed:
        """A ring of twice as many batches as may be replayed as one; of each, the rows of this process."""
        device, dtype = choose.current(), _dtype(self.data)
        parts = [self.own(self.rows_of(number)) for number in (0, self.steps - 1)]
        self._width = max(part.stop - part.start for part in parts)
        batch = self._width * math.prod(self.data.x.shape[1:]) * dtype.itemsize
        most = min(_RING_BYTES, (device.free_bytes() or _RING_BYTES) // 8)
        self.together = max(1, min(self.together, most // (2 * batch)))
        self._feed = device.feed((2 * self.together * self._width, *self.data.x.shape[1:]), dtype)
        return self._feed

    def _fill(self, number: int) -> None:
        """Hand the batches of the turn that begins with `number` to the device, unless it has them."""
        if number == self._filled or number not in self.coming:
            return
        assert self._feed is not None
        order, x, chosen = self.order(), self.data.x, self._in_ring(number, self.coming[number])

        def write(rows: np.ndarray) -> None:
            samples = chosen if order is None else order[chosen]
            if x.dtype == rows.dtype:
                np.take(x, samples, axis=0, out=rows, mode="clip")
            else:
                rows[...] = x[samples]

        self._feed.fill(number * self._width, len(chosen), write)
        self._filled = number

    def _in_ring(self, number: int, count: int) -> np.ndarray:
        """The places in the epoch of the images of `count` batches that go to the ring, where each batch begins
        `_width` images after the one before it."""
        part = self.own(self.rows_of(number))
        rows = np.minimum(part.start + np.arange(self._width), part.stop - 1)  # the last one fills up
        places = (self.data.batch_size * (number + np.arange(count))[:, None] + rows).reshape(-1)
        return places[: (count - 1) * self._width + part.stop - part.start]

    def gather(self, rows: int, place: int, labels: Any = None, weights: Any = None, table: Any = None) -> list[Any]:
        """The images of this process in the batch of so many rows that the counters of this place name,
        float32; the rows that belong to them of labels and weights (samples, …), and of a table with a row
        for each step, or None. The counters of the next place are written."""
        others, own = (labels, weights, table), self.own(rows)
        out = None, self.counters[place + 1], *(None for array in others if array is not None)
        batch = {"rows": own.stop - own.start, "first": own.start, "batch_size": self.data.batch_size}
        params = {**batch, "steps": self.steps, "ring": self._width, **self.chosen}
        x, _, *gathered = gather_batch(self.counters[place], self._images, *others, **params, out=out)
        rest = iter(gathered)
        return [x, *(None if array is None else next(rest) for array in others)]

    def step_of(self, place: int) -> Any:
        """The number of all steps before the one in this place, on the device."""
        return self.counters[place][2:3]
