"""No file of a run, a model, a data set or a cache is executed or imported: a corpus of hostile files, used by every
command in a process that watches itself."""

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile

import numpy as np
import pytest
from model_files import written
from PIL import Image

from gpucnn.runs import commands
from gpucnn.runs.settings import RunSettings

WATCH = textwrap.dedent(
    """
    import json, os, sys, warnings

    root, marker = sys.argv[1:3]
    seen = []

    def inside(path):
        path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return os.path.abspath(path).startswith(root + os.sep) and os.sep in path

    def watch(event, arguments):
        if event == "exec" and inside(arguments[0].co_filename):
            seen.append([event, arguments[0].co_filename])
        elif event in ("import", "compile", "ctypes.dlopen") and inside(arguments[event != "ctypes.dlopen"]):
            seen.append([event, str(arguments[:2])[-300:]])
        elif event == "pickle.find_class" and arguments[1] not in ("_reconstruct", "ndarray", "dtype"):
            seen.append([event, str(arguments)])
        elif event in ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen"):
            # Of matplotlib, for fonts; of Python's platform; of ctypes, for the libraries that CuPy loads.
            if arguments[0] not in ("fc-list", "uname", "/sbin/ldconfig"):
                seen.append([event, str(arguments)])

    from gpucnn.cli import main

    sys.addaudithook(watch)
    results = []
    for command in json.load(sys.stdin):
        del seen[:]
        try:
            main(command)
        except SystemExit as ended:
            status = ended.code
        except BaseException as error:
            status = repr(error)
        results.append([command, status, list(seen), os.path.exists(marker)])
    json.dump(results, open(sys.argv[3], "w"))
    """
)


class Program:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def a_run(folder):
    """A trained run of two classes."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (16, 28, 28)).astype(np.uint8), np.arange(16) % 2
    np.savez(folder / "good.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = RunSettings(data=str(folder / "good.npz"), model="slides", epochs=1, backend="numpy")
    return commands.train(settings, folder / "run", pictures=False).folder


def python_files(folder, code):
    """Code under every name that something might import or execute."""
    for name in ("x.py", "conftest.py", "sitecustomize.py", "numpy.py", "gpucnn.py", "kernels/__init__.py", "x.so"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    (folder / "matplotlibrc").write_text("backend: module://x\n")


def changed(run, name, **settings):
    """A copy of a run with other settings."""
    copy = shutil.copytree(run, run.parent / name)
    record = json.loads((copy / "run.json").read_text())
    record["settings"] |= settings
    (copy / "run.json").write_text(json.dumps(record))
    return copy


def hostile_runs(run, program):
    """Copies of a run that name code, or hold it."""
    yield changed(run, "path", load=[str(run / "x.py")])
    yield changed(run, "entry", load=[{"name": str(run / "x.py")}], algorithms={"matmul": "own"})
    yield changed(run, "algorithm", algorithms={"matmul": "../../x", "x": "y"})
    yield changed(run, "model", model="x.py:build", optimizer="os.system")
    digest = hashlib.sha256((run / "x.py").read_bytes()).hexdigest()
    yield changed(run, "own", model="x.py:build", model_sha256=digest)
    yield changed(run, "own_path", model=f"{run / 'x.py'}:build", model_sha256=digest)
    yield changed(run, "data", data=str(run.parent / "pickled.npz"))
    pickled = changed(run, "pickled")
    for path in (pickled / "model.safetensors", *(pickled / "checkpoints").iterdir()):
        path.write_bytes(program)
    (pickled / "history.csv").write_bytes(program)
    yield pickled
    described = changed(run, "described")
    layer = {"kind": "Layer", "class_name": "os.system", "module": "os", "config": {"command": "true"}}
    architecture = {"name": "m", "input_shape": [28, 28, 1], "layers": [layer]}
    for path in (described / "model.safetensors", *(described / "checkpoints").iterdir()):
        written(path, {"architecture": architecture}, {"weights/x": np.ones(1, np.float32)})
    yield described


def hostile_data(folder, marker, program):
    """Data sets and images that hold code, and a script that Ghostscript would run."""
    pickled = np.array([Program(marker)], dtype=object)
    np.savez(folder / "pickled.npz", **dict.fromkeys(("x_train", "y_train", "x_test", "y_test", "classes"), pickled))
    with zipfile.ZipFile(folder / "raw.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", program)
    np.save(folder / "pickled.npy", pickled, allow_pickle=True)
    (folder / "raw.npy").write_bytes(program)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (28, 28), 50 * i).save(folder / "images" / name / f"{i}.png")
        (folder / "images" / name / "pickle.png").write_bytes(program)
        Image.new("RGB", (28, 28)).save(folder / "images" / name / "script.eps")
        (folder / "images" / name / "script.eps").rename(folder / "images" / name / "script.png")
    sets = folder / "sets"
    for name in ("mnist", "cifar10"):
        (sets / name).mkdir(parents=True)
    (sets / "mnist/mnist.npz").write_bytes((folder / "pickled.npz").read_bytes())
    (sets / "cifar10/data_batch_1").write_bytes(program)
    with tarfile.open(sets / "cifar10/cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in ("../../sitecustomize.py", "/tmp/x.py", "cifar-10-batches-bin/data_batch_1.bin"):
            info = tarfile.TarInfo(name)
            info.size = len(program)
            archive.addfile(info, io.BytesIO(program))
    cache = folder / "cache/gpucnn/datasets/decoded"
    cache.mkdir(parents=True)
    (cache / "cifar10-x.npz").write_bytes((folder / "pickled.npz").read_bytes())


def hostile_models(folder, program):
    """Models of other libraries that hold code, or a pickle under their suffix."""
    for name in ("pickled.onnx", "pickled.keras"):
        (folder / name).write_bytes(program)
    code = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}
    entry = {"module": "x", "class_name": "Lambda", "config": {"name": "mine", "function": code}}
    config = {"layers": [entry], "build_input_shape": [None, 2]}
    with zipfile.ZipFile(folder / "lambda.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps({"module": "x", "class_name": "Sequential", "config": config}))
        archive.writestr("model.weights.h5", program)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder of all hostile files, and the file that exists once any of them is executed."""
    folder = tmp_path_factory.mktemp("corpus")
    marker = folder / "executed"
    code = f"open({str(marker)!r}, 'w')\n"
    program = pickle.dumps(Program(marker))
    run = a_run(folder)
    python_files(folder, code)
    python_files(run, code)
    hostile_data(folder, marker, program)
    hostile_models(folder, program)
    return folder, marker, [run, *hostile_runs(run, program)]


def watched(folder, marker, lines):
    """[command, exit status, what was executed or imported, whether the marker is there] of each command."""
    env = {name: value for name, value in os.environ.items() if name != "GPUCNN_DATA"}
    env |= {"GPUCNN_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache"), "GPUCNN_CACHE": str(folder / "cache")}
    command = [sys.executable, "-P", "-c", WATCH, str(folder), str(marker), str(folder / "results.json")]
    done = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


def test_no_file_is_executed_that_the_user_did_not_name(corpus):
    folder, marker, runs = corpus
    lines = []
    for run in map(str, runs):
        lines += [["evaluate", run], ["predict", run, "images/a/0.png"], ["summary", run], ["plot", run]]
        lines += [["train", "--resume", run, "--epochs", "2", "--no-pictures"]]
    run = str(runs[0])
    for data in ("pickled.npz", "raw.npz", "images"):
        lines += [["evaluate", run, "--data", data], ["train", "--data", data, "--backend", "numpy", "--epochs", "1"]]
    lines += [["predict", run, "pickled.npy", "raw.npy", "x.py", "images"]]
    for name in ("mnist", "cifar10"):
        lines += [["train", name, "--data-dir", "sets"], ["data", "verify", name], ["data", "path", name]]
        lines += [["evaluate", run, name, "--data-dir", "sets"]]
    lines += [["import", name] for name in ("pickled.onnx", "pickled.keras", "lambda.keras", "x.py")]
    lines += [["export", run, f"out{suffix}"] for suffix in (".onnx", ".keras", ".py")]
    lines += [["export", "lambda.keras", "out.py"], ["export", run, "x.py"]]
    lines += [["data", "list", "--data-dir", "sets"], ["models"], ["summary", "x.py"], ["train", "--resume", "x.py"]]
    results = watched(folder, marker, lines)
    assert len(results) == len(lines) > 50
    for command, status, seen, executed in results:
        assert status in (0, 1, 2), command
        assert seen == [], command
        assert not executed, command
    assert sum(status == 0 for _, status, _, _ in results) > 10


def test_the_watch_sees_what_the_user_names(corpus, tmp_path):
    folder, _, _ = corpus
    marker = tmp_path / "executed"
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    ((_, status, seen, executed),) = watched(folder, marker, [["train", "--load", "mine.py"]])
    assert (status, executed) == (1, True)
    assert ["exec", str(folder / "mine.py")] in [[event, os.path.abspath(path)] for event, path in seen]
