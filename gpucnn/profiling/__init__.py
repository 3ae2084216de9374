"""How fast a kernel or a training step is, and what the compilers report."""
