"""The kernels of gpucnn: one folder per op family, one file per algorithm and backend.

The engine imports this folder as `gpucnn.kernels`, whether it lies inside the installed package or
next to it in a checkout, so that every kernel registers itself once and under one name.
"""

if __name__ != "gpucnn.kernels":
    raise ImportError(
        f"the folder kernels/ was imported as {__name__!r}: import gpucnn, which finds it as gpucnn.kernels"
    )
