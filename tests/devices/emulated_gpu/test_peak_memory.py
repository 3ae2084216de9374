"""A run says how much memory of the GPU its arrays have occupied at most, pools of recorded steps
included: as much as the driver has given out."""

import json

TRAINING = """
    import json
    import cupy
    import numpy as np
    import gpucnn
    from gpucnn import callbacks, layers
    from gpucnn.devices import choose

    gpucnn.use("cuda", device="gpu")
    device, used = choose.current(), []
    before = cupy.cuda.Device().mem_info[0]

    class Note(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            used.append(before - cupy.cuda.Device().mem_info[0])

    def peak(batch_size):
        model = gpucnn.Sequential([
            gpucnn.Input((32, 32, 1)), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ])
        model.compile("sgd", "sparse_categorical_crossentropy")
        x, y = np.zeros((256, 32, 32, 1), np.float32), np.zeros(256, np.int64)
        model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=[Note()])
        return device.peak_bytes()

    SIZES = 16, 128, 16
    print(json.dumps([[peak(size) for size in SIZES], max(used), device.peak_bytes(), used[-1]]))
"""


def test_the_peak_is_what_the_driver_gave_at_most_and_stays(output):
    (small, large, after), used, last, _ = json.loads(output(TRAINING)[-1])
    assert small < large <= after == last <= 1.01 * large  # the weights of models that are not collected yet
    assert 0.95 * used <= large <= 1.05 * used


def test_further_trainings_take_no_more_memory_than_the_first_ones(output):
    """CuPy does not give a pool's memory back when the pool is dropped. The weights of models that are not collected
    yet are a few kilobytes."""
    two, six = (json.loads(output(TRAINING.replace("16, 128, 16", "16, " * n))[-1])[-1] for n in (2, 6))
    assert six <= 1.01 * two


def test_without_pools_there_is_no_figure(output):
    assert json.loads(output(TRAINING, {"GPUCNN_NO_POOL": "1"})[-1])[0] == [None] * 3
