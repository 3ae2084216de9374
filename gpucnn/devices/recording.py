"""Kernels of the CPU that are recorded once and replayed without Python between them.

A launch from Python checks, allocates and converts, which takes 10 to 20 µs; most kernels of a small
model take less. A recording keeps of each launch the address of its task and the arguments as the
task finds them, and compiled code goes through all of them. Addresses are among them: the arrays stay
where they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numba import types

from . import recorders, team
from .njit import address_of, njit
from .packed_tasks import pointer_to
from .preparation import Preparation
from .team import call_share, share_address

_FUNCTION, _LENGTH, _HEAD = 1, 2, 3
"""A launch begins with the number of its tasks, negative if they are for the calling thread alone, the
address of their function, and how many words of arguments follow."""

_SHARE, _ENTRY = 1, 2
"""A notebook begins with the address of a control array and that of the function that does the tasks;
then comes a launch."""

_WORDS = 1 << 12
"""Room for the arguments of a launch."""


_words_at = pointer_to(types.int64)


@njit(cache=True, nogil=True, no_cpython_wrapper=True)
def _note(notebook, count, function, arguments, words):
    """Do a launch, and note it if there is room."""
    notebook[_ENTRY], notebook[_ENTRY + _FUNCTION], notebook[_ENTRY + _LENGTH] = count, function, words
    if words <= _WORDS:
        source = _words_at(arguments)
        for i in range(words):
            notebook[_ENTRY + _HEAD + i] = source[i]
    call_share(notebook[_SHARE], notebook[0], count, function, arguments, words)


@njit(cache=True, nogil=True)
def _replay(share, control, alone, launches, address, inputs, x):
    """All launches of an array, which begins at this address; each row of `inputs` has the place of a word
    and its distance from the address x."""
    for i in range(inputs.shape[0]):
        launches[inputs[i, 0]] = x + inputs[i, 1]
    place = 0
    while place < launches.shape[0]:
        count, function, words = launches[place], launches[place + _FUNCTION], launches[place + _LENGTH]
        place += _HEAD
        call_share(share, control if count > 0 else alone, abs(count), function, address + 8 * place, words)
        place += words


@cache
def _note_address() -> int:
    return address_of(_note, team.SHARE)


def _one_by_one(words: np.ndarray) -> Iterator[np.ndarray]:
    """The words of each launch."""
    place = 0
    while place < len(words):
        end = place + _HEAD + int(words[place + _LENGTH])
        yield words[place:end]
        place = end


class _Launches:
    """Launches that follow each other: their words, and the address of these."""

    def __init__(self, words: np.ndarray) -> None:
        self.words, self._address = words, words.ctypes.data
        self._together = any(launch[0] > 1 for launch in _one_by_one(words))
        self._inputs = np.empty((0, 2), np.int64)

    def take(self, first: int, stop: int) -> None:
        """Words that are addresses from `first` up to `stop` are from now on as far from the address that a
        call passes.

        A word that happens to lie between these is taken for one: no other number that a kernel gets has
        that size.
        """
        (places,) = np.nonzero((self.words >= first) & (self.words < stop))
        self._inputs = np.stack([places, self.words[places] - first], axis=1)

    def apart(self) -> Iterator[_Launches]:
        """Each launch by itself."""
        places, start = self._inputs[:, 0], 0
        for words in _one_by_one(self.words):
            one, end = _Launches(words), start + len(words)
            one._inputs = self._inputs[(places >= start) & (places < end)] - (start, 0)
            yield one
            start = end

    def __call__(self, x: int) -> None:
        alone = team.NOBODY.address
        helpers = team.call_team().address if self._together else alone  # who has nothing to do may sleep on
        _replay(share_address(), helpers, alone, self.words, self._address, self._inputs, x)


class _Timed:
    """A launch or a call by itself, and how long it takes."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step, self.seconds = step, 0.0

    def __call__(self, x: int) -> None:
        start = time.perf_counter()
        self._step(x)
        self.seconds = time.perf_counter() - start


class _Call:
    """A call of Python."""

    def __init__(self, function: Callable[..., Any], arguments: list[Any]) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self, x: int) -> None:
        self.function(*self.arguments)


class Recording:
    """Launches, and calls of Python, in the order in which they were made.

    owns        whether an array lies in memory that stays as long as the recording; all others are kept
    most_bytes  how much memory what is prepared (`recorders.prepared`) may take
    """

    def __init__(self, owns: Callable[[np.ndarray], bool], most_bytes: float = 0) -> None:
        self._owns = owns
        self._notebook = np.zeros(_ENTRY + _HEAD + _WORDS, np.int64)
        self._steps: list[Any] = []
        self._preparing: list[Any] = []
        self._noting = self._steps
        self._met: list[np.ndarray] = []
        self._preparation = Preparation(most_bytes, owns, self._may_compute)
        self._comparing: Recording | None = None
        self._kept: dict[int, np.ndarray] = {}
        self._inputs: list[tuple[list[Any], int, tuple[int, ...]]] = []

    def launch(self, launching: Any, control: int, count: int, arguments: tuple[Any, ...], together: bool) -> None:
        """Launch a kernel and note it."""
        notebook = self._notebook
        notebook[0], notebook[_SHARE] = control, share_address()
        launching(_note_address(), notebook.ctypes.data, count, *arguments)
        length = int(notebook[_ENTRY + _LENGTH])
        assert length <= _WORDS, f"{length} words of arguments, and a notebook has room for {_WORDS}"
        entry = notebook[_ENTRY : _ENTRY + _HEAD + length].copy()
        entry[0] = count if together else -count
        self._noting.append(entry)
        self._meet(arguments)
        self.keep(arguments)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Call a function and note the call."""
        with recorders.noted_by(None):
            function(*arguments)
        self.note_call(function, list(arguments))

    def note_call(self, function: Callable[..., Any], arguments: list[Any]) -> None:
        """Note a call that has been made."""
        self._noting.append(_Call(function, arguments))
        self._meet([*arguments, getattr(function, "__self__", None)])

    @contextmanager
    def prepare(self, result: np.ndarray, sources: tuple[np.ndarray | None, ...]) -> Iterator[np.ndarray]:
        """Note apart what the body of the with statement launches, unless it is to be repeated each time."""
        array = None if self._noting is self._preparing else self._preparation.admit(result, sources)
        if array is None:
            yield result
            return
        self._noting = self._preparing
        try:
            yield array
        finally:
            self._noting = self._steps

    def _meet(self, arguments: Sequence[Any]) -> None:
        """Remember which arrays of others each repetition passes on, since it may write into them."""
        if self._noting is self._steps:
            self._met += [array for array in _arrays(arguments) if not self._owns(array)]

    def _may_compute(self, array: np.ndarray) -> bool:
        return self._owns(array) or any(np.may_share_memory(array, one) for one in self._met)

    def keep(self, arguments: Sequence[Any]) -> None:
        """Keep the memory of arrays."""
        for array in _arrays(arguments):
            if not self._owns(array):
                self._kept.setdefault(id(array), array)

    def end(self, x: np.ndarray | None = None) -> bool:
        """Join launches that follow each other. Arrays that lie in `x` become those of the argument of
        `replay`; returns whether that is possible."""
        self._steps, self._preparing = _joined(self._steps), _joined(self._preparing)
        self._met.clear()
        if self._preparation:
            self._comparing = Recording(self._owns)
            with recorders.noted_by(self._comparing):
                self._preparation.compare()
            self._comparing.end()
        return x is None or all([self._takes(step, x) for step in self._steps])

    @property
    def length(self) -> int:
        """How many launches and calls a repetition has so far; not to be asked after the end."""
        return len(self._steps)

    def times(self, x: np.ndarray | None = None) -> list[float]:
        """Repeat all of it, and return the seconds of each launch and of each call."""
        together = self._steps
        apart = [_Timed(one) for step in together for one in (step.apart() if isinstance(step, _Launches) else (step,))]
        self._steps = apart
        try:
            self.replay(x)
        finally:
            self._steps = together
        return [one.seconds for one in apart]

    @property
    def calls_python(self) -> bool:
        """Whether anything else than launches is repeated."""
        return any(isinstance(step, _Call) for step in self._steps)

    def replay(self, x: np.ndarray | None = None, unchanged: bool = False) -> None:
        """Repeat all of it; with `unchanged`, without a look whether a weight has changed since the last time."""
        address = 0 if x is None else x.ctypes.data
        for arguments, i, shape in self._inputs:
            assert x is not None
            arguments[i] = x.reshape(shape)
        if self._comparing is not None and not unchanged:
            self._prepare_again(self._comparing)
        for step in self._steps:
            step(address)
        for arguments, i, _ in self._inputs:
            arguments[i] = None

    def _prepare_again(self, comparing: Recording) -> None:
        """Repeat what follows from the weights if any has changed. An interruption leaves that to the next
        repetition."""
        comparing.replay()
        if self._preparation.changed:
            for step in self._preparing:
                step(0)
            self._preparation.done()

    def _takes(self, step: Any, x: np.ndarray) -> bool:
        """Find what a step reads of `x`: among its words, or among the arguments of a call."""
        first, stop = x.ctypes.data, x.ctypes.data + x.nbytes
        if isinstance(step, _Launches):
            step.take(first, stop)
            self._kept = {key: array for key, array in self._kept.items() if not first <= array.ctypes.data < stop}
            return True
        for i, array in enumerate(step.arguments):
            if isinstance(array, np.ndarray) and first <= array.ctypes.data < stop:
                if array.nbytes != x.nbytes or not array.flags.c_contiguous:
                    return False
                self._inputs.append((step.arguments, i, array.shape))
                step.arguments[i] = None
        return True


def _joined(steps: list[Any]) -> list[Any]:
    """The steps, with launches that follow each other as one."""
    groups: list[Any] = []
    for step in steps:
        if groups and isinstance(step, np.ndarray) and isinstance(groups[-1], list):
            groups[-1].append(step)
        else:
            groups.append([step] if isinstance(step, np.ndarray) else step)
    return [_Launches(np.concatenate(group)) if isinstance(group, list) else group for group in groups]


def _arrays(arguments: Sequence[Any]) -> Iterator[np.ndarray]:
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            yield argument
        elif isinstance(argument, tuple):
            yield from _arrays(argument)
