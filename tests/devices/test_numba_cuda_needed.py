"""Kernels of numba.cuda need the package numba-cuda; without it, one sentence says so wherever one is used."""

import needs
from processes import program

HIDING = """
    import importlib.abc, importlib.metadata, sys

    class Hidden(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "numba_cuda":
                raise ModuleNotFoundError(name)

    sys.meta_path = [finder for finder in sys.meta_path if "numba_cuda" not in type(finder).__module__]
    sys.meta_path.insert(0, Hidden())
    version = importlib.metadata.version

    def hidden(package):
        if package == "numba-cuda":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    importlib.metadata.version = hidden
"""
SENTENCE = (
    "numba-cuda is not installed, and numba.cuda of Numba itself refuses some of these kernels: "
    "pip install 'gpucnn[compile]', or with a GPU 'gpucnn[cuda12]' or 'gpucnn[cuda13]'"
)


@needs.emulator_here
def test_without_numba_cuda_a_kernel_is_refused_in_one_sentence():
    done = program(
        HIDING
        + """
    import numpy as np
    import gpucnn
    from gpucnn.ops.bias import bias

    gpucnn.use("numba", device="emulator")
    from gpucnn.devices import storage
    try:
        bias(storage.put(np.ones((2, 3), np.float32)), storage.put(np.ones(3, np.float32)))
    except gpucnn.errors.KernelError as error:
        print(error)
    from gpucnn.profiling import trials
    print(trials.missing("numba", "emulator"))
    trials.choose.gpu_state = lambda: (1, "NVIDIA Test 100")
    print(trials.missing("numba", "gpu:0"))
    print(trials.missing("cuda", "gpu:0"))
    """
    )
    assert done.returncode == 0, done.stderr
    refusal, *reasons = done.stdout.splitlines()
    assert refusal.endswith(f"cannot be compiled here: {SENTENCE}"), done.stdout
    assert reasons == [SENTENCE, SENTENCE, "None"]
