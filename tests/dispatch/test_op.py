"""A call of an op: what it checks, chooses, allocates and guarantees to a kernel."""

import importlib
import pkgutil
import sys

import needs
import numpy as np
import pytest
from refusals import refuses

from gpucnn import ops, places
from gpucnn.devices import storage
from gpucnn.dispatch import choice
from gpucnn.dispatch import op as op_module
from gpucnn.dispatch.case import Case, Spec, real
from gpucnn.dispatch.op import declared, kernel, op
from gpucnn.dispatch.op import load as load_kernels
from gpucnn.errors import ArgumentError, FileError, KernelError, ShapeError
from gpucnn.ops.bias import bias_grad


@pytest.fixture
def _forgotten_afterwards(monkeypatch):
    """Ops and kernels that a test declares are forgotten after it."""
    monkeypatch.setattr(choice, "_op_names", dict(choice._op_names))
    monkeypatch.setattr(op_module, "_ops", dict(op_module._ops))
    monkeypatch.setattr(op_module, "_kernels", dict(op_module._kernels))


@pytest.fixture
def twice(_forgotten_afterwards):
    """An op for one test: x times a number."""

    @op(outputs=lambda x, *, times: x, cases=[Case("some", (real(3),), {"times": 2})], prefer=("good", "spare"))
    def twice(x, *, times):
        return x * times

    return twice


def register(op, algorithm, mark, **options):
    @kernel(op, algorithm, "numpy", **options)
    def launch(y, x, *scratch, times):
        launch.seen = x, scratch
        y[...] = mark

    return launch


def test_without_a_kernel_the_body_computes(twice):
    np.testing.assert_array_equal(twice(np.arange(3.0), times=2), [0, 2, 4])
    assert twice(np.float32([1]), times=2).dtype == np.float32
    assert repr(twice) == "<op twice>"
    assert twice.specs(np.zeros((2, 3)), times=1) == (Spec((2, 3), np.dtype("float64")),)


def test_the_first_preferred_kernel_that_supports_the_call_serves_it(twice):
    x = np.zeros(3, np.float32)
    register(twice, "spare", 7)
    assert twice(x, times=1)[0] == 7
    register(twice, "good", 5, supports=lambda x, *, times: times < 10)
    assert twice(x, times=1)[0] == 5
    assert twice(x, times=10)[0] == 7


def test_the_calls_own_choice_is_the_strongest_then_that_of_use(twice):
    x = np.ones(3, np.float32)
    register(twice, "good", 5)
    register(twice, "mine", 9)
    with choice.using(twice="mine"):
        assert choice.algorithms() == {"twice": "mine"}
        assert twice(x, times=2)[0] == 9
        assert twice(x, times=2, algorithm="good")[0] == 5
        assert twice(x, times=2, algorithm="reference")[0] == 2
    assert twice(x, times=2)[0] == 5
    assert choice.algorithms() == {}


def test_every_gradient_declares_its_op():
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    gradients = {name: op for name, op in declared().items() if "_grad" in name}
    assert len(gradients) >= 18
    for name, gradient in gradients.items():
        assert gradient.gradient_of in declared().values(), name
        assert gradient.gradient_of.gradient_of is None, name


def test_an_algorithm_chosen_for_an_op_holds_for_its_gradients(twice):
    @op(outputs=lambda dy, *, times: dy, gradient_of=twice, prefer=("good",))
    def slope(dy, *, times):
        return dy * times

    register(twice, "mine", 9)
    register(twice, "forward_alone", 8)
    register(slope, "mine", 3)
    register(slope, "good", 5)
    dy = np.ones(3, np.float32)
    assert slope(dy, times=1)[0] == 5
    with choice.using(twice="mine"):
        assert slope(dy, times=1)[0] == 3
    with choice.using(twice="mine", slope="good"):
        assert slope(dy, times=1)[0] == 5
    with choice.using(twice="forward_alone"):
        assert slope(dy, times=1)[0] == 5, "a kernel of the forward pass alone keeps the model from training"
    with choice.using(twice="reference"):
        assert slope(dy, times=7)[0] == 7


def test_an_algorithm_that_is_not_there_is_an_error_and_never_a_fallback(twice):
    register(twice, "good", 5)
    with pytest.raises(
        KernelError, match=r"twice: no njit/numpy kernel.*Requested: winograd; registered: good, reference"
    ):
        twice(np.ones(3), times=1, algorithm="winograd")
    with pytest.raises(KernelError, match=r"Requested: goood \(did you mean 'good'\?\); registered: good"):
        twice(np.ones(3), times=1, algorithm="goood")
    with choice.using("numpy"), pytest.raises(KernelError, match="no numpy kernel"):
        twice(np.ones(3), times=1, algorithm="winograd")


def test_a_backend_serves_only_its_own_kernels(twice):
    register(twice, "good", 5)
    with choice.using("njit"):
        assert choice.backend() == "njit"
        assert twice(np.ones(3), times=3)[0] == 3, "a numpy kernel served the backend njit"


test_unknown_names_are_refused = refuses(
    ArgumentError,
    [
        (lambda: choice.use("fortran"), "backend='fortran' is unknown: use one of auto"),
        (lambda: choice.use(conv9d="direct"), "'conv9d' is not an op: did you mean 'conv2d' or 'conv3d'"),
        (lambda: choice.use(frobnicate="direct"), "'frobnicate' is not an op: algorithms can be chosen for"),
        (lambda: choice.use("cdua"), "backend='cdua' is unknown: did you mean 'cuda'"),
        (lambda: choice.use(device="emulater"), "device='emulater' is unknown: did you mean 'emulator'"),
        (lambda: kernel(bias_grad, "x", "cobol"), r"@kernel\(bias_grad, 'x', 'cobol'\): backend must be one of"),
    ],
)


@pytest.mark.parametrize("backend", ["numba", "cuda"])
def test_a_backend_of_the_gpu_says_what_is_missing(backend):
    with pytest.raises(KernelError, match="device='gpu' needs an NVIDIA GPU"):
        choice.use(backend)


def test_operands_come_contiguous_and_outputs_aligned(twice):
    launch = register(twice, "good", 5, workspace=lambda x, *, times: Spec((4,), np.dtype("float32")))
    y = twice(np.zeros((4, 6), np.float32)[:, ::2], times=1)
    x, scratch = launch.seen
    assert x.flags.c_contiguous
    assert x.shape == (4, 3)
    assert scratch[0].shape == (4,)
    assert y.ctypes.data % 256 == 0


def test_a_kernel_writes_straight_into_out(twice):
    @kernel(twice, "good", "numpy")
    def launch(y, x, *, times):
        launch.y = y
        y[...] = x * times

    flat = np.full(64 + 6, np.nan, np.float32)
    out = flat[64:].reshape(2, 3)
    y = twice(np.ones((2, 3), np.float32), times=4, out=out)
    assert y is launch.y is out
    assert flat[64:].tolist() == [4] * 6
    assert np.isnan(flat[:64]).all()
    assert twice(np.ones((2, 3), np.float32), times=4) is not out, "out= is forgotten after the call"


@pytest.mark.parametrize("size", [3, 0])
def test_the_result_of_the_body_is_copied_into_out(size, twice):
    out = np.full(size, np.nan)
    assert twice(np.arange(float(size)), times=2, out=out) is out
    assert out.tolist() == [0.0, 2.0, 4.0][:size]


@pytest.mark.usefixtures("_forgotten_afterwards")
@pytest.mark.parametrize("with_kernel", [True, False])
def test_of_several_results_some_are_written_into_out(with_kernel):
    @op(outputs=lambda x: (x, x.like(1)), prefer=("good",))
    def halves_and_sum(x):
        return x / 2, x.sum(keepdims=True)

    if with_kernel:

        @kernel(halves_and_sum, "good", "numpy")
        def launch(half, total, x):
            half[...], total[...] = x / 2, x.sum()

    total = np.zeros(1, np.float32)
    half, same = halves_and_sum(np.float32([2, 4]), out=(None, total))
    assert same is total
    assert (half.tolist(), total.tolist()) == ([1, 2], [6])
    with pytest.raises(ArgumentError, match="halves_and_sum returns 2 arrays but out= has 1"):
        halves_and_sum(np.float32([2, 4]), out=total)


@pytest.mark.parametrize("with_kernel", [True, False])
@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.zeros((3, 2), np.float32), r"twice: out is \(3, 2\) float32 but the result is \(2, 3\) float32"),
        (np.zeros((2, 3)), r"twice: out is \(2, 3\) float64 but the result is \(2, 3\) float32"),
        (np.zeros((3, 2), np.float32).T, r"out of shape \(2, 3\): a view with gaps or exchanged axes"),
        ([[0.0] * 3] * 2, "out is a list but the device in use is cpu"),
        ((np.zeros((2, 3), np.float32), None), "twice returns 1 array but out= has 2"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, words, with_kernel, twice):
    if with_kernel:
        register(twice, "good", 5)
    with pytest.raises(ArgumentError, match=words):
        twice(np.zeros((2, 3), np.float32), times=1, out=out)


def test_an_in_place_op_refuses_out():
    from gpucnn.ops.update import accumulate

    total = np.zeros(4, np.float32)
    with pytest.raises(ArgumentError, match="accumulate works in place"):
        accumulate(total, total, out=total)


@needs.emulator_here
def test_on_a_device_out_is_an_array_of_it():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with choice.using("numba", device="emulator"):
        out = storage.empty((3,))
        assert bias_grad(storage.put(x), out=out) is out
        assert storage.get(out).tolist() == [3, 5, 7]
        without_rows = storage.put(np.ones(3, np.float32))
        assert bias_grad(storage.put(x[:0]), out=without_rows) is without_rows
        assert storage.get(without_rows).tolist() == [0, 0, 0]
        with pytest.raises(ArgumentError, match="out is a ndarray but the device in use is emulator"):
            bias_grad(storage.put(x), out=np.zeros(3, np.float32))


def test_an_in_place_operand_must_be_contiguous(monkeypatch):
    from gpucnn.ops.update import sgd

    values = np.zeros(8, np.float32)[::2]
    with pytest.raises(ArgumentError, match="in place"):
        sgd(values, np.zeros(4, np.float32), np.zeros(4, np.float32))


def test_empty_arrays_never_reach_a_kernel(twice):
    register(twice, "good", 5)
    assert twice(np.zeros((0, 3), np.float32), times=2).shape == (0, 3)


def test_arrays_beyond_32_bit_indices_are_refused(twice):
    x = np.broadcast_to(np.float32(0), (1 << 16, 1 << 15))
    with pytest.raises(ShapeError, match=r"2,147,483,648 elements is too large"):
        twice(x, times=1)


def test_load_needs_a_file_with_kernels(tmp_path):
    with pytest.raises(FileError, match="is not a Python file"):
        load_kernels(tmp_path / "missing.py")
    (tmp_path / "nothing.py").write_text("x = 1\n")
    with pytest.raises(KernelError, match="registered no kernel"):
        load_kernels(tmp_path / "nothing.py")


def test_a_loaded_kernel_is_treated_like_a_built_in_one(tmp_path, twice):
    (tmp_path / "mine_numpy.py").write_text(
        "from gpucnn import kernel\nfrom gpucnn.dispatch.op import declared\n"
        "@kernel(declared()['twice'], 'good', 'numpy')\n"
        "def launch(y, x, *, times):\n    y[...] = 11\n"
    )
    (mine,) = load_kernels(tmp_path / "mine_numpy.py")
    assert (mine.algorithm, mine.backend) == ("good", "numpy")
    assert twice(np.ones(2, np.float32), times=1)[0] == 11


INTERRUPTED = """
from pathlib import Path
from gpucnn import kernel
from gpucnn.dispatch.op import declared

@kernel(declared()["twice"], "good", "numpy")
def launch(y, x, *, times):
    fill(y)

if not Path(__file__).with_name("go_on").exists():
    raise KeyboardInterrupt

def fill(y):
    y[...] = 11
"""


def test_a_kernel_file_that_was_interrupted_is_read_again(tmp_path, monkeypatch, twice):
    places.folder_of_kernels()
    monkeypatch.setattr(sys.modules["gpucnn.kernels"], "__path__", [str(tmp_path)])
    monkeypatch.setattr(twice, "family", "interrupted")
    folder = tmp_path / "interrupted"
    folder.mkdir()
    (folder / "good_numpy.py").write_text(INTERRUPTED)
    with pytest.raises(KeyboardInterrupt):
        twice.kernels()
    (folder / "go_on").touch()
    assert list(twice.kernels(("numpy",))) == ["good_numpy"]
    assert twice(np.ones(2, np.float32), times=1)[0] == 11
