"""The shared memory that `stage.cuh` fills."""

FLOATS = 10240
"""Of a block; as in `stage.cuh`."""
