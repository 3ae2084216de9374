"""Loading a published data set: search, otherwise download; read; warn about files that differ."""

from __future__ import annotations

import warnings
from dataclasses import replace

from ..errors import DataError
from .dataset import Dataset
from .download import fetch
from .source import Folder, Found, ProgressHook, Source, search


def load(
    source: Source, data_dir: Folder = None, progress: ProgressHook | None = None, found: Found | None = None
) -> Dataset:
    """Load the data set from `found`, else from where `search` finds it, else from a download.

    Local files that differ from the published ones are read with one `UserWarning`. A folder that
    the user named raises `DataError` if it holds the data set incompletely or in a form that cannot
    be read.
    """
    if found is None:
        found, seen = search(source, data_dir)
        for place in seen:
            if place.chosen and place.problem and found is None:
                raise DataError(f"{source.name}: {place.problem}")
        found = found or fetch(source, None, progress, seen)
    dataset = source.read(found, progress)
    if not found.published:
        others = ", ".join(f"{c.file} (SHA-256 {c.actual or 'none'})" for c in found.checks if not c.ok)
        message = f"{found.name}: {others} in {found.path} is not as published: figures from it are not comparable"
        note = dataset.note or f"{found.name}: not the published files, not comparable with published figures"
        dataset = replace(dataset, note=note, warnings=[message, *dataset.warnings])
    for message in dataset.warnings:
        warnings.warn(message, UserWarning, stacklevel=3)
    return dataset
