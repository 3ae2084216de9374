"""Which batches are replayed on the device, how many at a time, and what is said where they are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, cast
from weakref import ReferenceType, WeakKeyDictionary, ref

from .. import distributed, progress
from ..callbacks import CallbackList
from . import parts, resident
from .batches import Arrays, Batch, Batches
from .model import Model
from .node import Node
from .resident import Resident
from .resident_inference import ResidentOutputs, ResidentTest
from .resident_parts import ResidentParts
from .resident_steps import ResidentSteps, obstacle
from .training_step import TrainingStep

R = TypeVar("R", bound=Resident)

_last: ReferenceType[Replaying] | None = None
"""What has replayed last: no other keeps anything."""


class Replaying:
    """What one model replays.

    steps, test  the training and the evaluation in progress; None where nothing is replayed
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.steps: ResidentSteps | None = None
        self.test: ResidentTest | None = None
        self.held_out: Batches | None = None
        """The validation data of the training in progress."""
        self._resting: dict[type[Resident], tuple[object, Resident]] = {}
        """What the last calls have left, each with the step or the nodes that it repeats."""
        self._said: WeakKeyDictionary[CallbackList, set[str]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle of the model replays nothing."""
        return {"model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def forget(self) -> None:
        """Give up the arrays on the device."""
        self.steps = self.test = self.held_out = None

    def end_training(self) -> None:
        """Keep what was recorded for the next call, and give up the rest."""
        if self.steps is not None:
            self._rest(self.steps, self.steps.step)
        self.steps = self.held_out = None
        self.end_test()

    def end_test(self) -> None:
        """The same for an evaluation."""
        if self.test is not None:
            self._rest(self.test, self.test.step)
        self.test = None

    def end_prediction(self, outputs: ResidentOutputs) -> None:
        """The same for a prediction."""
        self._rest(outputs, outputs.nodes)

    def _rest(self, replayed: Resident, of: object) -> None:
        if distributed.group() is None and replayed.rest():
            self._resting[type(replayed)] = of, replayed

    def _rested(self, kind: type[R], of: object, data: Arrays) -> R | None:
        """What the last call has left, with these arrays in place of its own; None if it did something else, or
        for another model, whose arrays are given up."""
        global _last
        before = None if _last is None else _last()
        _last = ref(self)
        if before is not None and before is not self:
            before._resting.clear()
        of_last, rested = self._resting.pop(kind, (None, None))
        return cast("R", rested) if rested is not None and of_last is of and rested.replace(data) else None

    def training(
        self,
        step: TrainingStep,
        data: Batches,
        hooks: CallbackList,
        tolerant: bool,
        count: Callable[[Batch, float], None],
    ) -> ResidentSteps | None:
        """What replays the steps of training; says once why there is none."""
        if not resident.is_used():
            return None
        reason = parts.agreed(obstacle(self.model, step.settings, data, tolerant))
        if reason is not None:
            self._say(hooks, f"each step is launched from Python, which is slower on a GPU: {reason}")
            return None
        assert isinstance(data, Arrays)
        if self.steps is None:
            group = distributed.group()
            if group is not None:
                self.steps = ResidentParts(self.model, step, data, count, group)
            else:
                rested = self._rested(ResidentSteps, step, data)
                self.steps = rested or ResidentSteps(self.model, step, data, count)
            self.model.training_state.collect = self.steps.collect
            self.steps.say = partial(self._say, hooks)
            self.steps.rehearse_test = partial(self._rehearse_test, step)
        self._say_excess(hooks, self.steps)
        following = _following_each(hooks, "train")
        if following and step.settings.steps_per_execution == 1 and self.steps.steps > 1:
            self._say(
                hooks,
                f"each step is a launch of its own, which is slower on a GPU: {', '.join(following)} follows each "
                "batch; compile(steps_per_execution='auto') launches several at once",
            )
        return self.steps

    def testing(self, step: TrainingStep, data: Batches, hooks: CallbackList) -> ResidentTest | None:
        """What replays an evaluation."""
        if not resident.is_used() or resident.obstacle(self.model, data, step.settings.loss) is not None:
            return None
        assert isinstance(data, Arrays)
        if self.test is None or self.test.data is not data or self.test.step is not step:
            self.test = self._rested(ResidentTest, step, data) or ResidentTest(self.model, step, data)
            self.test.say = partial(self._say, hooks)
        self._say_excess(hooks, self.test, "validation " if self.steps is not None else "")
        return self.test

    def _rehearse_test(self, step: TrainingStep) -> None:
        data = self.held_out
        if isinstance(data, Arrays) and resident.obstacle(self.model, data, step.settings.loss) is None:
            test = ResidentTest(self.model, step, data.of_each_size())
            if test.is_new():
                test.rehearse()

    def predicting(self, nodes: list[Node], data: Batches, hooks: CallbackList) -> ResidentOutputs | None:
        """What replays a prediction."""
        if not resident.is_used() or resident.obstacle(self.model, data) is not None:
            return None
        assert isinstance(data, Arrays)
        outputs = self._rested(ResidentOutputs, nodes, data) or ResidentOutputs(self.model, nodes, data)
        outputs.say = partial(self._say, hooks)
        self._say_excess(hooks, outputs)
        return outputs

    def _say_excess(self, hooks: CallbackList, replayed: Resident, kind: str = "") -> None:
        if replayed.excess is not None:
            self._say(hooks, f"the {kind}images stream from the host while the device computes: {replayed.excess}")

    def _say(self, hooks: CallbackList, line: str) -> None:
        said = self._said.setdefault(hooks, set())
        if hooks.params.get("verbose") and line not in said:
            said.add(line)
            progress.say(line)


def together(
    hooks: CallbackList, what: str, chosen: int | Literal["auto"], replayed: Resident, stop: int | None
) -> int:
    """How many of the batches up to `stop`, or of all, are replayed as one.

    chosen  what `compile` said: with a number, so many or a divisor of it, and all full batches if it is
            larger than their number; 1 is as many as possible unless a callback follows each batch;
            "auto" is as many as possible
    """
    most = replayed.together
    if chosen != "auto":
        chosen = min(chosen, max(1, replayed.full), stop or chosen)
    batches = most if chosen == "auto" or (chosen == 1 and not _following_each(hooks, what)) else chosen
    return max(count for count in range(1, most + 1) if batches % count == 0)


def _following_each(hooks: CallbackList, what: str) -> list[str]:
    return hooks.following_each(f"on_{what}_batch_begin", f"on_{what}_batch_end")
