"""A data set that does not fit into the GPU's memory streams through pinned buffers, with the bits of one
that does; a wait that is left out shows."""

import pytest

TRAINING = """
    import hashlib, sys
    import numpy as np
    import gpucnn
    from gpucnn import layers
    from gpucnn.devices.emulator.driver import counters
    from gpucnn.devices.gpu_feed import GpuFeed, cupy

    class Hasty(cupy.cuda.Event):
        def synchronize(self):
            pass

    FAULT

    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (300, 96, 96, 2)).astype(DTYPE)
    y = np.arange(300) % 3

    def small():
        gpucnn.utils.set_random_seed(4)
        model = gpucnn.Sequential([
            gpucnn.Input((96, 96, 2)), layers.AveragePooling2D(16), layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="softmax"),
        ])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    gpucnn.use("cuda", device="gpu")
    model = small()
    history = model.fit(x, y, epochs=2, batch_size=7, verbose=2, sample_weight=np.linspace(0.5, 2, 300)).history
    tested = model.evaluate(x, y, batch_size=11, verbose=2)
    outputs = model.predict(x, batch_size=7, verbose=2)
    parts = *model.get_weights(), outputs, np.array([*history["loss"], *history["accuracy"], *tested])
    print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest(), counters().graph_launches)
"""


def training(dtype="np.float32", fault="pass"):
    return TRAINING.replace("DTYPE", dtype).replace("FAULT", fault)


@pytest.fixture(scope="module")
def expected(output):
    """The bits of a resident training, which are the same for all dtypes."""
    lines = output(training())
    assert not [line for line in lines if "stream" in line]
    return lines[-1].split()[0]


@pytest.mark.parametrize(("dtype", "mebibytes"), [("np.float32", 32), ("np.uint8", 8), ("np.float64", 32)])
def test_streamed_batches_give_the_bits_of_resident_ones_and_each_call_says_so_once(output, expected, dtype, mebibytes):
    streamed = output(training(dtype), memory=mebibytes << 20)
    bits, graphs = streamed[-1].split()
    assert bits == expected
    assert int(graphs) > 20
    assert sum("the images stream from the host" in line for line in streamed) == 3, streamed


FAULTS = {
    "launches do not wait for the copy": "GpuFeed.await_rows = lambda self: None",
    "a copy does not wait for launches": "GpuFeed.mark_used = lambda self: None",
    "the host does not wait for a copy": "cupy.cuda.Event = Hasty",
}


@pytest.mark.parametrize("seed", [0, 3])
def test_lazy_streams_change_no_bit_of_a_streamed_training(output, expected, seed):
    assert output(training(), memory=32 << 20, lazy=seed)[-1].split()[0] == expected


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_lazy_streams_show_a_wait_that_is_left_out(output, expected, fault):
    assert output(training(fault=fault), memory=32 << 20, lazy=0)[-1].split()[0] != expected


def test_the_checker_names_a_wait_that_is_left_out(emulated):
    text = training(fault=FAULTS["launches do not wait for the copy"])
    done = emulated(text, memory=32 << 20, check=True)
    assert done.returncode != 0
    assert "a copy to the device on stream" in done.stderr and "nothing orders the two" in done.stderr, done.stderr


def test_a_host_without_memory_for_the_buffers_is_named(output):
    text = """
        import numpy as np
        import gpucnn
        from gpucnn.devices import choose, gpu_feed

        def refuse(nbytes):
            raise gpu_feed.cupy.cuda.runtime.CUDARuntimeError(2)

        gpucnn.use("cuda", device="gpu")
        gpu_feed.cupy.cuda.alloc_pinned_memory = refuse
        try:
            choose.current().feed((64, 1000), np.float32)
        except gpucnn.errors.MemoryNeedError as error:
            print(error)
    """
    assert output(text) == ["the host has no 128 kB of memory that a GPU can read: use smaller batches"]
