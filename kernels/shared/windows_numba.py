"""Which window meets a cell: a convolution read backwards, for gradients that are gathered.

Forward, window p and tap r of a filter meet the padded cell p · stride + r · dilation. A gradient
of x starts from the cell and looks for p. Each thread owns one cell and adds up what all windows
send there, so no two threads ever write the same value: no atomics, and the same order of adding in
every run.
"""

from __future__ import annotations

from gpucnn.devices.numba_cuda import numba_device


@numba_device
def window_at(cell, stride, windows):
    """The window that starts at this cell of a padded axis; -1 between two starts, before the
    first, past the last."""
    window = cell // stride
    if 0 <= window < windows and window * stride == cell:
        return window
    return -1
