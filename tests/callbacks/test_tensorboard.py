"""What TensorBoard finds in its folders: read back from the event files."""

import builtins

import numpy as np
import pytest
from needs import tensorboardx_here

import gpucnn
from gpucnn import callbacks
from gpucnn.errors import ArgumentError, FileError

pytestmark = tensorboardx_here


def events(folder):
    """(tag, step, value) of each event in the files of a folder: records of length, checksums and a message."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events*")):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            found += [(value.tag, event.step, value) for value in event.summary.value]
            content = content[16 + length :]
    return found


def scalars(folder):
    return {(tag, step): value.simple_value for tag, step, value in events(folder) if value.HasField("simple_value")}


@pytest.fixture
def fit(tmp_path, small_model, problem):
    def run(epochs=3, **options):
        x, y = problem
        model = small_model()
        callback = callbacks.TensorBoard(tmp_path / "logs", **options)
        history = model.fit(
            x, y, batch_size=20, epochs=epochs, validation_data=(x[:30], y[:30]), callbacks=[callback], verbose=0
        )
        return model, history.history

    return run


def test_the_logs_of_each_epoch_are_in_two_folders(fit, tmp_path):
    _, history = fit()
    train, validation = scalars(tmp_path / "logs" / "train"), scalars(tmp_path / "logs" / "validation")
    for epoch in range(3):
        assert train["epoch_loss", epoch] == pytest.approx(history["loss"][epoch])
        assert train["epoch_accuracy", epoch] == pytest.approx(history["accuracy"][epoch])
        assert validation["epoch_loss", epoch] == pytest.approx(history["val_loss"][epoch])
    assert {tag for tag, _ in train} == {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"}


def test_the_table_of_the_layers_is_text(fit, tmp_path):
    fit(epochs=1)
    (text,) = [value for tag, _, value in events(tmp_path / "logs" / "train") if tag.startswith("model")]
    assert b"Total params" in text.tensor.string_val[0]
    fit(epochs=1, write_graph=False)
    assert len([tag for tag, *_ in events(tmp_path / "logs" / "train") if tag.startswith("model")]) == 1


def test_batches_are_written_as_often_as_is_said(fit, tmp_path, problem):
    steps = -(-len(problem[0]) // 20)
    fit(epochs=2, update_freq=2)
    written = [step for tag, step in scalars(tmp_path / "logs" / "train") if tag == "batch_loss"]
    assert written == [step for step in range(1, 2 * steps + 1) if step % 2 == 0]


def test_histograms_are_those_of_the_weights(fit, tmp_path):
    model, _ = fit(epochs=3, histogram_freq=2)
    found = {
        (tag, step): value.histo for tag, step, value in events(tmp_path / "logs" / "train") if value.HasField("histo")
    }
    weights = {f"{layer.name}/{weight.name}": weight.numpy() for layer in model.layers for weight in layer.weights}
    assert set(found) == {(name, epoch) for name in weights for epoch in (0, 2)}
    for name, values in weights.items():
        assert found[name, 2].num == values.size
        assert found[name, 2].sum == pytest.approx(float(values.astype(np.float64).sum()), abs=1e-4)


def test_steps_per_second_are_written_where_that_is_wished(fit, tmp_path):
    fit(epochs=1, write_steps_per_second=True)
    assert scalars(tmp_path / "logs" / "train")["epoch_steps_per_second", 0] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"write_images": True}, "gpucnn plot"),
        ({"profile_batch": 2}, "gpucnn bench train"),
        ({"embeddings_freq": 1}, "no Embedding"),
        ({"update_freq": "often"}, "update_freq"),
        ({"update_freq": 0}, "update_freq"),
        ({"histogram_freq": -1}, "histogram_freq"),
    ],
)
def test_what_it_cannot_do_is_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        callbacks.TensorBoard(**options)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, small_model, problem):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make"):
        small_model().fit(*problem, callbacks=[callbacks.TensorBoard(tmp_path / "file")], verbose=0)


def test_without_tensorboardx_it_says_what_to_install(monkeypatch):
    plain = builtins.__import__

    def without(name, *rest):
        if name == "tensorboardX":
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ArgumentError, match=r"gpucnn\[tensorboard\]"):
        gpucnn.callbacks.TensorBoard()
