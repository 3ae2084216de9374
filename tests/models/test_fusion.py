"""Layers that are computed together give what they give one by one."""

import contextlib
import copy

import needs
import numpy as np
import pytest

import gpucnn
from gpucnn import Input, Sequential, activations, layers, optimizers
from gpucnn.devices import choose, storage
from gpucnn.dispatch.op import Op
from gpucnn.models import fused_pooling, fusion
from gpucnn.ops import epilogue
from gpucnn.ops.activation import FUNCTIONS
from gpucnn.ops.bias_activation import bias_activation_grad
from gpucnn.profiling.launches import LaunchRecorder
from gpucnn.runs import zoo

NJIT = pytest.param("njit", "cpu", id="njit")
CUDA = pytest.param("cuda", "emulator", id="cuda", marks=(needs.emulator_here, pytest.mark.xdist_group("fused-cuda")))
NUMBA = pytest.param("numba", "emulator", id="numba", marks=needs.emulator_here)


def nodes(*stack, **settings):
    """The layers of each node of a model that ends in softmax and is trained from its logits."""
    model = Sequential([Input((8, 8, 2)), *stack, layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return [[type(layer).__name__ for layer in node.layers] for node in model._trainer.step.nodes()][: -2 or None]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ([layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)], [["Conv2D", "MaxPooling2D"]]),
        ([layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(3, strides=2)], [["Conv2D", "MaxPooling2D"]]),
        ([layers.Conv2D(4, 3, activation="tanh"), layers.AveragePooling2D(2)], [["Conv2D", "AveragePooling2D"]]),
        ([layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()], [["Conv2D", "GlobalAveragePooling2D"]]),
        ([layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()], [["Conv2D", "GlobalMaxPooling2D"]]),
        (
            [layers.Conv2D(4, 3), layers.Activation("relu"), layers.MaxPooling2D(2)],
            [["Conv2D", "Activation", "MaxPooling2D"]],
        ),
        ([layers.Conv2D(4, 3), layers.LeakyReLU(0.1)], [["Conv2D", "LeakyReLU"]]),
        ([layers.Conv2D(4, 3), layers.ELU(), layers.AveragePooling2D(2)], [["Conv2D", "ELU", "AveragePooling2D"]]),
        ([layers.SeparableConv2D(4, 3), layers.ReLU()], [["SeparableConv2D", "ReLU"]]),
        ([layers.Conv2D(4, 3, activation="relu"), layers.Activation("tanh")], [["Conv2D"], ["Activation"]]),
        ([layers.Conv2D(4, 3), layers.ReLU(max_value=1.0)], [["Conv2D"], ["ReLU"]]),
        ([layers.Conv2D(4, 3), layers.Activation("softmax")], [["Conv2D"], ["Activation"]]),
        ([layers.Conv2D(4, 3), layers.Activation("relu", activity_regularizer="l2")], [["Conv2D"], ["Activation"]]),
        (
            [layers.UpSampling2D(2), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()],
            [["UpSampling2D"], ["Conv2D"], ["GlobalMaxPooling2D"]],
        ),
        ([layers.Conv2D(4, 3, activation="tanh"), layers.MaxPooling2D(2)], [["Conv2D", "MaxPooling2D"]]),
        ([layers.Conv2D(4, 3), layers.MaxPooling2D(2)], [["Conv2D", "MaxPooling2D"]]),
        ([layers.Conv2D(4, 3, activation="gelu"), layers.MaxPooling2D(2)], [["Conv2D"], ["MaxPooling2D"]]),
        ([layers.Conv2D(4, 3, activation="gelu"), layers.AveragePooling2D(2)], [["Conv2D"], ["AveragePooling2D"]]),
        ([layers.DepthwiseConv2D(3), layers.MaxPooling2D(2)], [["DepthwiseConv2D"], ["MaxPooling2D"]]),
        ([layers.BatchNormalization(), layers.Activation("gelu")], [["BatchNormalization", "Activation"]]),
        ([layers.BatchNormalization(), layers.LeakyReLU()], [["BatchNormalization", "LeakyReLU"]]),
        ([layers.BatchNormalization(), layers.Activation("linear")], [["BatchNormalization"], ["Activation"]]),
        ([layers.BatchNormalization(), layers.Softmax()], [["BatchNormalization"], ["Softmax"]]),
        ([layers.BatchNormalization(synchronized=True), layers.ReLU()], [["BatchNormalization"], ["ReLU"]]),
        (
            [layers.BatchNormalization(activity_regularizer="l2"), layers.ReLU()],
            [["BatchNormalization"], ["ReLU"]],
        ),
        (
            [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2, padding="same")],
            [["Conv2D", "MaxPooling2D"]],
        ),
        (
            [layers.Conv2D(4, 3, activation="relu"), layers.AveragePooling2D(2, algorithm="reference")],
            [["Conv2D"], ["AveragePooling2D"]],
        ),
        (
            [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2, algorithm="reference")],
            [["Conv2D"], ["MaxPooling2D"]],
        ),
        (
            [layers.Conv2D(4, 3, activation="relu", activity_regularizer="l2"), layers.MaxPooling2D(2)],
            [["Conv2D"], ["MaxPooling2D"]],
        ),
    ],
)
def test_only_what_a_fused_op_computes_is_fused(stack, expected):
    assert nodes(*stack) == expected


def test_sequences_are_fused_as_images_of_one_row():
    pooled = [layers.Conv1D(4, 3, activation="relu"), layers.MaxPooling1D(2)]
    stack = [layers.Reshape((64, 2)), *pooled, layers.Conv1D(5, 2), layers.GlobalAveragePooling1D()]
    expected = [["Reshape"], ["Conv1D", "MaxPooling1D"], ["Conv1D", "GlobalAveragePooling1D"]]
    assert nodes(*stack) == expected


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("units", [1, 3])
def test_the_activation_of_the_last_layer_stays_apart_where_the_loss_takes_what_is_before_it(normalized, units):
    last = layers.Activation("sigmoid" if units == 1 else "softmax")
    norms = [layers.BatchNormalization()] if normalized else []
    model = Sequential([Input((6,)), layers.Dense(5), layers.ReLU(), layers.Dense(units), *norms, last])
    model.compile("sgd", "binary_crossentropy" if units == 1 else "sparse_categorical_crossentropy")
    nodes = [[type(layer).__name__ for layer in node.layers] for node in model._trainer.step.nodes()]
    assert nodes == [["Dense", "ReLU"], ["Dense"], *[["BatchNormalization"] for _ in norms], ["Activation"]]
    assert model._trainer.step.nodes()[1].fused, "the bias is added in the product"
    y = np.arange(8) % 2
    model.fit(np.ones((8, 6), np.float32), y if units > 1 else y[:, None], verbose=0)


def test_volumes_are_fused_with_their_pooling():
    pooled = [layers.Conv3D(4, 2, padding="same", activation="relu"), layers.MaxPooling3D(2)]
    ended = [layers.Conv3D(4, (2, 1, 1), activation="gelu"), layers.Conv3D(3, 1), layers.AveragePooling3D(2)]
    stack = [layers.Reshape((8, 4, 4, 1)), *pooled, *ended]
    expected = [["Reshape"], ["Conv3D", "MaxPooling3D"], ["Conv3D"], ["Conv3D", "AveragePooling3D"]]
    assert nodes(*stack) == expected


def model_of(*stack):
    gpucnn.utils.set_random_seed(3)
    model = Sequential([Input((9, 8, 2)), *(make() for make in stack)])
    model.compile(optimizers.SGD(0.1), "mse")
    return model


def with_activation(name):
    """A convolution, one that is pooled, one of another kind and a dense layer, each with the activation."""
    if name in FUNCTIONS:
        name = activations.Elementwise(name)
    return [
        lambda: layers.Conv2D(5, 3, padding="same", activation=name),
        lambda: layers.Conv2D(4, 2, padding="same", activation=name),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.DepthwiseConv2D(2, activation=name),
        layers.Flatten,
        lambda: layers.Dense(6, activation=name),
    ]


STACKS = {
    "conv_relu_pool": [
        lambda: layers.Conv2D(5, 3, activation="relu"),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.Conv2D(4, 2, padding="same", activation="relu"),
        lambda: layers.MaxPooling2D(2),
    ],
    "large_conv_relu_pool": [  # on tensor cores, where there are some
        lambda: layers.Conv2D(32, 1, activation="relu"),
        lambda: layers.Conv2D(24, 3, padding="same", activation="relu"),
        lambda: layers.MaxPooling2D(2),
    ],
    "windows": [
        lambda: layers.Conv2D(5, 3, padding="same", activation="relu"),
        lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
        lambda: layers.Conv2D(4, 2, padding="same", activation="selu"),
        lambda: layers.MaxPooling2D((2, 3), strides=1),
        lambda: layers.Conv2D(4, 1, activation="tanh"),
        lambda: layers.AveragePooling2D(2, strides=1),
    ],
    "windows_in_groups": [
        lambda: layers.Conv2D(20, 3, groups=2, activation="relu"),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.Conv2D(4, 1, groups=2, activation="elu"),
        layers.GlobalAveragePooling2D,
    ],
    "layers_of_activations": [
        lambda: layers.Conv2D(5, 3, padding="same"),
        lambda: layers.Activation("gelu"),
        lambda: layers.Conv2D(6, 2),
        lambda: layers.ReLU(),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.DepthwiseConv2D(2),
        lambda: layers.LeakyReLU(0.1),
        lambda: layers.AveragePooling2D(2, strides=1),
        layers.Flatten,
        lambda: layers.Dense(9),
        lambda: layers.ELU(),
        lambda: layers.Dense(7),
        lambda: layers.Activation("silu"),
    ],
    "largest_of_all": [
        lambda: layers.Conv2D(20, 3, strides=2, activation="relu"),
        layers.GlobalMaxPooling2D,
    ],
    "conv_relu": [
        lambda: layers.Conv2D(5, 3, strides=2, activation="relu"),
        lambda: layers.Conv2D(4, 2, dilation_rate=2, activation="relu"),
    ],
    "grouped_relu": [
        lambda: layers.Conv2D(6, 3, groups=2, padding="same", activation="relu"),
        lambda: layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, activation="relu"),
    ],
    "normalized": [
        lambda: layers.BatchNormalization(),
        lambda: layers.ReLU(),
        lambda: layers.Conv2D(5, 3),
        lambda: layers.BatchNormalization(scale=False),
        lambda: layers.Activation("gelu"),
        lambda: layers.BatchNormalization(trainable=False),
        lambda: layers.Activation("tanh"),
        layers.Flatten,
        lambda: layers.BatchNormalization(center=False),
        lambda: layers.ELU(),
    ],
    "sequences": [
        lambda: layers.Reshape((72, 2)),
        lambda: layers.Conv1D(5, 3, padding="same", activation="relu"),
        lambda: layers.MaxPooling1D(3, strides=2, padding="same"),
        lambda: layers.Conv1D(6, 4, padding="causal", activation="gelu"),
        lambda: layers.Conv1D(6, 3, groups=2, strides=2, activation="tanh"),
        lambda: layers.AveragePooling1D(2),
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=2, activation="elu"),
        lambda: layers.Conv1D(4, 1, activation="relu"),
        layers.GlobalAveragePooling1D,
    ],
    "volumes": [
        lambda: layers.Reshape((4, 6, 3, 2)),
        lambda: layers.Conv3D(5, 3, padding="same", activation="relu"),
        lambda: layers.MaxPooling3D((3, 2, 2), strides=(1, 2, 1), padding="same"),
        lambda: layers.Conv3D(6, 2, strides=(1, 1, 2), activation="gelu"),
        lambda: layers.Conv3D(6, (2, 1, 1), groups=2, activation="tanh"),
        lambda: layers.AveragePooling3D((1, 2, 1)),
        lambda: layers.Conv3D(4, 1, activation="elu"),
        layers.GlobalAveragePooling3D,
    ],
    "dense_relu": [
        layers.Flatten,
        lambda: layers.Dense(7, activation="relu"),
        lambda: layers.Dense(6, activation="relu"),
    ],
}


@pytest.mark.parametrize("function", ["linear", *(f for f in FUNCTIONS if f != "exponential")])  # which overflows
def test_fusion_with_each_activation_changes_nothing_but_rounding(function, rng):
    check_that_fusion_changes_nothing_but_rounding(with_activation(function), "njit", "cpu", rng)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "gelu"])
def test_convolutions_in_groups_end_in_their_kernel(activation, monkeypatch, rng):
    monkeypatch.setattr(fusion, "bias_activation", lambda *args, **params: pytest.fail("one more pass"))
    grouped = lambda: layers.Conv2D(6, 3, groups=2, activation=activation)  # noqa: E731
    model = model_of(grouped, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation=activation))
    x = rng.standard_normal((6, 9, 8, 2)).astype(np.float32)
    model.train_on_batch(x, np.zeros((6, *model.output_shape[1:]), np.float32))
    model.predict(x, verbose=0)


@pytest.mark.parametrize(("backend", "device"), [NJIT, CUDA, NUMBA])
@pytest.mark.parametrize("function", ["tanh", "elu", "gelu"])
def test_fusion_with_an_activation_changes_nothing_but_rounding_anywhere(function, backend, device, rng):
    check_that_fusion_changes_nothing_but_rounding(with_activation(function), backend, device, rng)


@pytest.mark.parametrize(("backend", "device"), [NJIT, CUDA])
@pytest.mark.parametrize("name", STACKS)
def test_fusion_changes_nothing_but_rounding(name, backend, device, rng):
    check_that_fusion_changes_nothing_but_rounding(STACKS[name], backend, device, rng)


def check_that_fusion_changes_nothing_but_rounding(stack, backend, device, rng):
    x = rng.standard_normal((6, 9, 8, 2)).astype(np.float32)
    results = {}
    for mode in ("fused", "one by one", "numpy"):
        if mode == "numpy":
            gpucnn.use("numpy", device="cpu")
        else:
            gpucnn.use(backend, device=device)
        with fusion.off() if mode == "one by one" else contextlib.nullcontext():
            model = model_of(*stack)
            y = np.zeros((6, *model.output_shape[1:]), np.float32)
            loss = model.train_on_batch(x, y)
            fused = any(node.fused for node in model._trainer.step.nodes())
            results[mode] = loss, storage.get(model.parameters.gradients), model.predict(x, verbose=0)
            assert fused == (mode == "fused")
    for mode in ("fused", "one by one"):
        for got, expected in zip(results[mode], results["numpy"], strict=True):
            scale = np.abs(expected).max()
            assert np.abs(got - expected).max() <= 64 * np.finfo(np.float32).eps * scale


class Handing(layers.Layer):
    """Passes back an array that it reads later."""

    def forward(self, x, step, training):
        def backward(dy, need_dx=True):
            self.passed = dy
            self.bytes = dy.tobytes()
            return dy

        return x, backward


def test_gradients_that_others_read_are_not_written_over(rng):
    """Two paths that end in activations get one gradient, and a user's layer keeps the one that it passes on."""
    convolution = lambda: layers.Conv2D(3, 1, activation="relu")  # noqa: E731
    ends = [[], [layers.Reshape((8, 8, 3))], [layers.Dropout(0)], [layers.AveragePooling2D(1)]]
    paths = [[convolution(), convolution(), *end] for end in ends]
    stack = [layers.Parallel([*paths, []], merge="add"), convolution(), Handing(), layers.GlobalAveragePooling2D()]
    x, gradients = rng.random((4, 8, 8, 3)), []
    for context in (contextlib.nullcontext, fusion.off):
        gpucnn.utils.set_random_seed(3)
        model = Sequential([Input((8, 8, 3)), *copy.deepcopy(stack)])
        with context():
            model.compile("sgd", "mse")
            model.train_on_batch(x, np.arange(12).reshape(4, 3))
        gradients.append(np.array(model.parameters.gradients))
        assert model.layers[-2].passed.tobytes() == model.layers[-2].bytes
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", ["linear", "relu", "tanh", "elu", "gelu"])
@pytest.mark.parametrize("scale", [1.0, 1.25])
def test_dz_may_take_the_place_of_dy(function, scale, rng):
    for shape in ((3, 7, 5, 9), (600, 32)):
        dy, kept = rng.standard_normal((2, *shape), np.float32)
        params = {**epilogue.end(function), "scale": scale}
        dz, db = bias_activation_grad(dy.copy(), kept, **params)
        in_place, sums = bias_activation_grad(dy, kept, **params, out=(dy, None))
        assert in_place is dy and dy.tobytes() == dz.tobytes() and sums.tobytes() == db.tobytes()


@pytest.mark.parametrize(
    ("backend", "device", "fused"),
    [
        (*NJIT.values, [["Conv2D", "MaxPooling2D"], ["Conv2D"], ["Dense"]]),
        pytest.param(*CUDA.values, [["Conv2D", "MaxPooling2D"], ["Conv2D"], ["Dense"]], marks=CUDA.marks),
        pytest.param(*NUMBA.values, [["Conv2D"], ["Conv2D"], ["Dense"]], marks=NUMBA.marks),
        ("numpy", "cpu", []),
    ],
)
def test_a_backend_fuses_what_it_has_faster_kernels_for(backend, device, fused):
    gpucnn.use(backend, device=device)
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2), layers.Conv2D(4, 2, activation="relu")]
    model = Sequential([Input((8, 8, 2)), *stack, layers.Flatten(), layers.Dense(3, activation="relu")])
    model.compile("sgd", "mse")
    program = model._trainer.step.nodes()
    assert [[type(layer).__name__ for layer in node.layers] for node in program if node.fused] == fused
    with fusion.off():
        model.compile("sgd", "mse")
        assert not any(node.fused for node in model._trainer.step.nodes())


def launches_of_a_step(name):
    """The names of the kernels that a training step of a course model launches, in order."""
    return launches_of_a_step_of(zoo.find(name).build())


def launches_of_a_step_of(model, **algorithms):
    recorder = LaunchRecorder()
    gpucnn.use("cuda", device="emulator", **algorithms)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with choose.using(recorder):
        model.parameters.bring()
        step = model._trainer.step
        x, backwards, _ = step.forward(recorder.empty((128, *model.input_shape[1:])), recorder.empty((1,), np.int64))
        step.backward(backwards, recorder.empty(x.shape))
    return [launch.function.name for launch in recorder.launches]


@needs.emulator_here
@pytest.mark.parametrize(("name", "fewer"), [("slides", 17), ("keras-intro", 16), ("torres", 11)])
def test_fused_layers_launch_fewer_kernels(name, fewer):
    """Three for each layer with ReLU, and one more each for pooling and its gradient, where they are fused."""
    fused = launches_of_a_step(name)
    with fusion.off():
        apart = launches_of_a_step(name)
    assert not any(function.startswith("activation") for function in fused)
    assert fused.count("bias_rows") == 1, "of the last layer, which has no ReLU"
    assert len(apart) - len(fused) == fewer


TOGETHER = "conv2d_bias_activation_grad_weight_few_channels"


@needs.emulator_here
@pytest.mark.parametrize(
    ("channels", "first", "function", "chosen", "together"),
    [
        (3, [], "relu", {}, True),
        (1, [], "linear", {}, True),
        (3, [], "gelu", {}, False),  # its slope does not follow from its result
        (8, [], "relu", {}, False),
        (3, [layers.PReLU], "relu", {}, False),  # needs the gradient of its result
        (3, [], "relu", {"conv2d_grad_weight": "implicit_gemm"}, False),
    ],
)
def test_a_first_layer_of_few_channels_has_its_gradients_in_one_launch(channels, first, function, chosen, together):
    stack = [*(make() for make in first), layers.Conv2D(32, 3, activation=function), layers.Conv2D(8, 3)]
    model = Sequential([Input((8, 8, channels)), *stack, layers.Flatten(), layers.Dense(10, activation="softmax")])
    assert launches_of_a_step_of(model, **chosen).count(TOGETHER) == together


FUSED = {"conv2d_bias_activation", "matmul_bias_activation", "bias_activation", "bias_activation_grad"}
REPLACED = {
    "conv2d": {"conv2d_bias_activation"},
    "matmul": {"matmul_bias_activation"},
    "bias": FUSED,
    "bias_grad": FUSED,
    "activation": FUSED,
    "activation_grad": FUSED,
}


def names_of_called_ops(monkeypatch):
    """A set that fills from now on."""
    called, call = set(), Op.__call__

    def counting(op, *arrays, **params):
        called.add(op.name)
        return call(op, *arrays, **params)

    monkeypatch.setattr(Op, "__call__", counting)
    return called


@pytest.mark.parametrize("op", REPLACED)
def test_an_algorithm_chosen_for_an_op_that_a_fused_one_replaces_is_used(op, monkeypatch, rng):
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="relu")]
    model = Sequential([Input((8, 8, 2)), *stack])
    model.compile("sgd", "mse")
    called = names_of_called_ops(monkeypatch)
    with gpucnn.using(**{op: "reference"}):
        model.train_on_batch(rng.random((4, 8, 8, 2)), np.zeros((4, 3)))
    assert op in called
    assert not called & REPLACED[op]


@pytest.mark.parametrize("op", ["avgpool2d", "avgpool2d_grad", "conv2d"])
def test_an_algorithm_chosen_for_a_mean_is_not_fused_away(op):
    with gpucnn.using(**{op: "reference"}):
        assert nodes(layers.Conv2D(4, 3), layers.AveragePooling2D(2)) == [["Conv2D"], ["AveragePooling2D"]]


def test_a_chosen_algorithm_is_used_and_not_fused_away():
    with gpucnn.using(conv2d="implicit_gemm"):
        assert nodes(layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)) == [["Conv2D"], ["MaxPooling2D"]]
    stack = [layers.Conv2D(4, 3, activation="relu", algorithm="reference"), layers.MaxPooling2D(2)]
    assert nodes(*stack) == [["Conv2D"], ["MaxPooling2D"]]


@pytest.mark.parametrize("op", ["maxpool2d", "maxpool2d_grad"])
def test_an_algorithm_chosen_for_pooling_is_not_fused_away(op):
    with gpucnn.using(**{op: "reference"}):
        assert nodes(layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)) == [["Conv2D"], ["MaxPooling2D"]]


@pytest.mark.parametrize("op", ["conv2d_grad_weight", "conv2d_grad_input"])
def test_an_algorithm_chosen_for_a_gradient_is_not_fused_away(op, monkeypatch, rng):
    """The ops for gradients of a pooled convolution give way to those that write out what the windows see."""
    stack = [layers.Conv2D(4, 3), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)]
    called = names_of_called_ops(monkeypatch)
    with gpucnn.using(**{op: "reference"}):
        model = Sequential([Input((8, 8, 2)), *stack])
        model.compile("sgd", "mse")
        model.train_on_batch(rng.random((4, 8, 8, 2)), np.zeros((4, 2, 2, 4)))
    assert op in called
    assert not called & {"conv2d_maxpool_grad_weight", "conv2d_maxpool_grad_input"}


def test_a_model_of_the_zoo_keeps_its_first_layers_input_gradient_uncomputed(monkeypatch, rng):
    sizes = []
    grad_input = fused_pooling.conv2d_maxpool_grad_input

    def counting(dy, *arrays, **params):
        sizes.append(params["size"])
        return grad_input(dy, *arrays, **params)

    monkeypatch.setattr(fused_pooling, "conv2d_maxpool_grad_input", counting)
    model = zoo.find("slides").build()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(rng.random((4, 28, 28, 1)), np.arange(4))
    assert sizes == [(12, 12)]


def test_nothing_is_fused_where_the_environment_says_so(monkeypatch):
    stack = [layers.Conv2D(4, 3, activation="tanh"), layers.MaxPooling2D(2)]
    assert nodes(*stack) == [["Conv2D", "MaxPooling2D"]]
    monkeypatch.setenv("GPUCNN_FUSION", "0")
    assert nodes(*(type(layer).from_config(layer.get_config()) for layer in stack)) == [["Conv2D"], ["MaxPooling2D"]]


def test_a_choice_made_after_compile_still_counts():
    model = Sequential([Input((8, 8, 2)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)])
    model.compile("sgd", "mse")
    assert len(model._trainer.step.nodes()) == 1
    with gpucnn.using(conv2d="reference"):
        assert len(model._trainer.step.nodes()) == 2
    assert len(model._trainer.step.nodes()) == 1
