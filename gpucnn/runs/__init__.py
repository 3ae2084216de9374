"""A training run by its folder."""
