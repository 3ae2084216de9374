"""One image file becomes the array that a model expects, or an error says what is wrong."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gpucnn import datasets
from gpucnn.datasets import images
from gpucnn.errors import DataError, FileError


@pytest.fixture
def save(tmp_path):
    def save(array, name="image.png", **options):
        path = tmp_path / name
        image = array if isinstance(array, Image.Image) else Image.fromarray(array)
        image.save(path, **options)
        return path

    return save


def stroke(height=28, width=28, top=4, bottom=24, left=12, right=16):
    """A bright bar on a dark background."""
    field = np.zeros((height, width), np.uint8)
    field[top:bottom, left:right] = 255
    return field


def centre_of_mass(field):
    weights = field.astype(np.float64)
    return [(weights.sum(axis=1 - axis) @ np.arange(field.shape[axis])) / weights.sum() for axis in range(2)]


def test_grey_png_is_read_unchanged(save, rng):
    pixels = rng.integers(0, 256, (5, 7)).astype(np.uint8)
    read = images.read(save(pixels), (5, 7, 1))
    np.testing.assert_array_equal(read[:, :, 0], pixels)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous


def test_rgb_png_is_read_unchanged_and_str_paths_are_taken(save, rng):
    pixels = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(images.read(str(save(pixels)), (5, 7, 3)), pixels)


def test_jpeg_of_one_tone_keeps_it(save):
    read = images.read(save(np.full((16, 16), 77, np.uint8), "image.JPG"), (16, 16, 1))
    assert abs(read.astype(int) - 77).max() <= 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("image.webp", {"lossless": True}),
        ("image.bmp", {}),
        ("image.tif", {}),
        ("image.TIFF", {"compression": "tiff_lzw"}),
        ("image.gif", {}),
        ("image.png", {}),
    ],
)
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_every_format_gives_the_pixels_that_pillow_gives(save, rng, name, options, shape):
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    path = save(pixels, name, **options)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(images.read(path, (5, 7, 3)), expected)
    assert images.size(path) == images.decode(path, "it").shape
    if name != "image.gif":
        np.testing.assert_array_equal(
            images.decode(path, "it").squeeze(), expected if len(shape) == 3 or "webp" in name else pixels
        )


@pytest.mark.parametrize("name", ["image.gif", "image.webp", "image.tif"])
def test_of_several_frames_the_first_is_read(save, name):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    path = save(frames[0], name, save_all=True, append_images=frames[1:])
    red, green, _ = images.read(path, (4, 4, 3))[0, 0].tolist()
    assert red > 150 and green < 50


@pytest.mark.parametrize(("mode", "values"), [("I;16", [[0, 256, 65535]]), ("I", [[0, 256, 65535]])])
def test_a_tiff_of_16_bits_is_scaled_and_not_clipped(save, mode, values):
    array = np.array(values, np.uint16 if mode == "I;16" else np.int32)
    assert images.read(save(array, "image.tif"), (1, 3, 1)).ravel().tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0, 70000]], np.int32), "has values of 0 … 70000: save it with 8 or 16 bits"),
        (np.array([[-1, 7]], np.int32), "has values of -1 … 7"),
        (np.array([[0.0, 0.5]], np.float32), "has floating-point values: save it with 8 or 16 bits"),
    ],
)
def test_a_tiff_whose_values_have_no_range_is_refused(save, array, message):
    path = save(array, "image.tif")
    with pytest.raises(DataError, match=message):
        images.read(path, (1, 2, 1))


def test_formats_that_run_a_program_or_are_not_images_are_not_opened(save, tmp_path):
    path = save(Image.new("RGB", (4, 4)), "image.eps")
    for name in ("image.png", "image.eps"):
        path.rename(tmp_path / name)
        with pytest.raises(DataError, match="is not a PNG, JPEG, WebP, BMP, TIFF or GIF image"):
            images.read(tmp_path / name, (4, 4, 3))
        path = tmp_path / name


def test_grey_becomes_rgb_by_repetition_and_rgb_becomes_grey_by_luma(save, rng):
    grey = rng.integers(0, 256, (4, 4)).astype(np.uint8)
    np.testing.assert_array_equal(images.read(save(grey), (4, 4, 3)), np.repeat(grey[:, :, None], 3, axis=2))
    colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert (images.read(save(colour), (4, 4, 1)) == luma).all()
    np.save(save(colour).with_suffix(".npy"), colour)
    assert (images.read(save(colour).with_suffix(".npy"), (4, 4, 1)) == luma).all()


def test_transparent_parts_are_white(save):
    for mode, colour in (("RGBA", (10, 20, 30, 0)), ("LA", (10, 0))):
        assert (images.read(save(Image.new(mode, (3, 3), colour)), (3, 3, 1)) == 255).all()
    palette = Image.new("P", (3, 3), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (images.read(save(palette, transparency=1), (3, 3, 1)) == 255).all()
    assert (images.read(save(palette), (3, 3, 1)) == 9).all()


def test_images_of_16_bits_are_scaled_and_not_clipped(save):
    pixels = np.array([[0, 256, 65535], [40000, 255, 512]], np.uint16)
    np.testing.assert_array_equal(images.read(save(pixels), (2, 3, 1))[:, :, 0], [[0, 1, 255], [156, 0, 2]])


def test_bilevel_images_become_black_and_white(save):
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert images.read(save(image), (1, 2, 1)).ravel().tolist() == [0, 255]


@pytest.mark.parametrize(("orientation", "shape"), [(1, (4, 8, 1)), (3, (4, 8, 1)), (6, (8, 4, 1)), (8, (8, 4, 1))])
def test_photographs_are_turned_upright(save, orientation, shape):
    exif = Image.Exif()
    exif[0x0112] = orientation
    field = np.zeros((4, 8), np.uint8)
    field[:, :4] = 200  # the left half is bright; on a camera turned so, it is the right, upper or lower one
    path = save(field, "image.jpg", exif=exif, quality=95)
    assert images.size(path) == shape
    upright = images.decode(path, "it")
    assert upright.shape == shape
    bright = {1: upright[:, :4], 3: upright[:, 4:], 6: upright[:4], 8: upright[4:]}[orientation]
    assert bright.min() > 150


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)]
)
def test_size_from_the_header_agrees_with_the_decoded_image(save, mode, channels):
    path = save(Image.new(mode, (6, 4)))
    assert images.size(path) == (4, 6, channels) == images.decode(path, "it").shape


def test_resizing_means_over_the_area_and_stretches(save):
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    read = images.read(save(checks.astype(np.uint8)), (8, 4, 1))
    assert read.shape == (8, 4, 1)
    assert abs(read.astype(int) - 127).max() <= 4
    assert (images.read(save(np.full((3, 9), 200, np.uint8)), (7, 5, 3)) == 200).all()


def test_invert_turns_dark_into_light(save):
    assert images.read(save(np.array([[0, 200]], np.uint8)), (1, 2, 1), invert=True).ravel().tolist() == [255, 55]


def test_nothing_is_inverted_or_centred_by_default(save):
    field = 255 - stroke(left=2, right=6)
    np.testing.assert_array_equal(images.read(save(field), (28, 28, 1))[:, :, 0], field)


# centring


@pytest.mark.parametrize("shift", [(0, 0), (3, -8), (-3, 9)])
def test_centre_brings_a_digit_to_the_middle_wherever_it_was(save, shift):
    field = np.roll(stroke(), shift, axis=(0, 1))
    read = images.read(save(field), (28, 28, 1), centre=True)[:, :, 0]
    np.testing.assert_array_equal(read, stroke())
    assert np.abs(np.subtract(centre_of_mass(read), 14)).max() <= 0.5


@pytest.mark.parametrize("factor", [1, 3, 10])
def test_centre_fits_a_digit_of_any_size_into_20_by_20_with_its_proportions(save, factor):
    field = np.kron(stroke(40, 60, 5, 35, 10, 25), np.ones((factor, factor), np.uint8))
    read = images.read(save(field), (28, 28, 1), centre=True)[:, :, 0]
    rows, columns = (np.flatnonzero(read.any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 10)
    assert read.max() == 255


def test_a_photographed_digit_becomes_light_ink_on_black(save, rng):
    photo = np.full((300, 200), 180.0)
    photo[60:200, 90:120] = 60
    photo += rng.normal(0, 8, photo.shape)
    path = save(np.clip(photo, 0, 255).astype(np.uint8), "photo.jpg", quality=90)
    read = images.read(path, (28, 28, 1), invert=True, centre=True)[:, :, 0]
    expected = stroke(left=12, right=16)
    assert (read[expected == 0] == 0).mean() > 0.95
    assert read[expected > 0].mean() > 200
    assert images.read(path, (28, 28, 3), invert=True, centre=True).shape == (28, 28, 3)


def test_centre_keeps_a_digit_within_the_field(save):
    field = np.zeros((40, 40), np.uint8)
    field[0:40, 0:2] = 255
    field[36:40, 0:10] = 255
    read = images.centred(field, 28, 28)
    assert (read > 0).any(axis=1).sum() == 20
    wide = images.centred(field.T.copy(), 20, 32)
    assert wide.shape == (20, 32)


def test_centre_refuses_what_is_flat_dark_on_light_or_specks(save):
    with pytest.raises(DataError, match="one flat tone"):
        images.read(save(np.full((9, 9), 130, np.uint8)), (28, 28, 1), centre=True)
    with pytest.raises(DataError, match=r"image\.png shows dark on light.*invert"):
        images.read(save(255 - stroke()), (28, 28, 1), centre=True)
    specks = np.zeros((1500, 1500), np.uint8)
    specks[0, 0] = specks[1499, 1499] = 255
    with pytest.raises(DataError, match="specks far apart"):
        images.centred(specks, 28, 28)


def test_centring_does_not_write_into_its_input():
    field = stroke()
    field.flags.writeable = False
    images.centred(field, 28, 28)


# .npy


def test_npy_of_floats_keeps_its_values(tmp_path, rng):
    array = rng.normal(size=(4, 5, 3)).astype(np.float64)
    np.save(tmp_path / "x.npy", array)
    read = images.read(tmp_path / "x.npy", (4, 5, 3))
    np.testing.assert_array_equal(read, array.astype(np.float32))
    assert read.dtype == np.float32


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (1, 4, 5, 1)])
def test_npy_may_leave_out_the_channels_or_have_a_batch_of_one(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.uint8).reshape(shape))
    read = images.read(tmp_path / "x.npy", (4, 5, 1))
    assert read.ravel().tolist() == list(range(20))


def test_npy_of_uint8_is_resized_and_inverted_as_an_image(tmp_path):
    np.save(tmp_path / "x.npy", np.full((8, 8), 250, np.uint8))
    assert (images.read(tmp_path / "x.npy", (4, 4, 3), invert=True) == 5).all()


def test_npy_of_uint8_with_the_channels_of_the_shape_is_read_whatever_their_number(tmp_path):
    array = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(images.read(tmp_path / "x.npy", (2, 4, 4)), array)
    with pytest.raises(DataError, match="has 4 channels, not 1"):
        images.read(tmp_path / "x.npy", (2, 4, 1))


def test_npy_of_floats_is_inverted_within_0_and_1_only(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.0, 0.25]]))
    assert images.read(tmp_path / "x.npy", (1, 2, 1), invert=True).ravel().tolist() == [1.0, 0.75]
    np.save(tmp_path / "x.npy", np.array([[0.0, 250.0]]))
    with pytest.raises(DataError, match=r"0 … 250: only floats of 0 … 1"):
        images.read(tmp_path / "x.npy", (1, 2, 1), invert=True)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(4, np.uint8), r"shape \(4,\): one image"),
        (np.zeros((2, 4, 5, 1), np.uint8), r"shape \(2, 4, 5, 1\): one image"),
        (np.zeros((4, 5), np.int64), "holds int64"),
        (np.zeros((4, 6), np.float32), "only uint8 is resized and centred"),
        (np.full((4, 5), np.inf), "not finite"),
        (np.array([[{}]]), "holds Python objects"),
    ],
)
def test_npy_that_is_not_an_image_says_what_is_wrong(tmp_path, array, word):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=word):
        images.read(tmp_path / "x.npy", (4, 5, 1))


# damaged and hostile files


def test_file_that_is_missing_or_not_an_image_is_named(tmp_path):
    with pytest.raises(FileError, match=r"x\.png cannot be read"):
        images.read(tmp_path / "x.png", (4, 4, 1))
    (tmp_path / "x.png").write_bytes(b"<html>" + bytes(30))
    with pytest.raises(DataError, match=r"x\.png is not a PNG, JPEG, WebP, BMP, TIFF or GIF image"):
        images.read(tmp_path / "x.png", (4, 4, 1))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.bmp", "x.gif", "x.tif"])
def test_image_cut_anywhere_is_an_error(save, rng, name):
    path = save(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8), name)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 20, 9):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=name):
            images.read(path, (8, 8, 3))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.bmp", "x.gif", "x.tif"])
def test_image_with_any_byte_changed_is_an_image_or_a_gpucnn_error(save, rng, name):
    path = save(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8), name)
    whole = path.read_bytes()
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xA5]) + whole[position + 1 :])
        with contextlib.suppress(DataError, FileError):
            assert images.read(path, (8, 8, 3)).shape == (8, 8, 3)


def test_image_that_unpacks_to_an_absurd_size_is_refused():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match="bomb"):
        images.decode(io.BytesIO(png), "it")


def test_channels_other_than_grey_and_rgb_are_refused(save):
    with pytest.raises(DataError, match="not to 4 channels"):
        images.read(save(np.zeros((4, 4), np.uint8)), (4, 4, 4))


def test_digits_are_centred_as_those_of_their_data_set():
    field = np.zeros((100, 100), np.uint8)
    field[10:70, 30:40] = field[60:70, 30:60] = 255  # an L, whose centre of mass is not that of its bounds
    embedded, mnist = (datasets.centring(name) for name in ("digits", "mnist"))
    read = images.read(field, (28, 28, 1), centre=embedded)[:, :, 0]
    rows, columns = (np.flatnonzero(read.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 25, 8, 19)
    assert np.abs(np.subtract(centre_of_mass(read), 14)).min() > 1
    assert (images.read(field, (28, 28, 1), centre=mnist) == images.read(field, (28, 28, 1), centre=True)).all()
    x = datasets.digits.load_data()[0][0]
    assert np.mean([x[:, row].any(axis=1).mean() for row in (2, 25)]) > 0.95 > x[:, 1].any(axis=1).mean() == 0.0
    assert datasets.centring("cifar10") is None


def test_centre_keeps_the_soft_edge_of_the_ink():
    field = stroke(top=5, bottom=23, left=13, right=15)
    field[4:24, 12:16] = np.maximum(field[4:24, 12:16], 60)
    np.testing.assert_array_equal(images.centred(field, 28, 28), field)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["x.png", "x.npy"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileError, match="it is not a regular file"):
        images.read(tmp_path / name, (4, 4, 1))
