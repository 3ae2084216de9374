"""The version of gpucnn, and those of the packages that are installed with it."""

from __future__ import annotations

__version__ = "0.1.0"


def installed_version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
