"""What a host program or its environment has set before gpucnn is imported does not break gpucnn."""

import pytest
from processes import program

WORK = """
import numpy as np

from gpucnn import Input, Sequential, layers

rng = np.random.default_rng(0)
x, y = rng.random((64, 8, 8, 1), np.float32), rng.integers(0, 4, 64)
model = Sequential(
    [
        Input((8, 8, 1)),
        layers.Conv2D(4, 3, activation="gelu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=1)
model.predict(x * 1e4)
print("done" if sys.stdout else "")
"""


@pytest.mark.parametrize(
    "setting",
    [
        "import numpy; numpy.seterr(all='raise')",
        "sys.stderr.close()",
        "import os; os.close(2)",
        "sys.stderr = None",
        "sys.stderr = object()",
        "sys.stdout = sys.stderr = None",
        "import threading; threading.stack_size(1 << 18)",
    ],
)
def test_a_program_may_set_what_it_likes(setting):
    done = program(f"import sys; {setting}\n{WORK}")
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1:] == ([] if "stdout" in setting else ["done"])


def test_the_programs_own_floating_point_settings_are_left_alone():
    done = program(f"""
import sys
import numpy
numpy.seterr(all="raise")
{WORK}
assert numpy.geterr() == dict.fromkeys(numpy.geterr(), "raise")
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONIOENCODING": "ascii"},
        {"NUMBA_ENABLE_CUDASIM": "1"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_so_may_its_environment(environment, tmp_path):
    cache = {"GPUCNN_CACHE": str(tmp_path)} if next(iter(environment)).startswith("NUMBA") else {}
    done = program(f"import sys\n{WORK}", **environment, **cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"
