"""A training run in its folder: how it is trained, what it keeps, and the models that have names."""
