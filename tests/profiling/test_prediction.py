"""Predicted times: their order and the unit that binds, against public ladders and by hand."""

from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from ladders import LADDERS, predicted
from needs import compilers_here

from gpucnn.devices import branches, cards, choose
from gpucnn.dispatch import choice
from gpucnn.dispatch.case import Case, integers, real
from gpucnn.errors import ArgumentError
from gpucnn.ops.dropout import dropout
from gpucnn.ops.matmul import matmul
from gpucnn.profiling import compilers, instruction_mix, prediction
from gpucnn.profiling.launches import Copy, Launch, LaunchRecorder, Region, launches

MIB = 1 << 20
BOUND = {
    "naive": "shared memory",  # the path to L1 serves 32 rows one after the other
    "coalesced": "shared memory",
    "shared memory": "shared memory",
    "1D tiles": "shared memory",
    "2D tiles": "FP32",
    "vectorised": "FP32",
    "warp tiles": "FP32",
    "v7: 64 × 64, 4 × 4": "shared memory",
    "v8: 128 × 128, 8 × 8": "shared memory",
    "v9: warp tiles": "FP32",
    "v11: two buffers": "FP32",
}
ERRORS = {"a6000": (0.19, 0.37), "rtx2080super": (0.20, 0.28)}
"""(mean, largest) relative difference of predicted and published speeds."""


def product(m, n, k):
    return Case("product", (real(m, k), real(k, n)), {"transpose_a": False, "transpose_b": False})


def node(op, kernel, case, card):
    (launch,) = launches(op.kernels(("cuda",))[kernel], case, card.arch)
    return prediction.of_step([launch], card)[0]


ladders = pytest.mark.parametrize("name", LADDERS)


def machine_code_here(test):
    """For tests that read machine code."""
    no_disassembler = pytest.mark.skipif(compilers.disassembler() is None, reason="nvdisasm is not installed")
    return compilers_here(no_disassembler(test))


@cache
def rungs(name):
    return list(predicted(name))


@machine_code_here
@ladders
def test_the_rungs_of_public_ladders_come_in_the_published_order(name):
    for one, _, speed in rungs(name):
        for other, _, slower in rungs(name):
            if speed > 1.25 * slower:
                assert one.published > other.published, (one.name, other.name)


@machine_code_here
@ladders
def test_the_unit_that_binds_each_rung_is_named(name):
    assert {rung.name: node.bottleneck for rung, node, _ in rungs(name)}.items() <= BOUND.items()


@machine_code_here
@ladders
def test_speeds_differ_from_the_published_ones_by_no_more_than_is_stated(name):
    errors = [abs(speed / rung.published - 1) for rung, _, speed in rungs(name)]
    mean, largest = ERRORS[name]
    assert np.mean(errors) <= mean
    assert max(errors) <= largest


@machine_code_here
def test_a_large_product_is_bound_by_arithmetic_and_as_long_as_its_work():
    card = cards.find("h100")
    one, two = (node(matmul, "warptiled_cuda", product(4096, 4096, k), card) for k in (2048, 4096))
    assert {one.bottleneck, two.bottleneck} <= {"FP32", "issue"}
    assert two.microseconds == pytest.approx(2 * one.microseconds, rel=0.05)
    assert one.executed == one.flops == 2 * 4096 * 4096 * 2048
    assert one.flops / one.microseconds < 2 * card.multiprocessors * card.fp32 * card.clock


@machine_code_here
def test_padding_is_executed_and_is_not_work():
    one = node(matmul, "warptiled_cuda", product(65, 65, 64), cards.find("h100"))
    assert one.flops == 2 * 65 * 65 * 64
    assert one.blocks == 3 * 2  # tiles of 32 × 64
    assert one.executed == 3 * 2 * 2 * 32 * 64 * 64


@machine_code_here
def test_a_kernel_that_moves_more_than_l2_holds_is_bound_by_memory():
    case = Case("long", (real(64 * MIB), integers(1, high=3, dtype="int64")), {"rate": 0.5, "seed": 1, "stream": 0})
    one = node(dropout, "philox_cuda", case, cards.find("gtx1660"))
    assert one.bottleneck == "DRAM"
    assert one.dram >= 8 * 64 * MIB
    assert one.microseconds > one.dram / cards.find("gtx1660").dram_bytes


@machine_code_here
def test_a_small_kernel_takes_as_long_as_starting_it():
    one = node(matmul, "naive_cuda", product(2, 2, 2), cards.find("h100"))
    assert one.bottleneck == "start"
    assert one.tolerance == prediction.UNKNOWN


@machine_code_here
def test_tensor_cores_are_as_slow_as_those_of_the_card():
    mix = {"HMMA.1688.F32.TF32": 96, "LOP3.LUT": 300}
    assert instruction_mix.cycles(mix, cards.find("t4"))["tensor cores"] == float("inf")
    fast, slow = (instruction_mix.cycles(mix, cards.find(name)) for name in ("h100", "rtx3060"))
    assert slow["tensor cores"] > 3 * fast["tensor cores"]


# -- what a step touches -----------------------------------------------------------------------------------------------


def test_memory_that_was_touched_lately_is_in_l2():
    cache = prediction.Cache(3 * MIB)
    assert cache.touch([Region(0, MIB), Region(1, MIB)]) == 2 * MIB
    assert cache.touch([Region(0, MIB), Region(1, MIB)]) == 0
    assert cache.touch([Region(2, 2 * MIB)]) == 2 * MIB
    assert cache.touch([Region(1, MIB)]) == 0
    assert cache.touch([Region(0, MIB)]) == MIB


def test_a_cache_never_holds_what_is_larger_than_itself():
    cache = prediction.Cache(MIB)
    assert [cache.touch([Region(0, 4 * MIB)]) for _ in range(2)] == [4 * MIB, 3 * MIB]


def test_a_recorder_keeps_launches_and_copies_in_order_with_what_they_touch():
    recorder = LaunchRecorder("sm_90")
    with choice.using("cuda", device="emulator"), choose.using(recorder):
        a, b = recorder.empty((64, 64)), recorder.empty((64, 64))

        def run():
            y = matmul(a, b, transpose_a=False, transpose_b=False)
            a[:2] = y[:2]
            matmul(a.reshape(64, 64), a, transpose_a=True, transpose_b=False)

        first, copy, second = recorder.record_nodes(run)
    assert isinstance(first, Launch) and isinstance(copy, Copy)
    assert first.call.flops == 2 * 64**3
    assert second.call.params["transpose_a"] is True
    y, of_a, of_b = first.regions
    assert len({y.allocation, of_a.allocation, of_b.allocation}) == 3
    assert copy.regions == (Region(of_a.allocation, 512), Region(y.allocation, 512))
    assert {r.allocation for r in second.regions[1:]} == {of_a.allocation}


def test_recorded_arrays_have_no_contents():
    recorder = LaunchRecorder()
    with choose.using(recorder):
        array = recorder.put(np.ones(3, np.float32))
        assert array.get().tolist() == [0, 0, 0]


# -- cards -------------------------------------------------------------------------------------------------------------


def test_an_unknown_card_is_named_with_those_that_are_known():
    with pytest.raises(ArgumentError, match=r"card 'h200' is unknown: .*h100"):
        cards.find("h200")


@pytest.mark.parametrize("card", cards.CARDS.values(), ids=cards.CARDS)
def test_a_card_is_complete_and_compiled_for(card):
    assert card.arch in compilers.ARCHITECTURES
    assert "whitepaper" in card.sources
    assert 0 < card.fp32_share <= 1
    assert card.dram_bytes < card.l2_bytes


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [("h100", 66.9), ("a100", 19.5), ("a6000", 38.7), ("rtx3060", 12.7), ("t4", 8.1), ("gtx1660", 5.0)],
)
def test_the_rates_of_a_card_give_its_published_peak(name, teraflops):
    card = cards.find(name)
    assert 2 * card.fp32 * card.multiprocessors * card.clock * 1e-6 == pytest.approx(teraflops, rel=0.01)


def test_what_was_chosen_for_one_card_is_not_taken_for_another():
    chosen = []
    for arch in ("sm_90", "sm_75", "sm_90", "sm_86"):
        recorder = LaunchRecorder(arch)
        with choice.using("cuda", device="emulator"), choose.using(recorder):
            a, b = recorder.empty((1024, 1024)), recorder.empty((1024, 1024))
            one, *_ = recorder.record_nodes(lambda a=a, b=b: matmul(a, b, transpose_a=False, transpose_b=False))
        chosen.append(one.call.kernel.algorithm)
    assert chosen == ["tensor", "warptiled", "tensor", "warptiled"]


def test_a_recorder_says_which_launches_are_on_a_branch_and_which_run_beside_it():
    recorder = LaunchRecorder("sm_90")
    with choice.using("cuda", device="emulator"), choose.using(recorder):
        a = recorder.empty((64, 64))

        def product():
            matmul(a, a, transpose_a=False, transpose_b=False)

        def run():
            product()
            for following in (True, False, True):
                with branches.aside(following):
                    product()
                product()
            branches.join()
            a[...] = 0

        chain = recorder.record_nodes(run)
        with branches.on():
            nodes = recorder.record_nodes(run)
    places = [(0, 0), (1, 0), (0, 1), (0, 1), (0, 1), (2, 0), (0, 2), (0, 0)]
    assert [(node.branch, node.beside) for node in nodes] == places
    assert {(node.branch, node.beside) for node in chain} == {(0, 0)}


def predicted_node(blocks, branch=0, beside=0, waves=0.1, **limits):
    settings = dict.fromkeys((field.name for field in fields(prediction.Node)), 0)
    settings |= {"blocks": blocks, "waves": waves, "limits": limits, "overlap": 1.0, "branch": branch, "beside": beside}
    return prediction.Node(**settings)


def test_a_branch_and_what_is_beside_it_take_the_longer_time_or_that_of_their_work():
    card = cards.find("h100")
    count, start = card.multiprocessors, prediction.START + card.node

    def total(*nodes):
        return prediction.total(nodes, card)

    def beside(blocks, *others, **limits):
        return total(predicted_node(3), predicted_node(blocks, branch=1, **limits), *others)

    half = predicted_node(count // 2, beside=1, FP32=8.0)
    assert total(predicted_node(3), half) == pytest.approx(2 * start + 8)  # no branch to wait for
    assert beside(count // 2, half, FP32=5.0) == pytest.approx(2 * start + 8)
    assert beside(count // 2, half, half, FP32=5.0) == pytest.approx(3 * start + 16)
    assert beside(count // 2, half, FP32=20.0) == pytest.approx(2 * start + 20)
    whole = predicted_node(count, beside=1, FP32=8.0)
    assert beside(count, whole, FP32=5.0) == pytest.approx(2 * start + 13)  # neither leaves room
    assert beside(count + count // 2, whole, FP32=4.0) == pytest.approx(2 * start + 11)
    assert beside(count, whole, latency=5.0) == pytest.approx(2 * start + 8)
    filling = predicted_node(count, beside=1, waves=1.0, latency=8.0)
    assert beside(count, filling, waves=0.5, latency=6.0) == pytest.approx(
        start + card.node + (prediction.START + 8) + (prediction.START + 6) / 2
    )
    memory = predicted_node(1, beside=1, DRAM=8.0)
    assert beside(1, memory, DRAM=5.0) == pytest.approx(2 * start + 13)  # the card has one
