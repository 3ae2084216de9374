"""Gradients of weights on branches of the recorded step: the bits are those of a chain, and a join or memory that is
missing is seen."""

import json
import re

import pytest

pytestmark = pytest.mark.xdist_group("branches")
"""Two workers would compile the same kernels at the same time."""

TRAINING = """
    import json, os, sys
    import numpy as np
    import gpucnn
    from gpucnn import layers, models, optimizers
    from gpucnn.devices import branches, gpu_branch
    from gpucnn.devices.emulator.driver import counters
    from gpucnn.models import resident_steps, training_step

    gpucnn.use("cuda", device="gpu")
    asides = []
    aside = gpu_branch.GpuBranch.aside
    gpu_branch.GpuBranch.aside = lambda branch: (asides.append(branch), aside(branch))[1]

    def plain():
        alike = [each for _ in range(3) for each in (layers.Conv2D(8, 3, padding="same"), layers.Dropout(0.1))]
        return [gpucnn.Input((8, 8, 3)), *alike, layers.Flatten(), layers.Dense(4, activation="softmax")]

    def many():
        conv = layers.Conv2D(8, 3, padding="same", kernel_regularizer="l2", activation="relu")
        return [
            gpucnn.Input((8, 8, 3)), layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Residual([layers.SeparableConv2D(8, 3, padding="same"), layers.BatchNormalization()]),
            layers.Parallel([[conv, layers.DepthwiseConv2D(3, padding="same")], [layers.Conv2D(4, 1)]]),
            layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(2),
            layers.Conv2DTranspose(4, 3), layers.Flatten(), layers.Dropout(0.5),
            layers.Dense(80, activation="elu"), layers.Dense(96), layers.Dense(4, activation="softmax"),
        ]

    def trained(stack, optimizer, samples=20, batch_size=4, **compile):
        gpucnn.utils.set_random_seed(1)
        model = gpucnn.Sequential(stack())
        model.compile(optimizer, "sparse_categorical_crossentropy", **compile)
        rng = np.random.default_rng(2)
        x, y = rng.normal(size=(samples, 8, 8, 3)).astype(np.float32), np.arange(samples) % 4
        asides.clear()
        loss = model.fit(x, y, batch_size=batch_size, epochs=2, verbose=0).history["loss"]
        return loss, [w.tolist() for w in model.get_weights()], len(asides)
"""


ON = {"GPUCNN_BRANCHES": "1"}


@pytest.mark.parametrize("settings", [{"lazy": 0}, {"lazy": 3}, {"lazy": 4}])
def test_branches_leave_every_bit_as_it_is(output, settings):
    text = (
        TRAINING
        + """
    MAKERS = {
        "clipped": lambda: optimizers.SGD(0.01, momentum=0.9, clipnorm=0.1),
        "averaged": lambda: optimizers.AdamW(0.01, global_clipnorm=0.5, use_ema=True),
    }
    def all_ways(make, **compile):
        chain = trained(many, make(), **compile)
        with branches.on():
            with_branches = trained(many, make(), **compile)
            os.environ["GPUCNN_GRAPH"] = "0"
            launched = trained(many, make(), **compile)
            del os.environ["GPUCNN_GRAPH"]
        return [with_branches[:2] == chain[:2] == launched[:2], with_branches[2], chain[2], launched[2]]

    print(json.dumps([all_ways(MAKERS["clipped"], steps_per_execution=2), all_ways(MAKERS["averaged"])]))
    """
    )
    for equal, asides, chain, launched in json.loads(output(text, **settings)[-1]):
        assert equal
        assert asides >= 9 and chain == launched == 0


def test_a_model_forgets_its_graph_when_branches_are_switched_off(output):
    text = (
        TRAINING
        + """
    model = gpucnn.Sequential(plain())
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.ones((8, 8, 8, 3), np.float32), np.zeros(8, np.int64)
    counts = []
    for value in ("1", "0", "0", "1"):
        os.environ["GPUCNN_BRANCHES"] = value
        model.fit(x, y, batch_size=4, verbose=0)
        counts.append(len(asides))
    print(counts)
    """
    )
    first, second, third, fourth = json.loads(output(text)[-1])
    assert 0 < first == second == third < fourth


FAULTS = {
    "none": ("\n", None),
    "the update does not wait": (
        """
    training_step.branches = type("Unjoined", (), {"join": staticmethod(lambda: None)})
    change = optimizers.SGD.change_weights
    optimizers.SGD.change_weights = lambda *arguments: (change(*arguments), branches.join())
""",
        r"sgd on .* that .*grad_weight.* uses, and nothing orders the two",
    ),
    "memory that a branch reads is used again": (
        """
    gpu_branch.GpuBranch.hold = lambda branch, arrays: None
""",
        r" on .*writes an array of .* that .*grad_weight.* uses, and nothing orders the two",
    ),
    "a branch begins before what it reads": (
        """
    before = []
    def begins_early(branch):
        now = gpu_branch.cupy.cuda.get_current_stream().record()
        branch._stream.wait_event(before[-1] if before else now)
        before.append(now)
        branch._is_open = True
        return branch._stream
    gpu_branch.GpuBranch.aside = begins_early
""",
        r".*grad_weight.* on .*reads an array of .* uses, and nothing orders the two",
    ),
}


@pytest.mark.parametrize(("plant", "sentence"), FAULTS.values(), ids=FAULTS)
def test_check_sees_a_join_or_memory_that_is_missing(emulated, plant, sentence):
    text = TRAINING + plant + "    trained(plain, optimizers.SGD(0.01))\n    print(len(asides))"
    done = emulated(text, ON, check=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("gpucnn: emulated GPU: ")]
    if sentence is None:
        assert (done.returncode, said) == (0, []), done.stderr
        assert int(done.stdout.splitlines()[-1]) > 0
    else:
        assert done.returncode != 0
        assert re.search(sentence, said[0]), said


def test_an_error_in_a_branch_leaves_the_device_as_it_was(output):
    text = (
        TRAINING
        + """
    expected = trained(plain, optimizers.SGD(0.01))
    run, calls = gpucnn.dispatch.op.Kernel.run, []

    def fails(kernel, *arrays, **params):
        calls.append(kernel.op.name)
        if kernel.op.name == "conv2d_grad_weight" and calls.count("conv2d_grad_weight") in FAILS:
            raise RuntimeError("planted")
        return run(kernel, *arrays, **params)

    gpucnn.dispatch.op.Kernel.run = fails
    for FAILS in ([1], [2], [4]):
        calls.clear()
        try:
            trained(plain, optimizers.SGD(0.01))
        except RuntimeError as error:
            print(error)
    gpucnn.dispatch.op.Kernel.run = run
    print(trained(plain, optimizers.SGD(0.01)) == expected)
    """
    )
    assert output(text, ON, lazy=0)[-4:] == ["planted"] * 3 + ["True"]
