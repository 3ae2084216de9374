"""The sheet of the classic filters, as a shell sees it."""

import pathlib

import numpy as np
import pytest
from command import gpucnn
from PIL import Image

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_filters_draws_a_sheet_next_to_nothing_else(rng):
    Image.fromarray(rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)).save("photo.jpg")
    result = gpucnn("filters", "photo.jpg")
    assert (result.exit_code, result.stdout) == (0, "photo-filters.png\n")
    with Image.open("photo-filters.png") as sheet:
        assert sheet.format == "PNG" and sheet.size[0] > 1000
    named = gpucnn("filters", "photo.jpg", "--out", "sheets/a.png")
    assert (named.exit_code, "there is no folder sheets; make it first" in named.stderr) == (1, True)
    assert gpucnn("filters", "photo.jpg", "--out", "a.png").stdout == "a.png\n"
    assert sorted(path.name for path in pathlib.Path().glob("*.*")) == ["a.png", "photo-filters.png", "photo.jpg"]


def test_filters_takes_what_predict_takes(rng):
    np.save("digit.npy", rng.integers(0, 256, (28, 28)).astype(np.uint8))
    Image.new("L", (2000, 1000), 128).save("large.png")
    assert gpucnn("filters", "digit.npy").stdout == "digit-filters.png\n"
    assert gpucnn("filters", "large.png").stdout == "large-filters.png\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.png"], "gone.png cannot be read: No such file or directory"),
        (["text.png"], "text.png is not a PNG, JPEG, WebP, BMP, TIFF or GIF image: convert it first"),
        (["odd.npy"], "odd.npy has shape (5,): one image (H, W) or (H, W, C) is required"),
        (["five.npy"], "five.npy has 5 channels: give a grey or an RGB image"),
        (["bright.npy"], "bright.npy has values outside 0 … 1: give floats of 0 … 1, or uint8 of 0 … 255"),
        (["good.png", "--out", "a.jpg"], "a.jpg: pictures are PNG files; give a name that ends in .png"),
        (["good.png", "--out", "good.png"], "good.png is the image itself: give the sheet another name"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_line(arguments, message):
    pathlib.Path("text.png").write_text("not an image")
    np.save("odd.npy", np.zeros(5, np.uint8))
    np.save("five.npy", np.zeros((4, 4, 5), np.uint8))
    np.save("bright.npy", np.full((4, 4), 255.0))
    Image.new("L", (28, 28)).save("good.png")
    before = sorted(pathlib.Path().iterdir())
    result = gpucnn("filters", *arguments)
    assert result.exit_code in (1, 2) and result.stdout == ""
    assert result.stderr.startswith(f"gpucnn: error: {message}") and result.stderr.count("\n") == 1
    assert sorted(pathlib.Path().iterdir()) == before
