"""One image file as the array that a model expects: grey or RGB, resized, optionally centred."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import DataError, FileError
from ..files import check_regular
from . import npz

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The formats that are read, as Pillow calls them; of several frames or pages, the first is read."""

KINDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
"""The same in words."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
"""The suffixes of image files, in upper or lower case."""

_ORIENTATION = 0x0112
"""The EXIF tag for the orientation of the camera; with 5 … 8 it was held on its side."""


class Centring(NamedTuple):
    """How the digits of a data set lie in their images.

    share    how much of the field the longer side of a digit fills
    by_mass  whether its centre of mass is in the centre of the field; otherwise the centre of its bounds
    """

    share: float
    by_mass: bool


AS_IN_MNIST = Centring(20 / 28, by_mass=True)
"""After LeCun, Cortes, Burges, "The MNIST database of handwritten digits"."""


def read(
    source: str | os.PathLike[str] | IO[bytes] | Image | np.ndarray,
    shape: tuple[int, int, int],
    *,
    invert: bool = False,
    centre: bool | Centring = False,
) -> np.ndarray:
    """One image as an array of `shape` (H, W, C), C = 1 for grey or 3 for RGB.

    source  a path, an open binary file, a Pillow image, or an array as in a .npy file

    The formats in `KINDS`, and arrays of uint8, give uint8 values of 0 … 255; transparent parts
    count as white, and the image is stretched to H × W. An array of floats keeps its values as
    float32 and must already have the shape, of which the channel axis may be missing. `invert` turns
    dark on light into light on dark, `centre` applies `centred`, as in MNIST if it is True. Raises
    `DataError` for anything else, `FileError` if the file cannot be read.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, shape, invert, centre, "the image")
    if not isinstance(source, (str, os.PathLike)):
        return _shaped(decode(source, "the image", None if centre else shape[2]), shape, invert, centre, "the image")
    path = Path(source)
    if path.suffix.lower() == ".npy":
        return _from_array(npz.read_array(path), shape, invert, centre, str(path))
    return _shaped(decode(path, str(path), None if centre else shape[2]), shape, invert, centre, str(path))


def _from_array(
    array: np.ndarray, shape: tuple[int, int, int], invert: bool, centre: bool | Centring, name: str
) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{name} has shape {array.shape}: one image (H, W) or (H, W, C) is required, here {shape}")
    if array.dtype == np.uint8:
        return _shaped(array, shape, invert, centre, name)
    if array.dtype.kind != "f":
        raise DataError(f"{name} holds {array.dtype}: give uint8 of 0 … 255, or float32 as in the training data")
    if array.shape != shape or centre:
        raise DataError(
            f"{name} holds {array.dtype} of shape {array.shape}: only uint8 is resized and centred to {shape}; "
            "give uint8 of 0 … 255"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds values that are not finite numbers")
    if invert and not (array.min() >= 0 and array.max() <= 1):
        raise DataError(f"{name} has values of {array.min():g} … {array.max():g}: only floats of 0 … 1 can be inverted")
    return (1 - array if invert else array).astype(np.float32)


def decode(file: Path | IO[bytes] | Image, name: str, channels: int | None = None) -> np.ndarray:
    """An image file, or an opened one, as uint8 (H, W, C), turned upright according to its EXIF data.

    `channels` is 1 for grey, 3 for RGB, or None for those of the file. `name` names the image in a
    `DataError`.
    """
    from PIL import ImageOps

    if channels not in (None, 1, 3):
        raise DataError(
            f"{name}: an image can be converted to grey (1 channel) or RGB (3 channels), not to {channels} channels"
        )
    with _opened(file, name) as opened:
        image = _plain(ImageOps.exif_transpose(opened), name)
        grey = image.mode == "L" if channels is None else channels == 1
        pixels = np.array(image.convert("L" if grey else "RGB"), np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)


@contextmanager
def _opened(file: Path | IO[bytes] | Image, name: str) -> Iterator[Image]:
    """The open image; any error raised while it is used becomes a gpucnn error."""
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(file, Image.Image):
            yield file
            return
        if isinstance(file, Path):
            check_regular(file)
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not a {KINDS} image: convert it first") from error
    except OSError as error:
        if error.errno is not None:
            raise FileError(f"{name} cannot be read: {error.strerror}") from error
        raise DataError(f"{name} is a damaged image ({error})") from error
    except Exception as error:
        raise DataError(f"{name} is a damaged image ({type(error).__name__}: {error})") from error


def size(path: Path) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) as from `decode`, read from the file's header alone."""
    with _opened(path, str(path)) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        extents = image.size if turned else image.size[::-1]
        return *extents, 1 if _is_grey(image) else 3


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, C) resized to (height, width, C); shrinking averages pixels by area."""
    from PIL import Image

    if pixels.shape[:2] == (height, width):
        return pixels
    planes = [Image.fromarray(pixels[:, :, c]) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes], axis=2)


def centred(
    grey: np.ndarray, height: int, width: int, name: str = "the image", like: Centring = AS_IN_MNIST
) -> np.ndarray:
    """A light digit on a dark background, centred in (height, width) as the digits of a data set are.

    The background becomes 0. The rest is scaled, with its proportions kept, to fit its share of the
    field, its brightest pixel becomes 255, and it moves to the centre.

    grey  (H, W) uint8
    →     (height, width) uint8
    """
    ink = _without_background(grey, name)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(height, width) * like.share / max(ink.shape)
    h, w = (max(1, round(extent * scale)) for extent in ink.shape)
    digit = resized(ink[:, :, None], h, w)[:, :, 0].astype(np.float64)
    if not digit.any():
        raise DataError(f"{name} shows specks far apart and no digit: there is nothing to centre")
    middle_row, middle_column = h / 2, w / 2
    if like.by_mass:
        middle_row = (digit.sum(axis=1) @ np.arange(h)) / digit.sum()
        middle_column = (digit.sum(axis=0) @ np.arange(w)) / digit.sum()
    top = min(max(0, round(height / 2 - middle_row)), height - h)
    left = min(max(0, round(width / 2 - middle_column)), width - w)
    field = np.zeros((height, width), np.uint8)
    field[top : top + h, left : left + w] = np.rint(digit * (255 / digit.max()))
    return field


def _shaped(
    pixels: np.ndarray, shape: tuple[int, int, int], invert: bool, centre: bool | Centring, name: str
) -> np.ndarray:
    height, width, channels = shape
    if centre or pixels.shape[2] != channels:
        if not {pixels.shape[2], channels} <= {1, 3}:
            raise DataError(f"{name} has {pixels.shape[2]} channels, not {channels}: only grey and RGB are converted")
        pixels = _grey(pixels)
    if invert:
        pixels = 255 - pixels
    if centre:
        like = centre if isinstance(centre, Centring) else AS_IN_MNIST
        pixels = centred(pixels[:, :, 0], height, width, name, like)[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(resized(pixels, height, width), shape))


def _grey(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma, with Pillow's rounding; (H, W, 1)."""
    from PIL import Image

    return pixels if pixels.shape[2] == 1 else np.array(Image.fromarray(pixels).convert("L"))[:, :, None]


def _plain(image: Image, name: str) -> Image:
    """The image without 16-bit values, palette and transparency: mode L for grey, otherwise RGB."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(f"{name} has values of {values.min()} … {values.max()}: save it with 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"{name} has floating-point values: save it with 8 or 16 bits, or as .npy")
    grey = _is_grey(image)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("L" if grey else "RGB")


def _is_grey(image: Image) -> bool:
    return image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")


def _without_background(grey: np.ndarray, name: str) -> np.ndarray:
    """Set the background and its specks to 0, but keep the soft edge of the ink."""
    threshold = _otsu(grey)
    ink = grey > threshold
    if not ink.any() or np.ptp(grey) < 16:
        raise DataError(f"{name} has one flat tone: there is nothing to centre")
    if ink.mean() > 0.5:
        raise DataError(
            f"{name} shows dark on light, and a light digit on a dark background is required: use invert (--invert)"
        )
    background = grey[~ink].astype(np.float64)
    level = np.median(background)
    noise = 3 * 1.4826 * np.median(np.abs(background - level))  # three standard deviations, for normal noise
    floor = min(level + noise, float(threshold))
    above = np.rint(np.maximum(grey - floor, 0)).astype(np.uint8)
    return above * _grown(ink, 1 + max(grey.shape) // 56)


def _grown(mask: np.ndarray, edge: int) -> np.ndarray:
    """True wherever the mask is, and up to `edge` pixels around it."""
    for _ in range(2):
        sums = np.cumsum(np.pad(mask, ((edge + 1, edge), (0, 0))), axis=0, dtype=np.int32)
        mask = (sums[2 * edge + 1 :] > sums[: -2 * edge - 1]).T
    return mask


def _otsu(grey: np.ndarray) -> int:
    """The threshold with the largest variance between the values below and above (Otsu 1979)."""
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    below = np.cumsum(share)
    mean = np.cumsum(share * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * below - mean) ** 2 / (below * (1 - below))
    return int(np.nanargmax(np.where(np.isfinite(between), between, -1)))
