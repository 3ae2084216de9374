"""How gradients change weights: Keras' optimizers on the flat arrays of `Parameters`.

`ops/update.py` defines what is computed; this file, when and with which numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, NoReturn, TypedDict

import numpy as np

from .. import constraints, regularizers
from ..arguments import Bounds, Count, Fraction, NotNegative, Positive, check, wrong
from ..config import Configurable
from ..devices import choose, storage
from ..devices.cpu import CPU
from ..devices.recorders import again
from ..errors import ArgumentError, ShapeError
from ..layers.layer import Weight
from ..layers.parameters import Parameters, Segment
from ..ops import update
from .schedules import LearningRateSchedule

Slots = dict[str, np.ndarray]

_LARGEST_SQUARED = math.sqrt(float(np.finfo(np.float32).max))
"""A larger number has no square in float32."""


class Tail(TypedDict, total=False):
    """The arguments that all optimizers share; `Optimizer` explains them."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    gradient_accumulation_steps: int | None
    name: str | None


class Optimizer(Configurable):
    """Base of all optimizers.

    learning_rate       a number, a `LearningRateSchedule` or a function without arguments.
    weight_decay        before each update, every weight loses this part of itself times the
                        learning rate.
    clipnorm            the largest norm of one weight array's gradient; or
    clipvalue           the largest absolute value of a gradient's element; or
    global_clipnorm     the largest norm of all gradients together.
    use_ema             keep a moving average of the weights, with `ema_momentum`. It replaces the
                        weights at the end of training and, if set, every `ema_overwrite_frequency`
                        updates. It is taken after the constraints, so that it meets them as well;
                        Keras takes it before.
    gradient_accumulation_steps
                        update once in so many batches, with the mean of their gradients.

    A subclass defines `change`, and `initial_slots` and `numbers` where the defaults do not fit.

    Weights, gradients and slots are arrays on the device in use and change through ops alone;
    counters, and the numbers that go into an update, are computed on the host. `state` and `slots`
    exchange arrays on the host.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: NotNegative | None = None,
        clipnorm: Positive | None = None,
        clipvalue: Positive | None = None,
        global_clipnorm: Positive | None = None,
        use_ema: bool = False,
        ema_momentum: Fraction = 0.99,
        ema_overwrite_frequency: Count | None = None,
        gradient_accumulation_steps: Annotated[int, Bounds(2, 2**31 - 1)] | None = None,
        name: str | None = None,
    ) -> None:
        owner = type(self).__name__
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        limits = {argument: limit for argument, limit in clips.items() if limit is not None}
        if len(limits) > 1:
            raise ArgumentError(f"{owner}: give only one of {' and '.join(f'{k}={v}' for k, v in limits.items())}")
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum, self.ema_overwrite_frequency = use_ema, ema_momentum, ema_overwrite_frequency
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.name = name or owner.lower()
        self.built = False
        self._schedule: Callable[..., Any] | None = None
        self._counters: Slots = {"batches": np.zeros(1, np.int64)}
        self._slots: Slots = {}
        self._weights: list[Weight] = []
        self._undecayed: list[Weight] = []
        self._undecayed_names: re.Pattern[str] | None = None
        self.learning_rate = learning_rate

    squares: ClassVar[bool] = False
    """Whether `change` squares the gradients."""

    # -- what each optimizer defines -----------------------------------------------------------------------------------

    def initial_slots(self) -> dict[str, float]:
        """The arrays that the optimizer keeps for the weights: names and initial values."""
        return {}

    def numbers(self, learning_rate: float, t: int) -> tuple[float, ...]:
        """The values of `row[RATE:]` at update t = 1, 2, …, in float64. Called once per update."""
        return (learning_rate,)

    def change(self, values: np.ndarray, gradients: np.ndarray, row: np.ndarray, **slots: np.ndarray) -> None:
        """Update flat values and slots in place.

        All arrays are (n,) except the row, which `ops/update.py` explains. They are on the device
        in use: NumPy's on the CPU, CuPy's on a GPU. Ops work on every device.
        """
        raise NotImplementedError(f"{type(self).__name__} must define change(values, gradients, row, **slots)")

    # -- training ------------------------------------------------------------------------------------------------------

    def build(self, parameters: Parameters) -> None:
        """Make the slots for these parameters, once, and bring them to the device in use.

        Raises if the optimizer already belongs to another model.
        """
        weights = [segment.weight for segment in parameters.segments]
        if self.built:
            if list(map(id, weights)) == list(map(id, self._weights)):
                for name, slot in self._slots.items():
                    self._slots[name] = storage.own(slot)
                return
            owner = type(self).__name__
            raise ArgumentError(f"this {owner} already trains another model: make a new {owner} for each model")
        self._weights = weights
        self._slots = {}
        for name, value in self.initial_slots().items():
            slot = self._slots[name] = _zeros_like(parameters.values)
            for segment in parameters.segments:
                slot[segment.span] = value
        if self.use_ema:
            self._slots["average"] = _zeros_like(parameters.values)
            self._slots["average"][...] = parameters.values
        if self.gradient_accumulation_steps:
            self._slots["total"] = _zeros_like(parameters.values)
        self._restart()
        self.built = True

    def apply(self, parameters: Parameters) -> None:
        """Take in the gradients of one batch.

        In this order: regularise, accumulate, clip, decay, change, constrain, average.
        Weights, slots and counters change in place; so do the gradients, which the next backward
        pass overwrites. Frozen layers stay as they are.
        """
        complete = self._completes_update()
        self.change_weights(parameters, storage.put(self.next_row(complete).astype(parameters.values.dtype)), complete)
        every = self.ema_overwrite_frequency
        if every and (int(self.iterations[0]) + 1) % every == 0:
            self.finalize(parameters)
        self.batches[0] += 1

    def next_row(self, complete: bool = True) -> np.ndarray:
        """The row of numbers for the next batch, as `ops/update.py` explains it, in float64; its
        first three alone if the batch does not complete an update."""
        t = int(self.iterations[0]) + 1
        return np.array(self._row(self.learning_rate, t) if complete else (0.0, *self._averaging(t)))

    def next_rows(self, count: int) -> tuple[list[float], list[tuple[float, ...]], list[dict[str, Any]]]:
        """For each of the next batches, where all do the same: its learning rate, its row, and the counters
        that it changes. They themselves stay as they are."""
        first, moving = int(self.batches[0]), self._counters.keys() - {"batches", "learning_rate"}
        before = {name: self._counters[name].copy() for name in moving}
        rates = [self._rate_of(batch) for batch in range(first, first + count)]
        rows, after = [], []
        for t, rate in enumerate(rates, first + 1):
            rows.append(self._row(rate, t))
            after.append({"batches": t, **{name: self._counters[name].copy() for name in moving}})
        self.set_counters(before)
        return rates, rows, after

    def set_counters(self, values: dict[str, Any]) -> None:
        """Set these of the counters."""
        for name, value in values.items():
            self._counters[name][...] = value

    def _row(self, rate: float, t: int) -> tuple[float, ...]:
        return (rate * (self.weight_decay or 0.0), *self._averaging(t), *self.numbers(rate, t))

    def _averaging(self, t: int) -> tuple[float, float]:
        """How much of the moving average an update keeps, and how much of the weights goes into it."""
        momentum = 0.0 if t == 1 else self.ema_momentum
        return momentum, 1.0 - momentum

    @property
    def repeats(self) -> bool:
        """Whether every batch launches the same kernels, with only the row changed."""
        steady = not self.gradient_accumulation_steps and not (self.use_ema and self.ema_overwrite_frequency)
        return steady and (self._schedule is None or isinstance(self._schedule, LearningRateSchedule))

    def change_weights(self, parameters: Parameters, row: Any, complete: bool = True) -> None:
        """What `apply` does on the device, with its numbers in `row` there."""
        segments = [segment for segment in parameters.segments if segment.trainable]
        spans = parameters.trainable_spans()
        for segment in segments:
            weight = segment.weight
            if weight.regularizer is not None:
                regularizers.add_gradient(weight.regularizer, weight.gradient, weight.value)
        if self.gradient_accumulation_steps:
            self._accumulate(parameters.gradients, spans, complete)
        if complete:
            self._update(parameters, segments, spans, row)
        for segment in segments:
            weight = segment.weight
            if weight.constraint is not None:
                constraints.apply(weight.constraint, weight.value)
        if self.use_ema:
            for span in spans:
                update.average(self._slots["average"][span], parameters.values[span], row)

    def can_take(self, norm: float) -> bool:
        """Whether gradients of this norm leave weights and slots finite."""
        clips = (self.clipnorm, self.clipvalue, self.global_clipnorm) != (None, None, None)
        return norm <= (_LARGEST_SQUARED if self.squares and not clips else math.inf) and math.isfinite(norm)

    def finalize(self, parameters: Parameters) -> None:
        """With `use_ema`, replace the weights by their moving averages: the end of training."""
        if self.use_ema:
            for span in parameters.trainable_spans():
                parameters.values[span] = self._slots["average"][span]

    def penalty(self, parameters: Parameters) -> float:
        """The sum of the regularizers' penalties on the weights, without frozen ones as in Keras.

        On a GPU this waits for all earlier work; `penalty_on_device` does not.
        """
        if choose.current() is CPU:
            return sum(float(w.regularizer(w.value)) for w in self._regularized(parameters))
        total = self.penalty_on_device(parameters)
        return 0.0 if total is None else float(storage.get(total)[0])

    def penalty_on_device(self, parameters: Parameters) -> Any:
        """The penalty as an array (1,) on the device in use; None without regularizers."""
        total = None
        for weight in self._regularized(parameters):
            one = regularizers.penalty(weight.regularizer, weight.value)
            total = one if total is None else update.accumulate(total, one)
        return total

    def exclude_from_weight_decay(
        self, var_list: Iterable[Weight] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Exclude weights, or those with a pattern ("bias") in their names, from `weight_decay`."""
        if self.built:
            raise ArgumentError("exclude_from_weight_decay() after training began: call it before fit")
        self._undecayed = list(var_list or ())
        self._undecayed_names = re.compile("|".join(var_names)) if var_names else None

    # -- the learning rate ---------------------------------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next batch. It can be set, unless a schedule decides on it."""
        return self._rate_of(int(self.batches[0]))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        owner = type(self).__name__
        if callable(value):
            if isinstance(value, type):
                raise wrong(owner, "learning_rate", value, "a number, or an object of the schedule")
            self._schedule = value
            self._counters.pop("learning_rate", None)
            return
        check(owner, "learning_rate", value, NotNegative | LearningRateSchedule | Callable[[], float])
        if self._schedule is not None:
            raise ArgumentError(
                f"{owner}: learning_rate={value} cannot be set while {type(self._schedule).__name__} decides on it: "
                "make the optimizer with a number instead"
            )
        self._counters["learning_rate"] = np.array([value], np.float64)

    def _rate_of(self, batch: int) -> float:
        if isinstance(self._schedule, LearningRateSchedule):
            return float(self._schedule(batch))
        return float(self._schedule() if self._schedule else self._counters["learning_rate"][0])

    def _old_name(self, *value: Any) -> NoReturn:
        raise AttributeError("an optimizer's lr is now called learning_rate")

    lr = property(_old_name, _old_name)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values, with the current learning rate."""
        arguments = super().get_config()
        if self._schedule is None:
            arguments["learning_rate"] = self.learning_rate
        return arguments

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def batches(self) -> np.ndarray:
        """Number of batches, (1,) int64: the step that a schedule receives. Changes in place."""
        return self._counters["batches"]

    @property
    def iterations(self) -> np.ndarray:
        """Number of updates, (1,) int64; fewer than `batches` where gradients accumulate."""
        return self.batches // (self.gradient_accumulation_steps or 1)

    @property
    def counters(self) -> Slots:
        """What is counted on the host, by name; the arrays change in place."""
        return self._counters

    @property
    def flat_slots(self) -> Slots:
        """The slots by name, flat arrays on the device that change in place."""
        return self._slots

    def state(self) -> Slots:
        """Copies of counters and flat slots: with the weights, all that the next step needs."""
        return {name: storage.get(array).copy() for name, array in (self._counters | self._slots).items()}

    def set_state(self, state: Slots) -> None:
        """Restore what `state` returned, bit for bit. A wrong name or shape changes nothing."""
        _copy_into(self._counters | self._slots, state)

    def slots(self, parameters: Parameters) -> Slots:
        """The state for files: counters, and slots by weight (`m/dense/kernel`); views on the CPU."""
        return {name: storage.get(array) for name, array in self._by_weight(parameters).items()}

    def set_slots(self, parameters: Parameters, slots: Slots) -> None:
        """Restore what `slots` returned, bit for bit. A wrong name or shape changes nothing."""
        _copy_into(self._by_weight(parameters), slots)

    def __getstate__(self) -> dict[str, Any]:
        """A copy keeps the arguments and the learning rate, and may train another model."""
        counters = {name: counter.copy() for name, counter in self._counters.items()}
        return {**vars(self), "built": False, "_counters": counters, "_slots": {}, "_weights": []}

    # -- inside --------------------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Set the counters to their start."""
        self.batches[0] = 0

    def _by_weight(self, parameters: Parameters) -> dict[str, Any]:
        """Counters, and views of the slots, each on its device."""
        return self._counters | {
            f"{name}/{segment.weight.path}": slot[segment.span].reshape(segment.weight.shape)
            for name, slot in self._slots.items()
            for segment in parameters.segments
        }

    @staticmethod
    def _regularized(parameters: Parameters) -> list[Weight]:
        """The trainable weights that have a regularizer."""
        trained = [segment.weight for segment in parameters.segments if segment.trainable]
        return [weight for weight in trained if weight.regularizer is not None]

    def _completes_update(self) -> bool:
        """Whether the next batch is the last of those whose gradients accumulate."""
        return (int(self.batches[0]) + 1) % (self.gradient_accumulation_steps or 1) == 0

    def _accumulate(self, gradients: np.ndarray, spans: list[slice], complete: bool) -> None:
        """Add the gradients to the total; at the last batch they become the mean of all batches."""
        for span in spans:
            if complete:
                update.take_mean(gradients[span], self._slots["total"][span], count=self.gradient_accumulation_steps)
            else:
                update.accumulate(self._slots["total"][span], gradients[span])

    def _update(self, parameters: Parameters, segments: list[Segment], spans: list[slice], row: Any) -> None:
        """Clip the gradients, decay the weights and change them."""
        values, gradients = parameters.values, parameters.gradients
        self._clip(parameters, spans)
        if self.weight_decay:
            for segment in segments:
                if self._decays(segment.weight):
                    update.decay(values[segment.span], row)
        for span in spans:
            slots = {name: self._slots[name][span] for name in self.initial_slots()}
            self.change(values[span], gradients[span], row, **slots)

    def _clip(self, parameters: Parameters, spans: list[slice]) -> None:
        """Bound the gradients in place, by whichever of the three limits is set."""
        gradients = parameters.gradients
        if self.clipvalue is not None:
            for span in spans:
                update.clip_by_value(gradients[span], limit=self.clipvalue)
        elif self.clipnorm is not None:
            for segment in parameters.segments:
                if segment.trainable:
                    gradient = gradients[segment.span]
                    update.clip_by_norm(gradient, update.norm_parts(gradient), limit=self.clipnorm)
        elif self.global_clipnorm is not None and spans:
            whole = slice(spans[0].start, spans[-1].stop)
            for segment in parameters.segments:
                if not segment.trainable and whole.start <= segment.offset < whole.stop:
                    again(gradients.__setitem__, segment.span, 0)  # so that one norm can be taken over all spans
            parts = update.norm_parts(gradients[whole])
            for span in spans:
                update.clip_by_norm(gradients[span], parts, limit=self.global_clipnorm)

    def _decays(self, weight: Weight) -> bool:
        """Whether `weight_decay` applies to this weight."""
        named = self._undecayed_names is not None and self._undecayed_names.search(weight.name)
        return not named and not any(weight is other for other in self._undecayed)


def _zeros_like(values: np.ndarray) -> np.ndarray:
    return storage.zeros(values.shape, values.dtype)


def _copy_into(arrays: Slots, state: Slots) -> None:
    """Copy a state into these arrays, once all names and shapes are checked."""
    for name in sorted(arrays.keys() ^ state.keys()):
        lacking = "the optimizer" if name in state else "the given state"
        raise ArgumentError(f"{lacking} has no {name!r}: the state belongs to an optimizer made with other arguments")
    for name, array in arrays.items():
        if np.shape(state[name]) != array.shape:
            raise ShapeError(f"{name!r} has shape {array.shape}; the given array has shape {np.shape(state[name])}")
    for name, array in arrays.items():
        storage.write(array, state[name])
