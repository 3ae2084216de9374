"""The predicted training step of a model, its records, and the plan of its ops."""

import json
import re
import sys
from pathlib import Path

import pytest
from needs import compilers_here

from gpucnn.devices import cards
from gpucnn.errors import ArgumentError
from gpucnn.profiling import compilers
from gpucnn.profiling.launches import Copy
from gpucnn.runs import step, step_plan

BENCH = Path(__file__).parents[2] / "bench"
PREDICTED = BENCH / "results" / "predicted"
RECORDS = {path.stem: json.loads(path.read_text(encoding="utf-8"))["steps"] for path in PREDICTED.glob("*.json")}

machine_code_here = pytest.mark.skipif(compilers.disassembler() is None, reason="nvdisasm is not installed")


def test_there_is_a_record_of_each_course_model_on_each_card():
    assert set(RECORDS) == {"h100", "rtx3060", "t4", "gtx1660"}
    assert all([row["model"] for row in rows] == list(step.OPTIMIZERS) for rows in RECORDS.values())


@pytest.mark.parametrize("card", RECORDS)
@pytest.mark.parametrize("model", step.OPTIMIZERS)
def test_the_records_have_the_nodes_and_bytes_of_todays_steps(card, model):
    """All of a record that needs no compiler. Run bench/predict_steps.py if a step has changed."""
    (row,) = (row for row in RECORDS[card] if row["model"] == model)
    nodes = step.nodes(model, cards.find(card).arch)
    assert [one["function"] for one in row["kernels"]] == [
        "" if isinstance(n, Copy) else n.function.name for n in nodes
    ]
    for one, node in zip(row["kernels"], nodes, strict=True):
        times = 2 if not isinstance(node, Copy) and node.call.kernel.op.inplace else 1
        assert one["bytes"] == times * sum(region.nbytes for region in node.regions)
    assert row["eager_nodes"] == len(step.nodes(model, cards.find(card).arch, eager=True))


def test_a_step_has_branches_on_request_and_only_as_a_graph(monkeypatch):
    places = []
    for _ in range(2):
        for eager in (False, True):
            places.append({(n.branch, n.beside) for n in step.nodes("slides", "sm_90", eager=eager)})
        monkeypatch.setenv("GPUCNN_BRANCHES", "1")
    chain, launched, with_branches, launched_too = places
    assert chain == launched == launched_too == {(0, 0)}
    assert with_branches == {(0, 0), (1, 0), (0, 1)}


@compilers_here
@machine_code_here
def test_a_record_is_what_is_predicted_now():
    """Within what another version of the compilers may change."""
    predicted = step.predicted("slides", cards.find("h100"))
    row = RECORDS["h100"][list(step.OPTIMIZERS).index("slides")]
    assert predicted.microseconds == pytest.approx(row["predicted_us_per_step"], rel=0.1)
    assert predicted.eager_microseconds == pytest.approx(row["predicted_eager_us_per_step"], rel=0.1)


def test_the_table_of_predicted_steps_holds_the_numbers_of_the_records():
    rows = [line.split(" | ") for line in (PREDICTED / "steps.md").read_text(encoding="utf-8").splitlines()[5:]]
    for number, cells in enumerate(rows):
        for card, cell in zip(RECORDS_IN_ORDER, cells[4:], strict=True):
            row = RECORDS[card][number]
            eager, graph = (float(text.replace(",", "")) for text in re.findall(r"[\d,]+", cell))
            assert graph == pytest.approx(row["predicted_us_per_step"], rel=1e-3, abs=0.5)
            assert eager == pytest.approx(row["predicted_eager_us_per_step"], rel=1e-3, abs=0.5)


RECORDS_IN_ORDER = ("h100", "rtx3060", "t4", "gtx1660")


def test_a_step_does_the_work_of_its_model():
    """0.194 GFLOP: 24 · 24 · 10 · 25 + 8 · 8 · 20 · 250 products an image in convolutions, 320 · 100 + 100 · 10
    in dense layers, and for the gradients 2 · (320 · 100 + 100 · 10) and, where pooling 2 × 2 passes a
    quarter of the positions, a quarter of the convolutions', without the gradient of the images."""
    first, second, dense = 24 * 24 * 10 * 25, 8 * 8 * 20 * 250, 320 * 100 + 100 * 10
    expected = 2 * 128 * (first + second + 3 * dense + (first + 2 * second) / 4)
    products = ("conv", "dense", "matmul")
    calls = {id(n.call): n.call for n in step.nodes("slides", "sm_90") if not isinstance(n, Copy)}.values()
    done = sum(call.flops for call in calls if call.kernel.op.name.startswith(products))
    assert done == pytest.approx(expected, rel=0.01)


def test_a_backend_that_no_card_runs_is_refused():
    with pytest.raises(ArgumentError, match="--backend njit: a card runs cuda or numba"):
        step.nodes("slides", "sm_90", "njit")


@compilers_here
@machine_code_here
def test_the_plan_names_the_kernel_of_each_op_and_why_it_was_chosen():
    decisions = list(step_plan.plan("slides", cards.find("t4")))
    rows = [step_plan.row(decision) for decision in decisions]
    convolution = next(row for row in rows if row["op"].startswith("conv2d") and row["operands"][0][-1] == 10)
    assert (convolution["op"], convolution["algorithm"]) == ("conv2d_bias_activation_maxpool", "pooled_gemm")
    assert convolution["tile"] == (32, 32, 32)
    others = ("pooled_direct", "halo", "pooled_tensor")
    assert convolution["reason"] == "; ".join(f"{name} does not serve it" for name in others)
    dense = next(row for row in rows if row["op"] == "matmul_bias_activation")
    assert (dense["algorithm"], dense["reason"]) == ("warptiled", "tensor does not serve it")
    assert dense["parts"] == 5 and len(dense["launches"]) == 2
    assert sum(len(row["launches"]) for row in rows) == sum(
        not isinstance(node, Copy) for node in step.nodes("slides", "sm_75")
    )


def test_the_script_that_writes_the_records_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import predict_steps

    assert predict_steps.CARDS == RECORDS_IN_ORDER
    assert predict_steps.rounded({"a": [1.23456, {"limits_us": 1.0}]}) == {"a": [1.235, {}]}
    sys.modules.pop("predict_steps")
