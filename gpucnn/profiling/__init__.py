"""How fast a kernel is, whether it is right, and what the compilers report.

catalogue          all kernels, as rows for `gpucnn kernels list` and `show`
trials             correctness: kernels on cases on devices
benchmark          speed: kernels and rivals (`torch_ops`), measured by `timing` and its clocks
records            benchmark results as files, and their comparison
launches           dry runs: what a kernel would launch
compilers          what the compilers report about a launch
static_analysis    the figures of a kernel on a real shape, from `compilers`
instruction_mix    what the instructions of a kernel cost on a card
prediction         how long a launch, or a step, would take on a card that is not here
traffic            the memory traffic of a kernel, counted in the emulator
"""
