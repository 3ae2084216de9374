"""check.disagreement must find what kernels get wrong, and nothing else."""

import ctypes
import itertools

import numpy as np
import pytest

from gpucnn.dispatch.case import Case, Spec, real
from gpucnn.dispatch.check import cases_for, disagreement
from gpucnn.dispatch.op import Kernel, Op
from gpucnn.ops.conv2d import conv2d, conv2d_grad_input, conv2d_grad_weight


def kernel_of(op, launch, **more):
    return Kernel(op, "toy", "numpy", f"{op.family}/toy_numpy", launch, **more)


def op_of(body, outputs, cases, *, terms=None, ulps=4.0, inplace=()):
    return Op(body, outputs, cases, (), None, terms, ulps, inplace)


def case(op, name):
    return next(c for c in op.cases if c.name == name)


def toy(op, name, damage):
    """The report on a kernel that computes correctly and then does `damage(y, *operands)`."""

    def launch(y, *operands, **params):
        y[...] = op.reference(*operands, **params)
        damage(y, *operands)

    return disagreement(kernel_of(op, launch), case(op, name))


def poke(array, offset, value):
    ctypes.c_float.from_address(array.ctypes.data + 4 * offset).value = value


def peek(array, offset):
    return ctypes.c_float.from_address(array.ctypes.data + 4 * offset).value


def nothing(*_):
    pass


@pytest.mark.parametrize("op", [conv2d, conv2d_grad_input, conv2d_grad_weight])
def test_the_body_agrees_with_itself_on_every_case(op):
    for c in op.cases:
        if not c.bench:
            assert toy(op, c.name, nothing) is None


def test_a_value_that_is_never_written_is_found():
    def launch(y, x, weight, **params):
        y.reshape(-1)[:-1] = conv2d.reference(x, weight, **params).reshape(-1)[:-1]

    report = disagreement(kernel_of(conv2d, launch), case(conv2d, "ragged"))
    assert report.startswith("conv2d/toy_numpy, conv2d on case 'ragged' with integer-valued operands: ")
    assert "output 0[2, 4, 2, 4] is nan, expected" in report
    assert "1 of 225 values are wrong" in report


def test_nan_never_passes():
    def damage(y, *_):
        y[...] = np.nan

    assert "is nan" in toy(conv2d, "textbook", damage)


def test_an_output_added_to_instead_of_written_is_found():
    def launch(y, x, weight, **params):
        y += conv2d.reference(x, weight, **params)

    assert "is nan" in disagreement(kernel_of(conv2d, launch), case(conv2d, "one_pixel"))


@pytest.mark.parametrize(
    ("offset", "where"),
    [(-1, "before its start"), (9, "behind its end"), (40, "behind its end"), (-100, "before its start")],
)
def test_a_write_outside_of_the_output_is_found(offset, where):
    report = toy(conv2d, "textbook", lambda y, *_: poke(y, offset, 0.0))
    assert "writes outside of output 0" in report
    assert where in report


def test_a_write_outside_of_an_operand_is_found():
    report = toy(conv2d, "textbook", lambda y, x, weight: poke(weight, 9, 0.0))
    assert "writes outside of weight, 0 bytes behind its end" in report


@pytest.mark.parametrize("offset", [-1, 25])
def test_a_read_outside_of_an_operand_is_found(offset):
    def damage(y, x, weight):
        y[0, 0, 0, 0] += 0.0 * peek(x, offset)

    assert "output 0[0, 0, 0, 0] is nan" in toy(conv2d, "textbook", damage)


def test_a_changed_operand_is_found():
    def damage(y, x, weight):
        x[0, 0, 0, 0] += 1

    assert "writes into its operand x" in toy(conv2d, "textbook", damage)


def test_results_that_change_from_launch_to_launch_are_found():
    ups = itertools.cycle([False, True])

    def damage(y, *_):
        if next(ups):
            y[0, 1, 2, 0] = np.nextafter(y[0, 1, 2, 0], np.float32(np.inf))

    assert "two launches differ at output 0[0, 1, 2, 0]" in toy(conv2d, "textbook", damage)


def test_expected_values_are_computed_once_for_all_kernels_of_a_case():
    computed = []

    def doubled(x):
        computed.extend([x.shape] * (x.dtype == np.float64))
        return 2 * x

    op = op_of(doubled, lambda x: x, [Case("one", (real(5),)), Case("two", (real(7),))])

    def launch(y, x):
        y[...] = x * np.float32(2 + wrong)

    for wrong in (0, 0, 1):
        faults = [disagreement(kernel_of(op, launch), c) for c in op.cases]
        assert [fault is not None for fault in faults] == [bool(wrong)] * 2
    assert computed == [(5,), (7,)]


def test_a_fault_of_the_second_launch_is_found():
    launches = itertools.count()

    def damage(y, *_):
        if next(launches) == 1:
            poke(y, 9, 0.0)

    assert "writes outside of output 0" in toy(conv2d, "textbook", damage)


def test_one_image_left_out_of_a_weight_gradient_is_found():
    def launch(dweight, dy, x, **params):
        dweight[...] = conv2d_grad_weight.reference(dy[:-1], x[:-1], **params)

    report = disagreement(kernel_of(conv2d_grad_weight, launch), case(conv2d_grad_weight, "many_images"))
    assert "integer-valued" in report


def test_one_wrong_pixel_at_the_edge_is_found():
    def damage(dx, *_):
        dx[1, -1, -1, 0] += 1

    report = toy(conv2d_grad_input, "same", damage)
    assert "output 0[1, 5, 6, 0] is" in report
    assert "1 of 252 values are wrong" in report


def test_a_kernel_that_computes_in_half_precision_is_found_on_real_numbers():
    def launch(y, x, weight, **params):
        y[...] = conv2d.reference(x.astype(np.float16), weight.astype(np.float16), **params)

    assert "with real operands" in disagreement(kernel_of(conv2d, launch), case(conv2d, "ragged"))


def test_a_kernel_that_writes_doubles_is_found():
    def launch(y, x, weight, **params):
        doubles = conv2d.reference(x, weight, **params).astype(np.float64)
        ctypes.memmove(y.ctypes.data, doubles.ctypes.data, doubles.nbytes)

    assert "writes outside of output 0" in disagreement(kernel_of(conv2d, launch), case(conv2d, "textbook"))


def test_the_bound_on_real_numbers_is_derived_from_the_number_of_terms():
    def damage(size):
        def launch(y, x, weight, **params):
            y[...] = conv2d.reference(x, weight, **params)
            if not np.array_equal(x, np.round(x)):
                total = conv2d.reference(np.abs(x), np.abs(weight), **params)
                y[0, 0, 0, 0] += size * np.finfo(np.float32).eps * total[0, 0, 0, 0]

        return disagreement(kernel_of(conv2d, launch), case(conv2d, "textbook"))

    terms = 9
    assert damage(0.8 * (4 + terms**0.5)) is None
    assert "with real operands: output 0[0, 0, 0, 0] is" in damage(1.2 * (4 + terms**0.5))


def with_workspace(launch):
    def workspace(x, weight, **params):
        return x.like(5)

    return disagreement(kernel_of(conv2d, launch, workspace=workspace), case(conv2d, "textbook"))


def test_a_workspace_is_allocated_as_the_kernel_asks():
    def launch(y, x, weight, scratch, **params):
        assert (scratch.shape, scratch.dtype) == ((5,), np.float32)
        scratch[...] = 0
        y[...] = conv2d.reference(x, weight, **params) + scratch[0]

    assert with_workspace(launch) is None


def test_a_workspace_that_is_taken_for_zeros_is_found():
    def launch(y, x, weight, scratch, **params):
        y[...] = conv2d.reference(x, weight, **params) + scratch[0]

    assert "is nan" in with_workspace(launch)


def test_a_write_outside_of_the_workspace_is_found():
    def launch(y, x, weight, scratch, **params):
        y[...] = conv2d.reference(x, weight, **params)
        poke(scratch, 6, 0.0)

    assert "writes outside of workspace 0, 4 bytes behind its end" in with_workspace(launch)


def test_an_integer_that_is_never_written_is_found_even_if_it_equals_the_poison():
    def poison(x):
        return np.full(x.shape, 0x55555555, np.int32)

    op = op_of(poison, lambda x: Spec(x.shape, np.dtype(np.int32)), [Case("few", (real(3),))])
    assert "two launches differ at output 0[0]" in disagreement(kernel_of(op, nothing), op.cases[0])


def largest(x):
    return x.max(axis=1), x.argmax(axis=1).astype(np.int32)


LARGEST = op_of(
    largest,
    lambda x: (x.like(x.shape[0]), Spec(x.shape[:1], np.dtype(np.int32))),
    [Case("rows", (real(4, 6),))],
)


def test_each_of_several_outputs_is_checked():
    def honest(value, place, x):
        value[...], place[...] = largest(x)

    def off_by_one(value, place, x):
        honest(value, place, x)
        place[2] += 1

    assert disagreement(kernel_of(LARGEST, honest), LARGEST.cases[0]) is None
    assert "output 1[2] is" in disagreement(kernel_of(LARGEST, off_by_one), LARGEST.cases[0])


def test_without_terms_the_error_may_be_a_few_ulps_of_the_value_and_no_more():
    def root(x):
        return np.sqrt(x)

    op = op_of(root, lambda x: x, [Case("few", (real(5, low=4.0, high=9.0),))], ulps=3)

    def wrong_by(ulps):
        def launch(y, x):
            y[...] = np.sqrt(x.astype(np.float64)) * (1 + ulps * np.finfo(np.float32).eps)

        return disagreement(kernel_of(op, launch), op.cases[0])

    assert wrong_by(2) is None
    assert "± " in wrong_by(4)


def test_values_that_are_infinite_on_both_sides_agree():
    def inverse(x):
        with np.errstate(divide="ignore"):
            return 1.0 / (x * 0.0)

    op = op_of(inverse, lambda x: x, [Case("few", (real(3, low=1.0, high=2.0),))])

    def launch(y, x):
        y[...] = inverse(x)

    assert disagreement(kernel_of(op, launch), op.cases[0]) is None


def test_a_number_in_place_of_infinity_is_found():
    def body(x):
        return np.where(x < 2, np.inf, x)

    op = op_of(body, lambda x: x, [Case("few", (real(3, low=1.0, high=2.0),))])

    def launch(y, x):
        y[...] = [np.inf, 1e30, np.inf]

    assert "output 0[1] is 1.0000000150474662e+30" in disagreement(kernel_of(op, launch), op.cases[0])


def descend(values, slope, mask):
    values -= 0.5 * slope
    return values, mask


DESCEND = op_of(
    descend,
    lambda values, slope, mask: (values, mask),
    [Case("few", (real(7), real(7), None))],
    inplace=(0, 2),
)


def test_an_op_in_place_is_checked_against_a_copy_and_an_absent_operand_is_none():
    def launch(values, slope, mask):
        assert mask is None
        values -= np.float32(0.5) * slope

    assert disagreement(kernel_of(DESCEND, launch), DESCEND.cases[0]) is None


def test_an_op_in_place_that_forgets_an_element_is_found():
    def launch(values, slope, mask):
        values[:-1] -= np.float32(0.5) * slope[:-1]

    assert "values[6] is" in disagreement(kernel_of(DESCEND, launch), DESCEND.cases[0])


def test_an_op_in_place_may_not_write_into_its_other_operands():
    def launch(values, slope, mask):
        slope *= np.float32(0.5)
        values -= slope

    assert "writes into its operand slope" in disagreement(kernel_of(DESCEND, launch), DESCEND.cases[0])


def test_a_body_that_breaks_its_own_shape_rule_is_found():
    def flat(x):
        return x.reshape(-1)

    op = op_of(flat, lambda x: x, [Case("few", (real(2, 3),))])
    assert "the body returns (6,) float64 but the shape rule says (2, 3) float32" in disagreement(
        kernel_of(op, nothing), op.cases[0]
    )


def test_only_supported_cases_are_offered_and_benchmarks_only_on_request():
    def supports(x, weight, *, groups, **_):
        return groups == 1 and x.shape[-1] == 1

    kernel = kernel_of(conv2d, nothing, supports=supports)
    assert [c.name for c in cases_for(kernel)] == ["one_pixel", "textbook", "single_channel"]
    assert {c.name for c in cases_for(kernel, bench=True)} == {
        "slides_1",
        "mlearning_1",
        "keras_intro_1",
        "torres_1",
    }
    assert disagreement(kernel, case(conv2d, "grouped")) == (
        "conv2d/toy_numpy does not support case 'grouped' of conv2d"
    )
