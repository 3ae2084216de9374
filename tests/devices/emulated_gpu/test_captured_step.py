"""The step that CuPy captures, as data; and what a step costs the host and the driver."""

import json

import pytest
from places import ROOT

TRAINING = """
    import json, os
    from dataclasses import asdict
    import numpy as np
    import gpucnn
    from cupy.cuda import compiler
    from gpucnn import callbacks
    from gpucnn.devices.emulator.driver import counters
    from gpucnn.devices.gpu import Gpu
    from gpucnn.runs import zoo

    gpucnn.use("cuda", device="gpu")
    graphs, record = [], Gpu.record
    Gpu.record = lambda device, run: (graphs.append(record(device, run)), graphs[-1])[1]

    def costs(name, graph, steps=4):
        \"\"\"What the driver does in each step but the first two.\"\"\"
        os.environ["GPUCNN_GRAPH"] = graph
        model = zoo.find(name).build()
        model.compile("sgd", "sparse_categorical_crossentropy")
        x = np.zeros((steps, *model.input_shape[1:]), np.float32)
        seen = []

        class Note(callbacks.Callback):
            takes_late_logs = True

            def on_train_batch_end(self, batch, logs=None):
                seen.append(asdict(counters()))

        model.fit(x, np.zeros(steps, np.int64), batch_size=1, shuffle=False, verbose=0, callbacks=[Note()])
        return [{name: after[name] - before[name] for name in after} for before, after in zip(seen[1:], seen[2:])]
"""


def graph_of(dot):
    """(the names of the nodes, pairs of their numbers)."""
    lines = dot.splitlines()
    nodes = [line.partition('label="')[2].partition('"')[0] for line in lines if "label=" in line]
    return nodes, [tuple(int(node[1:]) for node in line.split(" -> ")) for line in lines if "->" in line]


@pytest.mark.parametrize(
    ("model", "most", "aside"),
    [
        ("slides", 44, ["conv2d_maxpool_grad_weight_sparse"]),
        ("mlearning", 62, ["matmul_warptiled", *["conv2d_grad_weight_implicit_gemm"] * 3]),
    ],
)
def test_the_captured_step_is_one_chain_of_kernels_and_on_request_has_branches(output, model, most, aside):
    text = (
        TRAINING
        + f"""
    launched, replayed = costs({model!r}, "0"), costs({model!r}, "1")
    options = len(compiler._empty_file_preprocess_cache)
    os.environ["GPUCNN_BRANCHES"] = "1"
    replayed += costs({model!r}, "1")
    dots = [graph.graph.debug_dot_str() for graph in (graphs[0], graphs[-1])]
    print(json.dumps([launched[-1], replayed, *dots, options]))
    """
    )
    launched, replayed, by_default, branched, options = json.loads(output(text)[-1])
    nodes, edges = graph_of(by_default)
    assert edges == [(i, i + 1) for i in range(len(nodes) - 1)]
    same, edges = graph_of(branched)
    assert same == nodes
    forks = [a for a, b in edges if b > a + 1 and (a, a + 1) in edges and (b - 1, b) not in edges]
    assert [nodes[a + 1] for a in forks] == aside
    assert not [name for name in nodes if "host" in name], nodes
    assert "sgd" in nodes[-2:], nodes
    assert options <= 2, "CuPy compiles an empty program for each set: that of gpucnn's kernels, and that of its own"
    assert len(nodes) <= min(most, launched["launches"] + launched["uploads"] + launched["reads"])
    for step in replayed:
        assert step["graph_launches"] == 1
        assert not any(step[name] for name in ("uploads", "reads", "allocations", "frees", "waits", "modules")), step


def test_a_launch_and_a_step_call_no_more_functions_than_the_table_says(output):
    text = f"""
        import json, sys
        sys.path.insert(0, "{ROOT}/bench")
        import host_calls
        print(json.dumps(host_calls.table()))
    """
    counted = json.loads(output(text)[-1])
    table = json.loads((ROOT / "bench/results/host_calls.json").read_text())["now"]
    assert counted.keys() == table.keys()
    for what, numbers in table.items():
        for language, most in numbers.items():
            assert counted[what][language] <= 1.05 * most, (what, language)
    for model in ("slides", "keras-intro"):
        replayed, one_by_one = (counted[f"step of {model}, {how}"]["python"] for how in ("replayed", "one by one"))
        assert replayed < 0.05 * one_by_one


def test_progress_leaves_the_gpu_with_launches_to_go_on_with(output):
    """On lazy streams nothing runs before somebody waits for it: after a look, some of it has not run."""
    text = """
        import cupy
        import numpy as np
        import gpucnn
        from gpucnn import callbacks, layers

        gpucnn.use("cuda", device="gpu")
        LOOK = {"late": lambda logs: logs.lately(), "exact": lambda logs: logs["loss"]}

        class Look(callbacks.Callback):
            takes_late_logs = True

            def __init__(self, how):
                self.look, self.idle = LOOK[how], []

            def on_train_batch_end(self, batch, logs=None):
                self.look(logs)
                self.idle.append(cupy.cuda.get_current_stream().done)

        for how in LOOK:
            model = gpucnn.Sequential([gpucnn.Input((8,)), layers.Dense(2, activation="softmax")])
            model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
            look = Look(how)
            model.fit(np.ones((64, 8), np.float32), np.arange(64) % 2, batch_size=8, verbose=0, callbacks=[look])
            print(look.idle)
    """
    assert output(text, lazy=0) == [str([False] * 8), str([True] * 8)]


def test_out_of_memory_the_batch_that_fits_is_named_and_does_fit(output):
    text = """
        import re
        import numpy as np
        import gpucnn
        from gpucnn import layers
        from gpucnn.errors import MemoryNeedError

        gpucnn.use("cuda", device="gpu")
        def fit(batch_size):
            model = gpucnn.Sequential([
                gpucnn.Input((32, 32, 1)), layers.Conv2D(16, 3, activation="relu"), layers.GlobalAveragePooling2D(),
                layers.Dense(2, activation="softmax"),
            ])
            model.compile("sgd", "sparse_categorical_crossentropy")
            return model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)

        x, y = np.zeros((1024, 32, 32, 1), np.float32), np.zeros(1024, np.int64)
        try:
            fit(1024)
        except MemoryNeedError as error:
            print(error)
            fits = int(re.search(r"the largest batch size that fits is about (\\d+)", str(error))[1])
            print(fits, np.isfinite(fit(fits).history["loss"][0]))
    """
    refusal, after = output(text, memory=100 << 20)
    assert refusal.startswith("a batch of 1024 images does not fit into the memory of gpu:0: out of memory on gpu:0")
    fits, finite = after.split()
    assert 1 <= int(fits) < 1024 and finite == "True"


def test_a_model_follows_the_gpu_in_use_and_every_thread_works_on_that_one(output):
    text = """
        import threading
        import numpy as np
        import gpucnn
        from gpucnn import layers
        from gpucnn.devices import choose

        gpucnn.use("cuda", device="gpu:0")
        model = gpucnn.Sequential([gpucnn.Input((8,)), layers.Dense(4), layers.Dense(2, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        x, y = np.ones((8, 8), np.float32), np.zeros(8, np.int64)

        def fit():
            model.fit(x, y, batch_size=4, verbose=0)
            arrays = [model.parameters.values, *model.optimizer.flat_slots.values()]
            print(choose.current().name, *(array.data.device_id for array in arrays))

        for device in ("gpu:0", "gpu:1", "gpu:0"):
            gpucnn.use("cuda", device=device)
            fit()
            thread = threading.Thread(target=fit)
            thread.start()
            thread.join()
    """
    expected = [f"gpu:{n} {n} {n} {n}" for n in (0, 0, 1, 1, 0, 0)]
    assert output(text, devices=2) == expected


def test_a_gpu_newer_than_the_compilers_trains_by_ptx(output):
    text = """
        import numpy as np
        import gpucnn
        from gpucnn import layers
        from gpucnn.devices import choose, nvrtc

        nvrtc.newest_architecture = lambda: 75
        for backend in ("cuda", "numba"):
            gpucnn.utils.set_random_seed(1)
            gpucnn.use(backend, device="gpu")
            model = gpucnn.Sequential([gpucnn.Input((8,)), layers.Dense(4), layers.Dense(2, activation="softmax")])
            model.compile("sgd", "sparse_categorical_crossentropy")
            x, y = np.ones((8, 8), np.float32), np.zeros(8, np.int64)
            loss = model.fit(x, y, batch_size=4, verbose=0).history["loss"][0]
            print(choose.current()._newer_than, np.isfinite(loss))
    """
    assert output(text) == ["75 True", "75 True"]


def test_use_auto_takes_the_gpu_after_a_check_that_is_kept(emulated):
    text = """
        import gpucnn
        from gpucnn.devices import choose
        from gpucnn.ops.matmul import matmul
        from gpucnn.runs import self_check

        self_check._kernels = lambda: iter([matmul.kernels(("cuda",))["naive_cuda"]])
        gpucnn.use("auto")
        print(choose.current().name, self_check.stored("gpu:0").fault)
    """
    done = [emulated(text) for _ in range(2)]
    assert [process.stdout.splitlines()[-1:] for process in done] == [["gpu:0 None"]] * 2, done[0].stderr
    assert ["checking" in process.stdout for process in done] == [True, False]
