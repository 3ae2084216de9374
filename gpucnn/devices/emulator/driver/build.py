"""Builds the driver, its cuBLAS and NCCL, and CuPy's runtime module for it; all are kept in the cache.

CuPy's wheels hold NVIDIA's runtime library inside their module `cupy_backends.cuda.api.runtime`. So
this one module is compiled from CuPy's own source package of the installed version, unchanged, with
a runtime on top of the emulated driver. pip fetches that package.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

from .... import places
from ....errors import CompileError, CompilerLog, KernelError, in_one_line
from ....version import installed_version
from .. import compiler
from ..compiler import BUILT, LoadedFile

SOURCE = Path(__file__).parent / "source"
CUPY = ("cupy-cuda12x", "cupy-cuda13x")
MODULE = "cupy_backends.cuda.api.runtime"
NOT_FETCHED = "pip cannot fetch the source package of CuPy"

_INSTALL = "pip install 'gpucnn[emulated-gpu]'"
_DRIVER = ("captures", "copies", "devices", "launches", "memory", "modules", "ordering", "streams", "symbols")
_RUNTIME = ("runtime_api", "runtime_memory")
_CUBLAS_NOT_SUPPORTED, _CUDA_NOT_SUPPORTED, _NCCL_NOT_SUPPORTED = 15, 801, 5


def unavailable() -> str | None:
    """Why the emulated driver cannot be built here, in one sentence with the cure; None if it
    can."""
    reason = compiler.unavailable()
    if reason:
        return reason
    package, version = _cupy()
    if not version:
        return f"CuPy is not installed: {_INSTALL}"
    if not version.startswith("14."):
        return f"{package} {version} is not CuPy 14: {_INSTALL}"
    if importlib.util.find_spec("Cython") is None:
        return f"Cython is not installed: {_INSTALL}"
    try:
        headers = _headers()
    except ChildProcessError as error:
        return f"the search for the headers of CUDA failed ({in_one_line(error)}): {_INSTALL}"
    return None if headers else f"the headers of CUDA are not installed: {_INSTALL}"


def _cupy() -> tuple[str, str | None]:
    """The package that CuPy was installed from, and its version."""
    found = ((package, installed_version(package)) for package in CUPY)
    return next(((package, version) for package, version in found if version), (CUPY[0], None))


@cache
def _headers() -> tuple[str, ...]:
    """The folders of CUDA's headers, of packages or else of the system. Raises `ChildProcessError` if the
    process that looks for those of the system takes too long."""
    try:
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError:
        return ()
    runtime = find_nvidia_header_directory("cudart")
    if not runtime or Path(runtime, "crt", "host_defines.h").is_file():
        return (runtime,) if runtime else ()
    compilers = find_nvidia_header_directory("nvcc")
    return (runtime, compilers) if compilers else ()


def prepare() -> str:
    """Build what is not in the cache yet, and return the key of the files. This happens in a process
    of its own, because whoever loads the driver runs on it. Raises `KernelError`."""
    reason = unavailable()
    if reason:
        raise KernelError(f"the emulated GPU cannot be built here: {reason}")
    files = [path.read_text(encoding="utf-8") for path in (Path(__file__), *sorted(SOURCE.iterdir()))]
    key = places.cache_key(*files, *_cupy(), *_headers(), sys.version, compiler.environment())
    folder = places.cache_folder("emulator")
    if folder and all(places.intact(folder / name) is not None for name in _names(key)):
        return key
    program = f"from {__name__} import build_all; build_all({key!r})"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if done.returncode:
        raise KernelError(f"the emulated GPU cannot be built here: {done.stderr.strip().splitlines()[-1]}")
    return key


def build_all(key: str) -> None:
    """Build and load everything, for `prepare`; a failure is the last line of standard error."""
    try:
        load(key)
        runtime_module(key)
    except KernelError as error:
        lines = str(error).strip().splitlines()
        sys.exit(next((line for line in lines if " error: " in line), lines[-1]))


def _names(key: str) -> tuple[str, str, str, str, str]:
    """The files in the cache: the driver, the two libraries of cuBLAS, NCCL, CuPy's module."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    driver, light, cublas, nccl = (f"lib{name}-{key}.so" for name in ("cuda", "cublasLt", "cublas", "nccl"))
    return driver, light, cublas, nccl, f"cupy-runtime-{key}{suffix}"


def load(key: str) -> ctypes.CDLL:
    """The driver, its cuBLAS and its NCCL, loaded under the names by which everybody in this process will look
    for them."""
    compiler.runtime()
    names = zip(_names(key), (_build_driver, _build_light, _build_cublas, _build_nccl), strict=False)
    driver, *_ = [compiler.loaded(name, build, ctypes.RTLD_GLOBAL) for name, build in names]
    return driver.functions


def runtime_module(key: str) -> LoadedFile:
    """CuPy's module for the runtime API."""
    return compiler.loaded(_names(key)[4], _build_module)


def _build_driver(scratch: Path) -> None:
    _link(scratch, [str(SOURCE / f"{stem}.cpp") for stem in _DRIVER], "libcuda.so.1")


def _build_light(scratch: Path) -> None:
    """CuPy looks for this one before the other."""
    _link(scratch, [_refusals(scratch, {"cublasLtGetVersion"}, 0)], f"libcublasLt.so.{_major()}")


def _build_cublas(scratch: Path) -> None:
    (module,) = _package("cupy_backends.cuda.libs").glob("cublas.*.so")
    product = _compile(scratch, "cublas")
    named = _symbols(module, "--undefined-only", "-D", prefix="cublas") - _symbols(product, prefix="cublas")
    refusals = _refusals(scratch, named, _CUBLAS_NOT_SUPPORTED)
    _link(scratch, [product, refusals], f"libcublas.so.{_major()}", "-Wl,-Bsymbolic")


def _build_nccl(scratch: Path) -> None:
    (module,) = _package("cupy_backends.cuda.libs").glob("nccl.*.so")
    own = _compile(scratch, "nccl")
    named = _symbols(module, "--undefined-only", "-D", prefix="nccl") - _symbols(own, prefix="nccl")
    _link(scratch, [own, _refusals(scratch, named, _NCCL_NOT_SUPPORTED)], "libnccl.so.2", "-Wl,-Bsymbolic")


def _build_module(scratch: Path) -> None:
    module = _compile_module(scratch, _source_of_cupy(scratch))
    own = [_compile(scratch, stem) for stem in _RUNTIME]
    defined = set().union(*(_symbols(path, prefix="cuda") for path in own))
    missing = _symbols(module, "--undefined-only", prefix="cuda") - defined
    _link(scratch, [module, *own, _refusals(scratch, missing, _CUDA_NOT_SUPPORTED)], "runtime")


def _package(name: str) -> Path:
    """The folder of a package, without importing it."""
    parent, _, child = name.rpartition(".")
    folder = _package(parent) / child if parent else None
    if folder:
        return folder
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _includes() -> list[str]:
    return [f"-iquote{compiler.SOURCE}", *(f"-I{folder}" for folder in (SOURCE, *_headers()))]


def _compile(scratch: Path, stem: str) -> str:
    """The object file of one of the sources."""
    source, out = SOURCE / f"{stem}.cpp", scratch / f"{stem}.o"
    compiler.run(["-O1", "-fvisibility=hidden", *_includes(), "-c", str(source), "-o", str(out)])
    return str(out)


def _link(scratch: Path, inputs: list[str], soname: str, *flags: str) -> None:
    command = ["-O1", "-fvisibility=hidden", "-shared", *_includes(), *inputs, f"-Wl,-soname,{soname}", *flags]
    compiler.run([*command, "-ldl", "-o", str(scratch / BUILT)])


def _symbols(path: str | Path, *flags: str, prefix: str) -> set[str]:
    """The functions of an object file that begin so: those defined there, or with flags others."""
    listing = subprocess.run(
        ["nm", *(flags or ("--defined-only",)), str(path)], capture_output=True, encoding="utf-8", errors="replace"
    ).stdout
    return set(re.findall(rf"\b({prefix}[A-Z]\w*)", listing))


def _refusals(scratch: Path, names: set[str], status: int) -> str:
    """A source file with a function for each name, which returns the status for "not supported"."""
    path = scratch / f"refusals{status}.cpp"
    attribute = '__attribute__((visibility("default")))'
    lines = (f'extern "C" {attribute} int {name}() {{ return {status}; }}\n' for name in sorted(names))
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


# -- CuPy's source -----------------------------------------------------------------------------------------------------


def _source_of_cupy(scratch: Path) -> Path:
    """The folder of CuPy's source package of the installed version."""
    _, version = _cupy()
    archive = places.cached("emulator", f"cupy-{version}.tar.gz", lambda: _fetched(scratch, version or ""))
    safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in Python 3.11.0 to 3.11.3
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(scratch, **safely)
    return next(path for path in scratch.glob("cupy-*") if path.is_dir())


def _fetched(scratch: Path, version: str) -> bytes:
    """CuPy's source package, from pip. Raises `KernelError`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--dest", str(scratch), f"cupy=={version}"]
    settings = {"CUPY_INSTALL_USE_STUB": "1", "READTHEDOCS": "True"}  # its metadata without looking for CUDA
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=os.environ | settings, cwd=scratch
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1].removeprefix("ERROR: ")
        raise KernelError(
            f"{NOT_FETCHED} {version} ({reason}): "
            f"`python -m pip download --no-deps --no-binary :all: cupy=={version}` shows why"
        )
    (archive,) = scratch.glob("cupy-*.tar.gz")
    return archive.read_bytes()


def _compile_module(scratch: Path, source: Path) -> str:
    """The object file of CuPy's module, as CuPy's own build makes it."""
    text, out = scratch / "module.cpp", scratch / "module.o"
    folder = source / Path(*MODULE.split(".")[:-1])
    (scratch / "cuda_profiler_api.h").write_text(
        'extern "C" cudaError_t cudaProfilerStart(void);\nextern "C" cudaError_t cudaProfilerStop(void);\n',
        encoding="utf-8",
    )
    directives = ("embedsignature=True", "binding=False", "c_api_binop_methods=True", "warn.deprecated.IF=False")
    constants = f"CUPY_CUDA_VERSION={_cuda_version()},CUPY_HIP_VERSION=0,CUPY_USE_CUDA_PYTHON=False"
    command = [sys.executable, "-m", "cython", "-3", "--cplus", "-E", f"{constants},CUPY_CUFFT_STATIC=False"]
    for directive in directives:
        command += ["-X", directive]
    module = Path(*MODULE.split(".")).with_suffix(".pyx")
    done = subprocess.run(
        [*command, str(module), "-o", str(text)], cwd=source, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise CompileError(f"Cython cannot compile {module} of CuPy: {done.stderr.strip().splitlines()[-1]}")
    includes = [scratch, folder, source / "cupy_backends", source, *_headers(), sysconfig.get_paths()["include"]]
    flags = [
        *("-std=c++17", "-O1", "-w"),
        "-D_FORCE_INLINES=1",
        '-DCYTHON_EXTERN_C=extern "C"',
        *(f"-I{path}" for path in includes),
    ]
    try:
        compiler.run([*flags, "-c", str(text), "-o", str(out)])
    except CompilerLog as log:
        raise CompileError(f"g++ cannot compile {module} of CuPy: {str(log).strip().splitlines()[-1]}") from log
    return str(out)


def _major() -> str:
    """12 or 13: the major version of CUDA that CuPy was built for."""
    return _cupy()[0].removeprefix("cupy-cuda").removesuffix("x")


def _cuda_version() -> str:
    for folder in _headers():
        match = re.search(r"#define CUDA_VERSION (\d+)", Path(folder, "cuda.h").read_text(encoding="utf-8"))
        if match:
            return match[1]
    raise KernelError("the headers of CUDA have no version")
