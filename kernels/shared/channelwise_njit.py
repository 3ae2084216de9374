"""Convolutions in small groups, vectorised over the channels of a result: depthwise convolutions
above all, where each filter sees one channel.

    y[p, k] = bias[k] + Σ over taps t and layers l of  x[p + t, l, k] · weight[t, l, k]

where x[p, l, k] is channel l of the group that filter k sees. With one channel and one filter in
each group that is the image itself. Otherwise the image is written out so, in the copy that also
holds the padding. The gradients are the same sums: that of the input meets dy, written out by the
filters of a group; that of the weight adds up x · dy over the pixels.

Work: 2 · y.size · taps · channels of a group, in tiles that stay in registers (`lane_tile_njit`).
Traffic: image and result once, which is what limits a depthwise convolution.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices import threads
from gpucnn.devices.njit import njit
from gpucnn.devices.recorders import again
from gpucnn.devices.team import tasks
from gpucnn.dispatch.case import Spec
from gpucnn.dispatch.op import Op, kernel

from .epilogue_njit import call
from .implicit_gemm_njit import FLOAT32, SMALL
from .lane_tile_njit import FEW, ROWS, add_lane_products, lane_products
from .patches_njit import Patches, patches, transposed_patches
from .simd_njit import at, copy, put
from .slices_launch import apart
from .tile_njit import WIDTH

MOST_LAYERS = 16
"""An image of more layers becomes too large when it is written out."""

LAYERS_THAT_PAY = 4
"""With more, tiles of filters (`implicit_gemm`) are faster although they are not full."""

_BLOCK = 64
"""Pixels that all taps meet while they are in the first-level cache."""

_STRETCH = 512
"""Values from which on a call of the function at the end costs little."""


def register(file: str, conv: Op, conv_grad_input: Op, conv_grad_weight: Op) -> None:
    """Register the kernels of one family, whose kernel file is `file`."""
    reads: dict[str, Any] = {"supports": reads_some, "pays": reads_few, "file": file, "compiled": True}
    sums: dict[str, Any] = {"supports": _sums_some, "pays": _sums_few, "file": file, "compiled": True}
    kernel(conv, "channelwise", "njit", workspace=forward_workspace, **reads)(forward)
    kernel(conv_grad_input, "channelwise", "njit", workspace=grad_input_workspace, **reads)(grad_input)
    kernel(conv_grad_weight, "channelwise", "njit", workspace=grad_weight_workspace, **sums)(grad_weight)


def reads_some(one: Spec, weight: Spec, *, groups: int, size: Any = None, **_: Any) -> bool:
    """Whether the image, written out, has few layers."""
    return one.dtype == FLOAT32 and _layers_read(weight, groups, size) <= MOST_LAYERS


def reads_few(one: Spec, weight: Spec, *, groups: int, size: Any = None, **_: Any) -> bool:
    """Whether it has so few that this is the fastest way."""
    return _layers_read(weight, groups, size) <= LAYERS_THAT_PAY and groups > 1


def _layers_read(weight: Spec, groups: int, size: Any) -> int:
    """Channels of a group, or filters for the gradient of the input, which alone has a size."""
    return weight.shape[-2] if size is None else weight.shape[-1] // groups


def _sums_some(dy: Spec, x: Spec, *, groups: int, **_: Any) -> bool:
    return dy.dtype == FLOAT32 and x.shape[-1] // groups <= MOST_LAYERS


def _sums_few(dy: Spec, x: Spec, *, groups: int, **_: Any) -> bool:
    return x.shape[-1] // groups <= LAYERS_THAT_PAY and groups > 1


class _Image(NamedTuple):
    """An image in layers, and the results that meet it.

    table    the patches; offsets count the floats of an image of `width` times `layers` channels
    steps    offset of each value within a patch, taps first, then layers; filled up with the last one
    count    number of these
    places   where the result of each patch lies, in floats
    sources  the channel of the image that each place of a pixel takes; empty for the image itself
    taps     the taps of the weight that are met, for each axis
    """

    table: Patches
    steps: np.ndarray
    count: int
    places: np.ndarray
    sources: np.ndarray
    taps: tuple[np.ndarray, ...] = ()

    @property
    def copy(self) -> int:
        """Floats of the copy of an image; 0 if the image serves as it is."""
        return self.table.size if self.table.padded or self.sources.size else 0


def _image(table: Patches, width: int, channels: int, sources: np.ndarray, taps: Any = ()) -> _Image:
    steps = np.add.outer(table.taps, np.arange(len(sources)) * width).ravel()
    filled = np.concatenate([steps, np.repeat(steps[-1:], FEW - 1)])
    same = len(sources) == 1 and np.array_equal(sources[0], np.arange(channels))
    written_out = np.empty(0, np.int64) if same else sources.ravel().astype(np.int64)
    return _Image(table, filled, len(steps), table.targets * width, written_out, taps)


@lru_cache(256)
def _image_of_x(
    size: Any, channels: int, filters: int, kernel_size: Any, strides: Any, padding: Any, dilation: Any, groups: int
) -> _Image:
    layers = channels // groups
    sources = np.arange(filters) // (filters // groups) * layers + np.arange(layers)[:, None]
    floats = filters * layers
    table = patches(size, floats, kernel_size, strides, padding, dilation, floats)
    return _image(table, filters, channels, sources)


@lru_cache(256)
def _images_of_dy(
    size: Any,
    output: Any,
    channels: int,
    filters: int,
    kernel_size: Any,
    strides: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> list[_Image]:
    layers = filters // groups
    sources = np.arange(channels) // (channels // groups) * layers + np.arange(layers)[:, None]
    floats = channels * layers
    tables = transposed_patches(size, output, floats, kernel_size, strides, padding, dilation, floats)
    return [_image(table, channels, filters, sources, taps) for table, taps in tables]


def _x(x: Any, filters: int, kernel_size: Any, *, strides: Any, padding: Any, dilation: Any, groups: int) -> _Image:
    return _image_of_x(x.shape[1:-1], x.shape[-1], filters, tuple(kernel_size), strides, padding, dilation, groups)


def _dy(dy: Any, weight: Any, *, size: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> list[_Image]:
    channels, kernel_size = weight.shape[-2] * groups, tuple(weight.shape[:-2])
    return _images_of_dy(
        tuple(size), dy.shape[1:-1], channels, dy.shape[-1], kernel_size, strides, padding, dilation, groups
    )


def forward_workspace(x: Spec, weight: Spec, **window: Any) -> Spec:
    """A copy of an image for each slice of the batch."""
    image = _x(x, weight.shape[-1], weight.shape[:-2], **window)
    return Spec((len(threads.slices(x.shape[0])), apart(image.copy)), FLOAT32)


def forward(
    y: Any,
    x: Any,
    weight: Any,
    scratch: Any,
    *,
    bias: Any = None,
    ended: Any = None,
    function: int = 0,
    alpha: float = 0.0,
    **window: Any,
) -> None:
    """y = conv(x, weight) + bias; `ended`, which may be y, is the function of it that `epilogue_njit.end` returns."""
    image = _x(x, weight.shape[-1], weight.shape[:-2], **window)
    _launch(y, x, weight, scratch, image, bias, ended, function, alpha)


def grad_input_workspace(dy: Spec, weight: Spec, **window: Any) -> Spec:
    """A copy of an image of dy for each slice of the batch."""
    size = max(image.copy for image in _dy(dy, weight, **window))
    return Spec((len(threads.slices(dy.shape[0])), apart(size)), FLOAT32)


def grad_input(dx: Any, dy: Any, weight: Any, scratch: Any, *, groups: int, **window: Any) -> None:
    """dx, one remainder of the cells by the strides after the other."""
    channels, filters = dx.shape[-1] // groups, dy.shape[-1] // groups
    of_groups = weight.reshape(*weight.shape[:-2], channels, groups, filters)
    by_layer = np.empty((*weight.shape[:-2], filters, groups, channels), FLOAT32)
    again(by_layer.__setitem__, ..., np.moveaxis(of_groups, (-1, -2, -3), (-3, -2, -1)))
    for image in _dy(dy, weight, groups=groups, **window):
        taps = np.empty((*map(len, image.taps), filters, groups, channels), FLOAT32)
        again(_pick, taps, by_layer, np.ix_(*image.taps))
        _launch(dx, dy, taps, scratch, image)


def _pick(taps: np.ndarray, by_layer: np.ndarray, index: Any) -> None:
    taps[...] = by_layer[index]


def _launch(
    y: Any,
    images: Any,
    weight: Any,
    scratch: Any,
    image: _Image,
    bias: Any = None,
    ended: Any = None,
    function: int = 0,
    alpha: float = 0.0,
) -> None:
    table = image.table
    bias = np.zeros(y.shape[-1], FLOAT32) if bias is None else bias
    ended = y if ended is None else ended
    shape = np.array([table.line, images.shape[-2], images.shape[-1], table.count, y.size // len(y), y.shape[-1]])
    _results(
        len(scratch), y.reshape(-1), images.reshape(-1), weight.reshape(-1), bias, scratch, image.copy, table.rows,
        table.pixels, image.steps[: image.count], image.places, image.sources, shape, threads.bounds(len(images)),
        ended.reshape(-1), function, np.float32(alpha),
        parallel=2 * y.size * image.count > SMALL,
    )  # fmt: skip


def grad_weight_workspace(dy: Spec, x: Spec, *, kernel_size: Any, **window: Any) -> tuple[Spec, Spec]:
    """Sums and a copy of an image for each slice of the batch."""
    slices, image = len(threads.slices(x.shape[0])), _x(x, dy.shape[-1], kernel_size, **window)
    return Spec((slices, len(image.steps), dy.shape[-1]), FLOAT32), Spec((slices, apart(image.copy)), FLOAT32)


def grad_weight(dweight: Any, dy: Any, x: Any, sums: Any, scratch: Any, *, kernel_size: Any, **window: Any) -> None:
    """Each slice of the batch has its own sum; they are added in order."""
    filters = dy.shape[-1]
    image = _x(x, filters, kernel_size, **window)
    table = image.table
    shape = np.array([table.line, x.shape[-2], x.shape[-1], table.count, filters, image.count])
    places = np.arange(len(image.steps)) * filters
    _add_images(
        len(sums), sums.reshape(len(sums), -1), dy.reshape(-1), x.reshape(-1), scratch, table.rows, table.pixels,
        image.steps, places, image.sources, shape, threads.bounds(len(x)),
        parallel=2 * dy.size * image.count > SMALL,
    )  # fmt: skip
    again(_add_slices, dweight.reshape(image.count, filters), sums[:, : image.count])


def _add_slices(total: np.ndarray, sums: np.ndarray) -> None:
    np.add.reduce(sums, axis=0, out=total)


@njit(inline="always")
def _place(scratch, images, rows, sources, n, line, cells, channels):
    """Where image n starts: in `images`, or in scratch, into which it is copied in layers."""
    first = n * rows.shape[0] * cells * channels
    if scratch.shape[0] == 0:
        return first
    for h in range(rows.shape[0]):
        row = first + h * cells * channels
        if sources.shape[0] == 0:
            copy(scratch, rows[h], images, row, line)
        else:
            for w in range(cells):
                to = rows[h] + w * sources.shape[0]
                for i in range(sources.shape[0]):
                    put(scratch, to + i, at(images, row + w * channels + at(sources, i)))
    return 0


@tasks
def _results(
    part, y, images, weight, bias, scratches, used, rows, pixels, steps, places, sources, shape, bounds, ended,
    function, alpha
):  # fmt: skip
    """A slice of the images of a batch."""
    first, last, scratch = bounds[part], bounds[part + 1], scratches[part, :used]
    line, cells, channels, count, outputs, width = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
    source = scratch if scratch.shape[0] else images
    scratch[:] = np.float32(0)
    for n in range(first, last):
        origin = _place(scratch, images, rows, sources, n, line, cells, channels)
        i, done = 0, 0
        while i < count:
            large = count - i > 2 * FEW
            for k in range(0, width, WIDTH):
                lane_products(
                    large, min(WIDTH, width - k), source, origin + k, pixels, i, steps, bias, weight, k, width, y,
                    n * outputs + k, places,
                )  # fmt: skip
            i = min(count, i + (ROWS if large else FEW))
            if function and ((i - done) * width >= _STRETCH or i == count):
                o = n * outputs + done * width
                call(function, ended, o, y, o, y, o, (i - done) * width, alpha)
                done = i


@tasks
def _add_images(part, all_sums, dy, images, scratches, rows, pixels, taps, places, sources, shape, bounds):
    """sums (taps and layers, K) over a slice of the images."""
    first, last, sums, scratch = bounds[part], bounds[part + 1], all_sums[part], scratches[part]
    sums[:] = np.float32(0)
    line, cells, channels, count, width, terms = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
    source = scratch if scratch.shape[0] else images
    scratch[:] = np.float32(0)
    for n in range(first, last):
        origin = _place(scratch, images, rows, sources, n, line, cells, channels)
        for begin in range(0, count, _BLOCK):
            end = min(count, begin + _BLOCK)
            for k in range(0, width, WIDTH):
                t = 0
                while t < terms:
                    large = terms - t > 2 * FEW
                    add_lane_products(
                        large, min(WIDTH, width - k), source, origin + k, taps, t, pixels, begin, end, dy,
                        (n * count + begin) * width + k, width, sums, k, places,
                    )  # fmt: skip
                    t += ROWS if large else FEW
