"""CUDA C++ to PTX or machine code by NVRTC, without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import CompileError, CompilerLog


@dataclass(frozen=True)
class NvrtcOutput:
    """The PTX of a text, its machine code for one architecture (a cubin; empty for compute_NN), and
    the log, which for machine code reports registers, spills and shared memory."""

    ptx: str
    cubin: bytes
    log: str


@cache
def newest_architecture() -> int | None:
    """The newest compute capability for which NVRTC makes machine code, such as 121; None without
    NVRTC."""
    try:
        from cuda.bindings import nvrtc

        status, supported = nvrtc.nvrtcGetSupportedArchs()
    except (ImportError, RuntimeError):
        return None
    return None if int(status) else max(supported)


def compile_cuda(text: str, file: str, defines: Mapping[str, Any], *, arch: str) -> NvrtcOutput:
    """Compile CUDA C++ with the options that CuPy uses, but without a GPU.

    arch    as for nvcc: sm_90 yields machine code; compute_90 only PTX, with the source's lines in it

    Raises `CompilerLog` for errors in the text, `CompileError` without a compiler.
    """
    try:
        from cuda.bindings import nvrtc
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError as error:
        raise CompileError(
            f"{file} cannot be compiled here: NVRTC is not installed ({error}): pip install 'gpucnn[compile]'"
        ) from None
    headers = [folder for folder in map(find_nvidia_header_directory, ("cudart", "cccl")) if folder]
    options = [
        "-std=c++17",
        "-ftz=true",
        "--device-as-default-execution-space",
        f"-arch={arch}",
        "--ptxas-options=-v" if arch.startswith("sm_") else "-lineinfo",
        *(f"-I{folder}" for folder in headers),
        *(f"-D{name}={int(value) if isinstance(value, bool) else value}" for name, value in defines.items()),
    ]

    def result(answer: tuple) -> Any:
        """The value that a call to NVRTC returns."""
        if int(answer[0]):
            raise CompileError(f"{file} cannot be compiled here: NVRTC fails with {answer[0]}")
        return answer[1] if len(answer) > 1 else None

    try:
        program = result(nvrtc.nvrtcCreateProgram(text.encode(), file.encode(), 0, [], []))
    except RuntimeError as error:
        if isinstance(error, CompileError):
            raise
        raise CompileError(
            f"{file} cannot be compiled here: NVRTC cannot be loaded ({error}): pip install 'gpucnn[compile]'"
        ) from None
    status = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    # One byte more than NVRTC writes: Python shares all bytes of length 0 and 1.
    log = bytes(result(nvrtc.nvrtcGetProgramLogSize(program)) + 1)
    result(nvrtc.nvrtcGetProgramLog(program, log))
    message = log.rstrip(b"\0 ").decode()
    if int(status[0]):
        raise CompilerLog(message)
    ptx = bytes(result(nvrtc.nvrtcGetPTXSize(program)) + 1)
    result(nvrtc.nvrtcGetPTX(program, ptx))
    cubin = bytes(result(nvrtc.nvrtcGetCUBINSize(program)))
    if cubin:
        result(nvrtc.nvrtcGetCUBIN(program, cubin))
    nvrtc.nvrtcDestroyProgram(program)
    return NvrtcOutput(ptx.rstrip(b"\0").decode(), cubin, message)
