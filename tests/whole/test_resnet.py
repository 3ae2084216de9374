"""A small residual network on CIFAR-10: its losses are those of PyTorch, step by step."""

import importlib.util
import os

import numpy as np
import pytest
from needs import torch_here

from gpucnn import Input, Sequential, datasets, layers, losses, optimizers, utils

STEPS, BATCH = int(os.environ.get("GPUCNN_TEST_STEPS", "30")), 64


def block(filters, strides=1):
    plain = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    body = [
        layers.Conv2D(filters, 3, strides=strides, **plain),
        layers.BatchNormalization(epsilon=1e-5),
        layers.ReLU(),
        layers.Conv2D(filters, 3, **plain),
        layers.BatchNormalization(epsilon=1e-5),
    ]
    shortcut = None if strides == 1 else [layers.Conv2D(filters, 1, strides=strides, **plain)]
    return [layers.Residual(body, shortcut), layers.ReLU()]


def resnet():
    """Eight convolutions: He, Zhang, Ren, Sun, CVPR 2016, section 4.2, with one block for each size."""
    utils.set_random_seed(0)
    return Sequential(
        [
            Input((32, 32, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer="he_normal"),
            *block(16),
            *block(32, strides=2),
            *block(64, strides=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def losses_of_torch(path, x, y):
    """The losses of the exported module, trained by PyTorch."""
    import torch

    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load().train()
    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    seen = []
    for start in range(0, len(x), BATCH):
        images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[start : start + BATCH], -1, 1)))
        loss = torch.nn.functional.cross_entropy(network(images), torch.from_numpy(y[start : start + BATCH]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return seen


@torch_here
@pytest.mark.filterwarnings("ignore:cifar10")  # a copy of CIFAR-10 serves as well
def test_the_losses_of_a_residual_network_are_those_of_pytorch(tmp_path):
    if not os.environ.get("GPUCNN_DATA"):
        pytest.skip("needs CIFAR-10: GPUCNN_DATA=folder")
    (x, y), _ = datasets.cifar10.load_data()
    order = np.random.default_rng(0).permutation(len(x))[: STEPS * BATCH]
    x, y = x[order].astype(np.float32) / 255, y[order].reshape(-1).astype(np.int64)
    model = resnet()
    model.export(tmp_path / "resnet.py")
    expected = losses_of_torch(tmp_path / "resnet.py", x, y)
    model.compile(optimizers.SGD(0.05, momentum=0.9), losses.SparseCategoricalCrossentropy(from_logits=True))
    each = []
    for start in range(0, len(x), BATCH):
        model.reset_metrics()
        each.append(model.train_on_batch(x[start : start + BATCH], y[start : start + BATCH]))
    print(f"\nsteps {len(each)}: gpucnn {each[:3]} … {np.mean(each[-10:]):.4f}, PyTorch {np.mean(expected[-10:]):.4f}")
    np.testing.assert_allclose(each[:3], expected[:3], rtol=1e-3)
    assert abs(np.mean(each[-10:]) - np.mean(expected[-10:])) < 0.1
    assert np.mean(each[-10:]) < np.mean(each[:3])
