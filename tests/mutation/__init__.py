"""Kernels broken on purpose, one small change each, and whether a check reports them."""
