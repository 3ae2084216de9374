"""A module of PyTorch that was written by gpucnn computes what gpucnn computes, and its weights come back."""

import ast
import importlib.util

import numpy as np
import pytest
from examples import BRANCHES, IMAGES, LAYERS, OBJECTS, inputs_of, model_of, random_model, randomise
from needs import torch_here

from gpucnn import Input, Sequential, exchange, layers
from gpucnn.errors import ArgumentError, FileError
from gpucnn.models.signature import Signature
from gpucnn.runs import zoo

EXAMPLES = LAYERS | IMAGES | OBJECTS | BRANCHES


def module_in(path):
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def output_of(module, x):
    """The output for channels-last x, with channels last."""
    import torch

    with torch.no_grad():
        y = module(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))).numpy()
    return np.moveaxis(y, 1, -1)


def assert_agree(model, folder):
    model.export(folder / "m.py")
    exported = module_in(folder / "m.py")
    x = inputs_of(model)
    expected, y = model.predict(x, verbose=0), output_of(exported.load(), x)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    return exported


@torch_here
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_layer_and_activation(name, tmp_path):
    shape, stack = EXAMPLES[name]
    assert_agree(model_of(shape, stack()), tmp_path)


@torch_here
@pytest.mark.parametrize("seed", range(40))
def test_random_models_and_their_weights_back(seed, tmp_path):
    model = random_model(seed)
    network = assert_agree(model, tmp_path).load()
    before = model.get_weights()
    for state in (network.state_dict(), tmp_path / "m.weights.safetensors"):
        randomise(model, seed + 1)
        exchange.torch.load_state_dict(model, state)
        for weight, original in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, original)


@torch_here
@pytest.mark.parametrize("name", zoo.names())
def test_every_model_of_the_zoo(name, tmp_path):
    model = zoo.find(name).build()
    randomise(model)
    for weight in model.weights:
        weight.assign(weight.numpy() * 0.1)
    assert_agree(model, tmp_path)


@torch_here
def test_weights_of_a_network_that_was_written_by_hand(tmp_path, rng):
    import torch
    from safetensors.torch import save_file
    from torch import nn

    convolutions = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.ReLU())
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 3)).eval()
    network[2].running_mean.uniform_(-1, 1), network[2].running_var.uniform_(0.5, 2)
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(epsilon=1e-5), layers.MaxPooling2D(2)]
    stack += [layers.Conv2D(6, 2, activation="relu"), layers.Flatten(), layers.Dense(12, activation="tanh")]
    model = Sequential([Input((8, 8, 2)), *stack, layers.Dense(3)])
    x = rng.normal(size=(4, 8, 8, 2)).astype(np.float32)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    for state in (network.state_dict(), tmp_path / "w.safetensors"):
        randomise(model)
        exchange.torch.load_state_dict(model, state)
        np.testing.assert_allclose(model.predict(x, verbose=0), output_of(network, x), atol=1e-5)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in _by_number(network, model).items()})
    np.testing.assert_allclose(model.predict(x, verbose=0), output_of(network, x), atol=1e-5)


def _by_number(network, model):
    return dict(zip(network.state_dict(), exchange.torch.state_dict(model).values(), strict=True))


def test_the_state_dict_has_pytorchs_layouts_and_is_a_copy():
    model = Sequential([Input((5, 5, 3)), layers.Conv2D(4, (2, 3)), layers.Flatten(), layers.Dense(2)])
    state = exchange.torch.state_dict(model)
    shapes = {name: array.shape for name, array in state.items()}
    assert shapes == {
        "conv2d.weight": (4, 3, 2, 3),
        "conv2d.bias": (4,),
        "dense.weight": (2, 48),
        "dense.bias": (2,),
    }
    before = model.get_weights()
    for array in state.values():
        array[...] = 7
    for weight, original in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, original)


def test_names_in_a_model_cannot_become_code(tmp_path):
    evil = '"""); import os; os.system("true") #'
    model = Sequential([Input((2,)), layers.Dense(2, name=evil)], name=evil)
    model.signature = None
    model.export(tmp_path / "m.py")
    tree = ast.parse((tmp_path / "m.py").read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert "os.system" not in calls and not [n for n in ast.walk(tree) if isinstance(n, ast.Import)]


def test_the_file_reads_like_one_written_by_hand(tmp_path):
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(2)]
    Sequential([Input((8, 8, 1)), *stack]).export(tmp_path / "m.py")
    for line in (
        '("conv2d", nn.Conv2d(1, 4, (3, 3))),',
        '("conv2d_activation", nn.ReLU()),',
        '("max_pooling2d", nn.MaxPool2d((2, 2))),',
        '("flatten", nn.Flatten()),',
        '("dense", nn.Linear(36, 2)),',
    ):
        assert line in (tmp_path / "m.py").read_text(encoding="utf-8")


def test_class_names_are_in_the_file(small_model, tmp_path):
    model = small_model()
    model.signature = Signature(['a"', "二", "c", "d"], (8, 8, 1))
    model.export(tmp_path / "m.py")
    tree = ast.parse((tmp_path / "m.py").read_text(encoding="utf-8"))
    classes = next(n for n in tree.body if isinstance(n, ast.Assign))
    assert ast.literal_eval(classes.value) == ['a"', "二", "c", "d"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.py", "m.weights.safetensors"]


def test_a_program_of_the_user_is_not_replaced(small_model, tmp_path):
    (tmp_path / "mine.py").write_text("print('mine')\n")
    for _ in range(2):
        small_model().export(tmp_path / "m.py")
    with pytest.raises(FileError, match=r"mine\.py exists and is not a file that gpucnn exported"):
        small_model().export(tmp_path / "mine.py")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.py", "m.weights.safetensors", "mine.py"]


def two_dense():
    return Sequential([Input((3,)), layers.Dense(4), layers.Dense(2)])


def tensors(*shapes, names=None):
    words = names or [f"{i}.{w}" for i in range(len(shapes) // 2) for w in ("weight", "bias")]
    return {name: np.zeros(shape, np.float32) for name, shape in zip(words, shapes, strict=True)}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (tensors((4, 3), (4,)), "the state_dict has 1 modules with weights, and the model has 2"),
        (
            tensors((4, 3), (4,), (2, 5), (2,)),
            r"the tensor for dense_1.weight has shape \(2, 5\), and \(2, 4\) is needed",
        ),
        (tensors((4, 3), (2, 4), names=["a.weight", "b.weight"]), "the module a has weight, and the layer dense needs"),
        (np.zeros(3), "needs a dict of tensors or a .safetensors file, and got ndarray"),
        ("weights.pt", "PyTorch's own files can run any program"),
        ("weights.pth", "PyTorch's own files can run any program"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state, words):
    model = two_dense()
    before = model.get_weights()
    with pytest.raises(ArgumentError, match=words):
        exchange.torch.load_state_dict(model, state)
    for weight, original in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, original)


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04text")
    with pytest.raises(FileError, match="is not a safetensors file, or it is damaged"):
        exchange.torch.load_state_dict(two_dense(), tmp_path / "w.safetensors")


def test_what_the_layer_lacks_must_be_constant(tmp_path):
    model = Sequential([Input((3,)), layers.BatchNormalization(scale=False)])
    state = {f"bn.{word}": np.ones(3, np.float32) for word in ("weight", "bias", "running_mean", "running_var")}
    exchange.torch.load_state_dict(model, state)
    state["bn.weight"][1] = 2
    with pytest.raises(ArgumentError, match=r"the layer has nothing that batch_normalization\.weight could be"):
        exchange.torch.load_state_dict(model, state)


@torch_here
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, True), (False, False)])
def test_networks_whose_normalisations_have_no_scale_or_shift(center, scale, tmp_path, rng):
    import torch
    from safetensors.torch import save_file
    from torch import nn

    affine = center and scale  # all but the LayerNorm of PyTorch have both or neither
    how, parts = ({"epsilon": 1e-5, "center": c, "scale": s} for c, s in ((affine, affine), (center, scale)))
    stack = [layers.Conv2D(4, 3), layers.BatchNormalization(**how), layers.GroupNormalization(2, **how)]
    stack += [layers.Flatten(), layers.Dense(5), layers.LayerNormalization(**parts), layers.Dense(3)]
    model = Sequential([Input((6, 6, 2)), *stack])
    rows = nn.LayerNorm(5, elementwise_affine=scale, bias=center)
    convolution = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.GroupNorm(2, 4, affine=affine))
    network = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(64, 5), rows, nn.Linear(5, 3)).eval()
    network[1].running_mean.uniform_(-1, 1), network[1].running_var.uniform_(0.5, 2)
    x = rng.normal(size=(4, 6, 6, 2)).astype(np.float32)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    for state in (network.state_dict(), tmp_path / "w.safetensors"):
        randomise(model)
        exchange.torch.load_state_dict(model, state)
        np.testing.assert_allclose(model.predict(x, verbose=0), output_of(network, x), atol=1e-5)
    model.export(tmp_path / "m.py")
    exported = module_in(tmp_path / "m.py").load()
    assert [p.shape for p in exported.parameters()] == [p.shape for p in network.parameters()]
    randomise(model, 1)
    state = {key: torch.from_numpy(array) for key, array in _by_number(network, model).items()}
    network.load_state_dict(state)
    np.testing.assert_allclose(model.predict(x, verbose=0), output_of(network, x), atol=1e-5)


def test_a_shift_that_the_network_lacks_is_named():
    model = Sequential([Input((3,)), layers.Dense(4), layers.LayerNormalization(scale=False)])
    state = tensors((4, 3), (4,)) | {"1.weight": np.ones(4, np.float32)}
    with pytest.raises(ArgumentError, match=r"the module 1 has weight, and the layer layer_normalization needs bias"):
        exchange.torch.load_state_dict(model, state)
    with pytest.raises(ArgumentError, match="has 1 modules with weights, and the model has 2 layers with weights"):
        exchange.torch.load_state_dict(model, tensors((4, 3), (4,)))


def test_layers_of_the_user_are_refused_by_name(tmp_path):
    class Double(layers.Dense):
        pass

    for layer, words in [
        (Double(2, name="mine"), r"the layer mine \(Double\) cannot be written for PyTorch"),
        (layers.Dense(2, activation=lambda x: (x, lambda dy: dy), name="own"), "own: the activation"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            Sequential([Input((4, 4, 4)), layer]).export(tmp_path / "m.py")
    assert list(tmp_path.iterdir()) == []
