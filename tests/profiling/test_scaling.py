"""The cost model of many GPUs, and the page that is made from its record."""

import json
import sys
from pathlib import Path

import pytest

from gpucnn.profiling.scaling import DGX_H100, Cluster, Work, all_reduce, predict

BENCH = Path(__file__).parents[2] / "bench"

CLUSTER = Cluster("test", "for sums by hand", gpus=4, link=1000.0, rails=500.0, sources="none")


def test_one_gpu_exchanges_nothing():
    assert all_reduce(1e6, 1, CLUSTER) == (0.0, "none")
    assert predict(Work(90.0, 10.0, ((1.0, 400),)), 1, CLUSTER).step == 100.0


def test_few_bytes_take_a_tree_with_the_lowest_latency():
    """4 GPUs of one node: 4.4 + 2 · 3 · 0.52 and 2 · 237 bytes at 0.9 / 3.8 of 1000 bytes a microsecond."""
    time, algorithm = all_reduce(237.0, 4, CLUSTER)
    assert algorithm == "ring LL"  # 3.6 + 6 · 0.47 + 237 · 6 / 4 / 250
    assert time == pytest.approx(3.6 + 2.82 + 1.422)
    time, algorithm = all_reduce(237.0, 64, CLUSTER)
    assert algorithm == "tree LL"
    assert time == pytest.approx(4.4 + 2 * (3 * 0.52 * 1.8 + 4 * 5.0) + 474 / (500 * 0.9 / 3.8))


def test_many_bytes_take_a_ring_with_the_highest_bandwidth():
    time, algorithm = all_reduce(1e9, 8, CLUSTER)
    assert algorithm == "ring Simple"
    assert time == pytest.approx(8.4 + 12 * 3.4 + 2 * 9.6 + 1e9 * 14 / 8 / 500)


@pytest.mark.parametrize("nbytes", [1e3, 1e5, 1e7, 1e9])
def test_more_gpus_and_more_bytes_never_take_less_time(nbytes):
    times = [all_reduce(nbytes, 2**power, DGX_H100)[0] for power in range(1, 11)]
    assert times == sorted(times)
    assert all_reduce(2 * nbytes, 64, DGX_H100)[0] > all_reduce(nbytes, 64, DGX_H100)[0]


def test_an_all_reduce_hides_behind_what_is_left_of_the_backward_pass():
    """Gradients of the last layer are final after a tenth of the backward pass of 600 µs, and those of the
    first at its end."""
    work = Work(900.0, 100.0, ((0.9, 1_000), (0.1, 100_000)))
    large, small = all_reduce(100_000, 4, CLUSTER)[0], all_reduce(1_000, 4, CLUSTER)[0]
    both = all_reduce(101_000, 4, CLUSTER)[0]
    assert large < 540
    assert predict(work, 4, CLUSTER, buckets=(1,)).exposed == pytest.approx(both)
    hidden = predict(work, 4, CLUSTER, buckets=(2,))
    assert (hidden.exposed, hidden.reduce) == (pytest.approx(small), pytest.approx(large + small))
    assert predict(work, 4, CLUSTER).step == pytest.approx(1000 + small)


def test_what_cannot_be_hidden_is_exposed():
    work = Work(9.0, 1.0, ((0.5, 10**6), (0.5, 10**6)))
    one = predict(work, 16, CLUSTER, buckets=(2,))
    assert one.exposed == pytest.approx(one.reduce - 3.0)  # the first starts 3 µs before the end of 6


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import scaling_plan

    yield scaling_plan
    for name in ("scaling_plan", "predict_steps"):
        sys.modules.pop(name, None)


def test_page_and_records_are_equal(plan):
    record, measured = (json.loads(path.read_text(encoding="utf-8")) for path in (plan.RECORD, plan.MEASURED))
    assert plan.PAGE.read_text(encoding="utf-8") == plan.page(record["models"], measured)
    assert record["cluster"] == json.loads(json.dumps(plan.rounded(plan.asdict(DGX_H100))))


def test_the_record_has_the_steps_that_are_predicted_elsewhere(plan):
    steps = json.loads((BENCH / "results" / "predicted" / "h100.json").read_text(encoding="utf-8"))["steps"]
    for one, record in zip(steps, json.loads(plan.RECORD.read_text(encoding="utf-8"))["models"], strict=True):
        assert one["model"] == record["model"]
        assert record["steps"][str(one["batch_size"])]["step_us"] == pytest.approx(
            one["predicted_us_per_step"], rel=1e-3
        )
        assert sum(share for share, _ in record["layers"]) == pytest.approx(1, rel=1e-3)


def test_the_plot_names_every_model(plan):
    models = json.loads(plan.RECORD.read_text(encoding="utf-8"))["models"]
    left, right = plan.plot(models).axes
    assert [line.get_label() for line in left.lines[:5]] == [record["model"] for record in models]
    assert len(right.lines) == 5 and plan.PLOT.read_text(encoding="utf-8").startswith("<?xml")
