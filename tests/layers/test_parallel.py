"""Layers that hold layers: they compute, train, save and count like the layers inside."""

import numpy as np
import pytest
from layer_checks import assert_gradients_agree_with_central_differences as central_differences
from refusals import refuses

import gpucnn
from gpucnn import Input, Sequential, layers, models, optimizers, utils
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.layers.layer import by_path, every, leaves
from gpucnn.layers.parallel import outputs
from gpucnn.models import fusion


def block(filters, strides=1):
    """A residual block with batch normalisation; the shortcut is convolved where the shape changes."""
    same = {"padding": "same", "use_bias": False}
    body = [
        layers.Conv2D(filters, 3, strides=strides, **same),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(filters, 3, **same),
        layers.BatchNormalization(),
    ]
    return layers.Residual(body, None if strides == 1 else [layers.Conv2D(filters, 1, strides=strides, **same)])


def resnet():
    return Sequential(
        [
            Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            block(4),
            layers.ReLU(),
            block(8, strides=2),
            layers.ReLU(),
            layers.Parallel([[layers.Conv2D(3, 1, activation="relu")], [layers.MaxPooling2D(3, 1, "same")], []]),
            layers.Parallel([[layers.Dropout(0.2, seed=5)], [layers.Dropout(0.2, seed=5)]], merge="add"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def data(n=96):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.normal(0, 0.3, (n, 8, 8, 1)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        image[2 * label : 2 * label + 3] += 1
    return x, y


def compiled(seed=0):
    utils.set_random_seed(seed)
    model = resnet()
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_a_residual_block_adds_its_input():
    layer = layers.Residual([layers.Conv2D(2, 1, kernel_initializer="ones")])
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    assert layer(x).tolist() == (x + x.sum(axis=-1, keepdims=True)).tolist()


def test_the_outputs_on_the_way_are_those_of_the_layers_and_of_the_model():
    model = examples_of_blocks()
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    seen = {name: y for name, _, y in outputs(model.layers, x)}
    assert list(seen) == [
        *("conv2d", "residual/conv2d", "residual/parallel/dense", "residual/parallel", "residual", "flatten", "dense")
    ]
    inside = model.layers[1].paths[0]
    np.testing.assert_array_equal(seen["residual/conv2d"], inside[0](seen["conv2d"]))
    np.testing.assert_allclose(seen["dense"], model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def examples_of_blocks():
    inner = [layers.Conv2D(2, 3, padding="same"), layers.Parallel([[layers.Dense(2)], []])]
    stack = [layers.Conv2D(4, 1), layers.Residual(inner), layers.Flatten(), layers.Dense(3)]
    return gpucnn.Sequential([gpucnn.Input((6, 6, 2)), *stack])


def test_paths_are_joined_in_their_order():
    layer = layers.Parallel([[layers.Rescaling(2)], [], [layers.Rescaling(1, 1), layers.Rescaling(3)]])
    assert layer(np.array([[1, 2]])).tolist() == [[2, 4, 1, 2, 6, 9]]


@pytest.mark.parametrize("merge", ["add", "concatenate"])
def test_gradients_agree_with_central_differences(merge):
    inner = layers.Parallel([[layers.Dense(3, activation="tanh")], [layers.Dense(3)]], merge="add")
    layer = layers.Parallel([[layers.Dense(4, activation="tanh"), inner], [], [layers.Dense(3)]], merge=merge)
    with gpucnn.using("numpy"):
        central_differences(layer, (2, 3))


def test_gradients_are_not_changed_by_the_penalty_of_another_path():
    """An activity regularizer adds to the gradient in place; the other path must not see that."""
    rng = np.random.default_rng(0)
    penalised = layers.Dense(3, activity_regularizer="l2", use_bias=False)
    layer = layers.Parallel([[penalised], [layers.Dense(3, use_bias=False)]], merge="add")
    model = Sequential([Input((2,)), layer])
    model.compile("sgd", "mse")
    x = rng.normal(size=(4, 2)).astype(np.float32)
    out, backwards, penalties = model._trainer.step.forward(x, np.zeros(1, np.int64))
    model._trainer.step.backward(backwards, np.ones_like(out))
    expected = x.T @ np.ones((4, 3), np.float32)
    np.testing.assert_allclose(layer.inner[1].kernel.gradient, expected, rtol=1e-6)
    assert penalties > 0 and not np.allclose(penalised.kernel.gradient, expected)


def test_a_resnet_learns():
    model = compiled()
    x, y = data()
    history = model.fit(x, y, epochs=12, batch_size=32, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    assert model.evaluate(x, y, verbose=0)[1] > 0.5


def test_fused_and_plain_nodes_compute_the_same():
    x, y = data(32)
    losses = []
    for plain in (False, True):
        model = compiled()
        with fusion.off() if plain else gpucnn.using("auto"):
            losses.append(model.fit(x, y, epochs=2, batch_size=16, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_predictions_with_folded_normalisation_are_those_of_the_layers():
    model = compiled()
    x, y = data(32)
    model.fit(x, y, epochs=1, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=0, atol=1e-5)
    with gpucnn.using("numpy"):
        np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=0, atol=1e-5)


def test_dropout_in_two_paths_draws_different_numbers():
    model = Sequential([Input((100,)), layers.Parallel([[layers.Dropout(0.5, seed=1)], [layers.Dropout(0.5, seed=1)]])])
    left, right = np.split(model(np.ones((1, 100)), training=True), 2, axis=1)
    assert (left != right).any()


def test_moving_statistics_inside_are_updated():
    model = compiled()
    x, y = data(32)
    before = [layer.moving_mean.numpy() for layer in leaves(model.layers) if hasattr(layer, "moving_mean")]
    model.fit(x, y, verbose=0)
    after = [layer.moving_mean.numpy() for layer in leaves(model.layers) if hasattr(layer, "moving_mean")]
    assert len(before) == 4 and all((a != b).any() for a, b in zip(before, after, strict=True))


def test_a_saved_model_predicts_the_same(tmp_path):
    model = compiled()
    x, y = data(32)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "resnet.safetensors")
    loaded = models.load_model(tmp_path / "resnet.safetensors")
    assert [path for path, _ in by_path(loaded.layers)] == [path for path, _ in by_path(model.layers)]
    assert (loaded.predict(x, verbose=0) == model.predict(x, verbose=0)).all()


def test_training_resumes_from_a_checkpoint_bit_for_bit(tmp_path):
    x, y = data(32)
    whole, first, second = compiled(), compiled(), compiled(seed=1)
    whole.fit(x, y, epochs=4, verbose=0)
    first.fit(x, y, epochs=2, verbose=0)
    first.save_checkpoint(tmp_path / "half.safetensors")
    second.load_checkpoint(tmp_path / "half.safetensors")
    second.fit(x, y, epochs=4, initial_epoch=2, verbose=0)
    for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_weights_have_paths_of_their_own():
    names = [weight.path for weight in compiled().weights]
    assert len(set(names)) == len(names)
    assert "residual/conv2d/kernel" in names and "residual_1/conv2d_2/kernel" in names


def test_frozen_layers_inside_stay_as_they_are():
    model = compiled()
    inner = model.layers[1].inner[0]
    inner.trainable = False
    x, y = data(32)
    before = inner.kernel.numpy()
    model.fit(x, y, verbose=0)
    assert (inner.kernel.numpy() == before).all()
    assert inner.kernel not in model.trainable_weights
    model.layers[1].trainable = False
    assert not any(layer.trainable for layer in every([model.layers[1]]))


def test_summary_and_counts_include_the_layers_inside(capsys):
    model = compiled()
    assert (
        model.count_params()
        == sum(weight.size for weight in model.weights)
        == sum(layer.count_params() for layer in leaves(model.layers))
    )
    lines = []
    model.summary(print_fn=lines.append, expand_nested=True, show_flops=True)
    assert "  conv2d_2 (Conv2D)" in lines[0]
    block_flops = model.layers[1].flops((None, 8, 8, 4))
    assert block_flops >= 2 * 2 * 64 * 9 * 16


def test_the_ladder_of_sizes_follows_the_widest_path():
    rungs = models.ladder(compiled())
    assert rungs[1].receptive_field == (7, 7)  # 3 × 3, then twice 3 × 3
    assert rungs[3].receptive_field == (13, 13)  # 3 × 3 in steps of 2, then 3 × 3


def test_the_need_of_memory_counts_what_paths_keep():
    from gpucnn.models import memory

    plain = Sequential([Input((8, 8, 4)), layers.ReLU()])
    held = Sequential([Input((8, 8, 4)), layers.Residual([layers.ReLU(), layers.ReLU()])])
    for model in (plain, held):
        model.compile("sgd", "mse")
    assert memory.need(held).image > memory.need(plain).image


def test_copies_train_apart():
    import copy

    model = compiled()
    x, y = data(32)
    twin = copy.deepcopy(model)
    model.fit(x, y, verbose=0)
    twin.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()
    clone = models.clone_model(model)
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]


test_wrong_blocks_are_refused = refuses(
    ArgumentError,
    [
        (lambda: layers.Residual([]), "give the layers of the block"),
        (lambda: layers.Parallel([[layers.ReLU()]]), "two paths or more"),
        (lambda: layers.Parallel([[], [3]]), "3 is not a layer"),
        (lambda: layers.Parallel([[], [Input((3,))]]), "paths are lists of layers"),
        (lambda: layers.Parallel([[], []], merge="multiply"), "merge='multiply'"),
        (lambda: layers.Parallel([[layer := layers.ReLU()], [layer]]), "stands in it twice"),
    ],
)


def test_results_that_cannot_be_merged_are_refused():
    with pytest.raises(ShapeError, match=r"\(8, 8, 3\) and \(8, 8, 4\).*shortcut="):
        layers.Residual([layers.Conv2D(3, 1)])(np.zeros((1, 8, 8, 4)))
    with pytest.raises(ShapeError, match="same strides"):
        layers.Parallel([[layers.Conv2D(3, 3)], []])(np.zeros((1, 8, 8, 4)))
    with pytest.raises(ShapeError, match="conv2d"):
        Sequential([Input((2, 2, 1)), layers.Residual([layers.Conv2D(3, 5)])])
