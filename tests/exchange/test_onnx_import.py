"""An ONNX file becomes a model that computes what the file says."""

import numpy as np
import pytest
from examples import BRANCHES, IMAGES, LAYERS, OBJECTS, inputs_of, model_of, random_model, randomise
from needs import onnx_here, torch_here
from onnx_files import onnx_file

from gpucnn import exchange, layers, models
from gpucnn.errors import FileError
from gpucnn.models.signature import Signature
from gpucnn.runs import zoo

pytestmark = onnx_here
EXAMPLES = LAYERS | IMAGES | OBJECTS | BRANCHES


def assert_equal_outputs(model, other, x):
    expected, y = model.predict(x, verbose=0), other.predict(x, verbose=0)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_exported_comes_back(name, tmp_path):
    shape, stack = EXAMPLES[name]
    model = model_of(shape, stack())
    model.export(tmp_path / "m.onnx")
    assert_equal_outputs(model, models.load_model(tmp_path / "m.onnx"), inputs_of(model))


@pytest.mark.parametrize("seed", range(60))
def test_random_models_come_back(seed, tmp_path):
    model = random_model(seed)
    model.export(tmp_path / "m.onnx")
    assert_equal_outputs(model, models.load_model(tmp_path / "m.onnx"), inputs_of(model))


@pytest.mark.parametrize("name", zoo.names())
def test_models_of_the_zoo_come_back_with_the_layers_that_compute(name, tmp_path):
    model = zoo.find(name).build()
    randomise(model)
    model.export(tmp_path / "m.onnx")
    loaded = models.load_model(tmp_path / "m.onnx")
    kept = [layer for layer in model.layers if not isinstance(layer, layers.Dropout)]
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in kept]
    for layer, original in zip(loaded.layers, kept, strict=True):
        assert getattr(layer, "activation", None) is getattr(original, "activation", None)
    for weight, original in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), original.numpy())


def test_classes_and_preparation_come_back(small_model, tmp_path, rng):
    model = small_model()
    model.signature = Signature(list("abcd"), (8, 8, 1), divisor=200.0, invert=True)
    model.export(tmp_path / "m.onnx")
    assert models.load_model(tmp_path / "m.onnx").signature == model.signature
    model.export(tmp_path / "raw.onnx", prepare=True)
    raw = models.load_model(tmp_path / "raw.onnx")
    assert raw.signature == Signature(list("abcd"), (8, 8, 1), divisor=1.0)
    x = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    expected = model.predict(model.signature.scaled(255 - x), verbose=0)
    np.testing.assert_allclose(raw.predict(np.float32(x), verbose=0), expected, atol=1e-5, rtol=0)


def test_the_products_of_a_resizing_become_the_layer_and_others_are_refused(tmp_path):
    shape, stack = IMAGES["resizing"]
    model = model_of(shape, stack())
    model.export(tmp_path / "m.onnx")
    resizing, _ = models.load_model(tmp_path / "m.onnx").layers
    assert (type(resizing), resizing.height, resizing.width) == (layers.Resizing, 9, 4)
    left = np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]
    nodes = [("MatMul", ["w", "x"], ["y"], {})]
    with pytest.raises(FileError, match=r"from the left, which is not the interpolation of the layer Resizing"):
        models.load_model(onnx_file(tmp_path / "w.onnx", nodes, [("w", left)], (None, 3, 4, 4), (None, 3, 4, 4)))


@pytest.mark.parametrize("target", [(0, -1), (-1, 12), (0, 12), (0, 3, -1), (-1, 2, 6), (0, 0, 4)])
def test_shapes_that_keep_the_samples_are_layers(tmp_path, rng, target):
    nodes = [("Reshape", ["x", "s"], ["y"], {})]
    path = onnx_file(tmp_path / "m.onnx", nodes, [("s", np.array(target, np.int64))], x=(None, 3, 4))
    x = rng.normal(size=(5, 3, 4)).astype(np.float32)
    extents = [5 if not i else (n or x.shape[i]) for i, n in enumerate(target)]
    np.testing.assert_array_equal(models.load_model(path).predict(x, verbose=0), x.reshape(extents))


# -- files of PyTorch --------------------------------------------------------------------------------------------------


def networks():
    """(name, module, shape of an input) of networks that a Sequential can say."""
    from torch import nn

    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = nn.Conv2d(2, 3, 2), nn.Linear(36, 2)

        def forward(self, x):
            x = self.conv(x).relu()
            return self.dense(x.view(x.size(0), -1))

    yield (
        "images",
        nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, stride=2, padding=1)),
            *(nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 10)),
            *(nn.BatchNorm1d(10), nn.Softmax(1)),
        ),
        (3, 8, 8),
    )
    yield (
        "rows",
        nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.BatchNorm1d(216), nn.Linear(216, 10), nn.Hardswish())
        ),
        (3, 8, 8),
    )
    yield (
        "activations",
        nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Mish(), nn.ELU(), nn.CELU(1.2), nn.SELU(), nn.LeakyReLU(0.2)),
            *(nn.ReLU6(), nn.Tanh(), nn.Hardsigmoid(), nn.Softplus(), nn.Softsign(), nn.GELU("tanh")),
            *(nn.Tanhshrink(), nn.Hardtanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        ),
        (3, 8, 8),
    )
    yield (
        "groups",
        nn.Sequential(
            *(nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.Conv2d(8, 6, 1, groups=2), nn.AvgPool2d(2, padding=1)),
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
        ),
        (4, 9, 9),
    )
    yield (
        "sequences",
        nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.ReLU(), nn.MaxPool1d(3, 2, 1), nn.Flatten(), nn.Linear(24, 2)),
        (2, 20),
    )
    yield "volumes", nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten()), (2, 9, 9, 9)
    yield "log sigmoid", nn.Sequential(nn.Linear(5, 4), nn.LogSigmoid()), (5,)
    yield "shrinking", nn.Sequential(nn.Linear(5, 4), nn.Hardshrink(0.3), nn.Linear(4, 4), nn.Softshrink(0.2)), (5,)
    yield "shrinking as usual", nn.Sequential(nn.Conv2d(2, 3, 2), nn.Hardshrink(), nn.Softshrink()), (2, 4, 4)
    yield "view", Viewed(), (2, 4, 5)
    yield "vectors", nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 3, bias=False)), (5,)


@pytest.mark.parametrize("cast", [1, 9])
def test_a_size_that_is_not_of_samples_alone_and_a_condition_as_numbers_are_refused(tmp_path, cast):
    sizes = [("zero", np.array(0)), ("one", np.array([1])), ("axes", np.array([0]))]
    nodes = [
        ("Shape", ["x"], ["s"], {}),
        ("Gather", ["s", "zero"], ["n"], {}),
        ("Unsqueeze", ["n", "axes"], ["m"], {}),
        ("Concat", ["one", "m"], ["t"], {"axis": 0}),
        ("Reshape", ["x", "t"], ["y"], {}),
    ]
    with pytest.raises(FileError, match="layers do not change the number of samples"):
        models.load_model(onnx_file(tmp_path / "s.onnx", nodes, sizes))
    nodes = [
        ("Greater", ["x", "zero"], ["c"], {}),
        ("Cast", ["c"], ["d"], {"to": cast}),
        ("Mul", ["x", "d"], ["y"], {}),
    ]
    words = "does not convert to floats" if cast == 1 else "not an activation of gpucnn"
    with pytest.raises(FileError, match=words):
        models.load_model(onnx_file(tmp_path / "c.onnx", nodes, [("zero", np.float32(0))]))


@torch_here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_of_pytorch_give_the_outputs_of_pytorch(tmp_path):
    import torch

    torch.manual_seed(0)
    for name, network, shape in networks():
        for module in network.eval().modules():
            if getattr(module, "running_var", None) is not None:
                module.running_var.uniform_(0.5, 2), module.running_mean.uniform_(-1, 1)
        x = torch.randn(2, *shape)
        path = tmp_path / f"{name}.onnx"
        batches = {"dynamic_axes": {"input": {0: "n"}}, "input_names": ["input"]}
        torch.onnx.export(network, (x,), path, dynamo=False, **batches)
        y = network(x).detach().numpy()
        np.testing.assert_allclose(models.load_model(path).predict(x.numpy(), verbose=0), y, atol=1e-5, err_msg=name)
        last = exchange.onnx.load(path, channels_last=True)
        images = np.ascontiguousarray(np.moveaxis(x.numpy(), 1, -1))
        np.testing.assert_allclose(last.predict(images, verbose=0), y, atol=1e-5, err_msg=name)


def branching():
    """(name, module) of networks with branches, for inputs of shape (3, 8, 8)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width, stride=1):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, width, 3, stride, 1), nn.Conv2d(width, width, 3, 1, 1)
            self.norm = nn.BatchNorm2d(width)
            self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(3, width, 1, stride)

        def forward(self, x):
            return torch.relu(self.norm(self.second(torch.relu(self.first(x)))) + self.shortcut(x))

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.towers = nn.ModuleList(nn.Conv2d(3, 2, size, padding="same") for size in (1, 3, 5))

        def forward(self, x):
            return torch.cat([*(nn.functional.gelu(tower(x)) for tower in self.towers), x], 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.last = nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(6, 1, 1)

        def forward(self, x):
            return self.last(torch.cat([x, self.up(self.down(x).relu())], 1)).sigmoid()

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(192, 192)

        def forward(self, x):
            x = x.flatten(1)
            return x + torch.tanh(self.dense(x))

    yield "resnet", nn.Sequential(Block(3), Block(5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    yield "towers", nn.Sequential(nn.Conv2d(3, 3, 3), Towers(), nn.Flatten(), nn.Linear(9 * 36, 2))
    yield "u-net", Net()
    yield "rows", Rows()


@torch_here
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_branches_of_pytorch_become_blocks(tmp_path):
    import torch

    torch.manual_seed(0)
    for name, network in branching():
        x, path = torch.randn(2, 3, 8, 8), tmp_path / f"{name}.onnx"
        torch.onnx.export(network.eval(), (x,), path, dynamo=False)
        loaded = models.load_model(path)
        assert any(layer.inner for layer in loaded.layers), name
        y = network(x).detach().numpy()
        np.testing.assert_allclose(loaded.predict(x.numpy(), verbose=0), y, atol=1e-5, err_msg=name)


CONV = ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1]})
CROSSING = {
    "one path is used twice": (
        [CONV, ("Add", ["x", "a"], ["b"], {}), ("Add", ["a", "b"], ["y"], {})],
        r"\(Add\) merges paths that cross",
    ),
    "a product": ([CONV, ("Mul", ["x", "a"], ["y"], {})], "the graph branches"),
    "rows behind each other": (
        [CONV, ("Concat", ["x", "a"], ["y"], {"axis": 2})],
        "works along axis 2",
    ),
    "samples behind each other": ([CONV, ("Concat", ["x", "a"], ["y"], {"axis": 0})], "works along axis 0"),
    "other shapes": (
        [("Conv", ["x", "w"], ["a"], {}), ("Add", ["x", "a"], ["y"], {})],
        r"results of shapes .* cannot be merged by 'add'",
    ),
    "depth without end": (
        [
            node
            for i in range(40)
            for node in (
                ("Conv", [f"t{i}" if i else "x", "w"], [f"c{i}"], {"pads": [1, 1, 1, 1]}),
                ("Add", ["x", f"c{i}"], [f"t{i + 1}" if i < 39 else "y"], {}),
            )
        ],
        "inside each other more than 16 deep",
    ),
}


@pytest.mark.parametrize("name", CROSSING)
def test_other_branches_are_refused_with_the_node(name, tmp_path):
    nodes, words = CROSSING[name]
    weights = [("w", np.ones((3, 3, 3, 3), np.float32))]
    with pytest.raises(FileError, match=words):
        models.load_model(onnx_file(tmp_path / "m.onnx", nodes, weights, (None, 3, 6, 6), (None, None, 6, 6)))
