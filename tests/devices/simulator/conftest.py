"""The tests in this folder run where Numba's simulator was chosen when the process started, and nowhere else."""

import os

collect_ignore_glob = [] if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else ["test_*.py"]
