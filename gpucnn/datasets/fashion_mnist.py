"""Fashion-MNIST: 60,000 + 10,000 grey images of clothes, 28×28 (Xiao et al., arXiv:1708.07747)."""

from __future__ import annotations

from . import idx
from .dataset import Pair, keras_pairs
from .published import load
from .source import Folder, Source, declare

SOURCE = declare(
    Source(
        name="fashion_mnist",
        about="60,000 + 10,000 pieces of clothing, 28×28 grey",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        files=tuple(f"{stem}.gz" for stem in idx.STEMS),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        hashes={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "."),
        find=idx.find,
        read=idx.read_set,
    )
)


def load_data(*, data_dir: Folder = None) -> tuple[Pair, Pair]:
    """`(x_train, y_train), (x_test, y_test)` as in Keras, uint8: 60,000 and 10,000 of (N, 28, 28).

    Looks for the files in `data_dir` (default: GPUCNN_DATA), in the user cache and where Keras and
    torchvision keep them, and downloads them if they are not found. Raises `DataError` if neither
    works or a file is damaged.
    """
    return keras_pairs(load(SOURCE, data_dir))
