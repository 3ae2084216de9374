"""The commands cache and warmup: what is kept of compiled code, and compiling it ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import click

from .. import places
from ..devices.free_memory import readable
from .group import AS_JSON, main, options
from .screen import Screen, print_json, print_table


@main.group()
def cache() -> None:
    """Show or remove what gpucnn keeps of compiled code (in GPUCNN_CACHE, or in your cache folder).

    CuPy keeps the kernels that it compiles for a GPU in a folder that other programs use too
    (CUPY_CACHE_DIR, or ~/.cupy/kernel_cache); it is neither shown nor removed here.
    """


@cache.command("info")
@AS_JSON
def cache_info(as_json: bool) -> None:
    """Show where the cache is, and the files and bytes of each of its folders.

    Keys of --json: path, folders; of each folder: name, holds, files, bytes.
    """
    found = places.cached_files()
    sizes = {name: sum(path.stat().st_size for path in files) for name, files in found.items()}
    if as_json:
        folders = [
            {"name": name, "holds": holds, "files": len(found[name]), "bytes": sizes[name]}
            for name, holds in places.CACHES.items()
        ]
        return print_json({"path": str(places.cache_location()), "folders": folders})
    click.echo(places.cache_location())
    rows = [(name, f"{len(found[name]):,}", readable(sizes[name]), holds) for name, holds in places.CACHES.items()]
    return print_table(("folder", "files", "size", "holds"), rows)


@cache.command("clear")
@AS_JSON
def cache_clear(as_json: bool) -> None:
    """Remove the files of the cache. They are made again when they are needed; data sets stay.

    Keys of --json: path, files, bytes (what was removed).
    """
    files, size = places.clear_caches()
    if as_json:
        return print_json({"path": str(places.cache_location()), "files": files, "bytes": size})
    return click.echo(f"removed {files:,} files, {readable(size)}, from {places.cache_location()}")


@main.command()
@options(
    click.option("--model", "models", metavar="NAME", multiple=True, help="Repeatable.  [default: that of train]"),
    click.option("-d", "--device", metavar="NAME", default="auto", show_default=True, help="cpu, gpu[:N] or emulator."),
    click.option("--backend", metavar="NAME", default="auto", show_default=True, help="njit, cuda or numba."),
    AS_JSON,
)
def warmup(models: Sequence[str], device: str, backend: str, as_json: bool) -> None:
    """Compile the kernels of models ahead of time, so that their first training starts at once.

    Kernels in CUDA C++ are compiled side by side; then a step of training and one of inference
    compile the rest. What is compiled is kept on disk.

    Keys of --json: models; of each: model, device, backend, files, compile_seconds, step_seconds.
    """
    from ..dispatch import choice
    from ..runs import self_check, warm_up, zoo

    reports = []
    with Screen(transient=True) as screen, choice.using(backend, device=self_check.device(device, screen.say)):
        for model in models or (zoo.DEFAULT,):
            report = warm_up.warm_up(model, partial(screen.progress, model))
            reports.append(report)
            if not as_json:
                compiled = f"{report.files} files of kernels compiled in {report.compile_seconds:.1f} s, "
                click.echo(
                    f"{report.model} on {report.device} ({report.backend}): {compiled if report.files else ''}"
                    f"one step of training and one of inference in {report.step_seconds:.1f} s"
                )
    if as_json:
        print_json({"models": [asdict(report) for report in reports]})
