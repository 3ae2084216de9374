"""What gpucnn raises. Every message names the value that was met and what to do about it."""


class GpucnnError(Exception):
    """Base of all errors that gpucnn raises on purpose; the command line prints them in one line."""


class ShapeError(GpucnnError, ValueError):
    """The shapes of the arrays do not fit together, or do not fit the layer."""


class ArgumentError(GpucnnError, TypeError, ValueError):
    """An argument is unknown, retired, unsupported or has a value out of its range."""


class KernelError(GpucnnError, RuntimeError):
    """No kernel can serve this call, or a kernel file is not a valid one."""


class LaunchError(KernelError):
    """A kernel did what it must not do, or cannot be launched: the message says what, and where."""


class DataError(GpucnnError, ValueError):
    """A data set, an image or a label is not what it should be."""


class FileError(GpucnnError, OSError):
    """A file cannot be read or written, or its content is damaged."""


class TrainingError(GpucnnError, FloatingPointError):
    """Training met a loss that is not a finite number."""


class MemoryNeedError(GpucnnError, MemoryError):
    """The work would need more memory than there is."""


class Interrupted(GpucnnError, KeyboardInterrupt):
    """The user stopped the run; what was trained so far has been saved. The process should end with `exit_status`."""

    def __init__(self, message: str, exit_status: int = 130) -> None:
        super().__init__(message)
        self.exit_status = exit_status
