"""The emulated GPU as a device of a process: its name and limits, memory, variables, devices, threads,
forks and Ctrl-C."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from needs import emulator_here
from places import ROOT

from gpucnn import places
from gpucnn.cli.emulate import emulate_gpu
from gpucnn.devices import cards
from gpucnn.devices.emulator import driver
from gpucnn.devices.emulator.driver import build


@pytest.mark.parametrize("card", ["h100", "a100", "rtx3060", "t4"])
def test_the_card_sets_name_and_limits_of_launches(output, card):
    text = """
        import cupy
        from gpucnn.devices import choose
        print(choose.gpu_state()[1])
        kernel = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")
        most = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
        for dynamic in (most, most + 1):
            try:
                kernel.max_dynamic_shared_size_bytes = dynamic
                kernel((1,), (32,), (), shared_mem=dynamic)
                print(dynamic)
            except cupy.cuda.driver.CUDADriverError as error:
                print(str(error).split(":")[0])
        print(cupy.cuda.Device().compute_capability)
    """
    limits = driver.limits(card)
    assert output(text, card=card) == [
        f"Emulated GPU (sm_{limits.cc}, as {limits.name})",
        str(limits.shared_per_block),
        "CUDA_ERROR_INVALID_VALUE",
        str(limits.cc),
    ]


@pytest.mark.parametrize("card", cards.CARDS)
def test_every_card_of_the_predictions_can_be_emulated_without_a_second_table(card):
    limits, known = driver.limits(card), cards.find(card)
    assert (limits.name, limits.multiprocessors, limits.l2_bytes) == (known.title, known.multiprocessors, known.l2_size)
    assert limits.cc <= int(known.arch.removeprefix("sm_"))
    # What CUDA's programs compute from clock and width of the bus: kHz, bits, two transfers in a cycle.
    assert 2 * limits.memory_clock * 1e3 * limits.bus_bits / 8 == pytest.approx(known.dram_bytes * 1e6, rel=1e-6)


def test_memory_ends_at_the_chosen_size_and_the_process_goes_on(output):
    text = """
        import cupy
        import numpy as np
        import gpucnn
        from gpucnn.devices import storage
        with gpucnn.using(device="gpu"):
            try:
                storage.empty((32 << 20,))
            except gpucnn.errors.MemoryNeedError as error:
                print(error)
            print(float(storage.get(storage.put(np.ones(4, np.float32))).sum()))
        print(cupy.cuda.Device().mem_info[1] >> 20)
    """
    refusal, total, size = output(text, memory=64 << 20)
    assert refusal.startswith("out of memory on gpu:0: an array of (33554432,) float32")
    assert (total, size) == ("4.0", "64")


def test_each_module_has_its_own_variables_which_the_host_can_read_and_write(output):
    text = """
        import cupy
        from gpucnn.devices.nvrtc import compile_cuda
        source = '''
        __constant__ float weight[4];
        __device__ int launches = 5;
        extern "C" __global__ void weighted(float* y)
        {
            y[threadIdx.x] = weight[threadIdx.x] + launches;
            if (threadIdx.x == 3) ++launches;
        }
        '''
        image = compile_cuda(source, "weighted.cu", {}, arch="compute_80").ptx.encode()
        for _ in range(2):
            module = cupy.cuda.function.Module()
            module.load(image)
            address = cupy.cuda.UnownedMemory(module.get_global_var("weight"), 16, module)
            weight = cupy.ndarray((4,), cupy.float32, cupy.cuda.MemoryPointer(address, 0))
            weight[...] = cupy.arange(4, dtype=cupy.float32)
            y = cupy.empty(4, cupy.float32)
            for _ in range(2):
                module.get_function("weighted")((1,), (4,), (y,))
            print(y.get().tolist())
    """
    assert output(text) == ["[6.0, 7.0, 8.0, 9.0]"] * 2


def test_two_devices_have_memory_and_streams_of_their_own(output):
    text = """
        import cupy
        a = cupy.arange(10)
        with cupy.cuda.Device(1):
            b = cupy.asarray(a)
            print(b.device.id, b.get().sum())
        try:
            a + b
        except ValueError as error:
            print("Peer access is unavailable" in str(error))
        print([cupy.cuda.Device(i).pci_bus_id for i in range(2)])
    """
    assert output(text, devices=2) == ["1 45", "True", "['0000:00:00.0', '0000:01:00.0']"]


def test_threads_share_the_device(output):
    text = """
        import threading
        import cupy
        sums = []
        def work():
            with cupy.cuda.Stream(non_blocking=True) as stream:
                y = cupy.full(1000, 2.0)
                sums.append(float((y * 3).sum().get()))
                stream.synchronize()
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sums)
    """
    for lazy in (None, 3):
        assert output(text, lazy=lazy) == [str([6000.0] * 6)]


def test_a_forked_child_is_refused_as_on_a_gpu(output):
    text = """
        import os
        import cupy
        from gpucnn.devices import choose
        x = cupy.ones(3)
        if not os.fork():
            try:
                cupy.ones(3)
            except Exception as error:
                print("initialization error" in str(error), choose.gpu_state()[0], flush=True)
            os._exit(0)
        os.wait()
        print(float(x.sum()))
    """
    assert output(text) == ["True 0", "3.0"]


def test_other_processes_of_the_tree_run_on_it_too(output):
    text = """
        import subprocess, sys
        code = "import cupy; print(cupy.cuda.runtime.getDeviceProperties(0)['name'].decode()[:12])"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
    """
    assert output(text) == ["Emulated GPU"]


OWN_MODEL = """
from gpucnn import Input, Sequential, layers

def build(input_shape, classes):
    return Sequential([Input(input_shape), layers.Flatten(), layers.Dense(classes, activation="softmax")])
"""


@pytest.mark.parametrize(("flags", "graph"), [((), "0"), (("--lazy", "7"), "1")], ids=["launched", "lazy graphs"])
def test_ctrl_c_ends_a_training_on_it_as_usual(built, tmp_path, flags, graph):
    (tmp_path / "mine.py").write_text(OWN_MODEL)
    x, y = np.zeros((32, 4, 4, 1), np.uint8), np.arange(32) % 2
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    command = [sys.executable, "-m", "gpucnn", "emulate-gpu", *flags, "train", "--model", "mine.py:build"]
    command += ["--data", "images.npz", "--backend", "cuda", "--epochs", "1000000", "--no-pictures", "--out", "run"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "GPUCNN_GRAPH": graph}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=settings, cwd=tmp_path) as process:
        for line in process.stderr:
            if line.startswith("Epoch 2/"):
                process.send_signal(signal.SIGINT)
                break
        _, text = process.communicate(timeout=600)
    assert process.returncode == 130, text
    assert "Traceback" not in text


def test_private_tables_are_not_found(output):
    text = """
        import ctypes
        import cupy
        cupy.zeros(1)
        driver, table = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(1)
        print(driver.cuGetExportTable(ctypes.byref(table), bytes(16)), table.value)
    """
    assert output(text) == ["500 None"]


def test_bench_refuses_times(emulated):
    text = "import sys; from gpucnn.cli import main; sys.argv[1:] = ['bench', 'bias']; main()"
    done = emulated(text)
    assert done.returncode == 1
    assert "the GPU is emulated and its times mean nothing" in done.stderr


def test_two_processes_may_build_a_library_at_once(tmp_path):
    text = """
from gpucnn.devices.emulator import compiler
from gpucnn.devices.emulator.driver import build
print(compiler.loaded("both.so", build._build_light).functions.cublasLtGetVersion())
"""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "GPUCNN_CACHE": str(tmp_path), "TMPDIR": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=600)[0] for process in both] == ["0\n"] * 2
    (kept,) = (tmp_path / "emulator").iterdir()
    assert kept.name == "both.so" and places.intact(kept) is not None
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")) == [], "no part is left"


def test_the_command_takes_all_settings_of_a_session(monkeypatch):
    calls = []
    monkeypatch.setattr(driver, "environment", lambda session: calls.append(session) or {"A": "B"})
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    flags = "--check --lazy 5 --card t4 --memory 3MiB --devices 2"
    emulate_gpu.main([*flags.split(), "mine.py", "--lazy"], standalone_mode=False)
    session = driver.Session(card="t4", check=True, lazy=5, memory=3 << 20, devices=2)
    assert calls == [session, (sys.executable, [sys.executable, "mine.py", "--lazy"], {"A": "B"})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        ([], "give a command of gpucnn, a .py file, or python and its arguments"),
        (["--card", "h10", "train"], "card 'h10' is unknown: did you mean 'h100'?"),
        (["--memory", "1 apple", "train"], "--memory 1 apple: give a number of bytes, or such as 512MiB or 2GiB"),
    ],
)
def test_wrong_arguments_are_refused_without_building_anything(arguments, message):
    command = [sys.executable, "-m", "gpucnn", "emulate-gpu", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_search_for_headers_that_takes_too_long_is_a_reason(monkeypatch):
    def search():
        raise ChildProcessError("Canary probe child process timed out after 10.0 seconds.\n--- stderr ---")

    monkeypatch.setattr(build, "_headers", search)
    assert "the search for the headers of CUDA failed (Canary probe child process timed out" in build.unavailable()


@emulator_here
def test_without_cupy_one_sentence_names_the_cure():
    code = (
        "import sys; from gpucnn.devices.emulator.driver import build\n"
        "build.installed_version = lambda package: None\n"
        "from gpucnn.cli import main; sys.argv[1:] = ['emulate-gpu', 'models']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert "cannot be built here: CuPy is not installed: pip install 'gpucnn[emulated-gpu]'" in done.stderr
