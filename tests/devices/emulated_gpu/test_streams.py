"""Streams, events, captures and graphs do what CUDA's manual says, and refuse what it forbids."""

import re

PRELUDE = """
import cupy
import numpy as np
from cupy.cuda import Event, Stream, runtime

axpy = cupy.RawKernel('''
extern "C" __global__ void axpy(float* y, const float* x, float a)
{
    y[threadIdx.x] += a * x[threadIdx.x];
}
''', "axpy")
x, y = cupy.arange(32, dtype=cupy.float32), cupy.zeros(32, cupy.float32)

def work(a, stream=None):
    axpy((1,), (32,), (y, x, np.float32(a)), stream=stream)

work(0)
cupy.cuda.Device().synchronize()
"""


def test_a_captured_graph_runs_when_it_is_launched_and_not_before(output):
    text = PRELUDE + (
        "s = Stream(non_blocking=True)\n"
        "with s:\n"
        "    s.begin_capture(); work(1); work(2); graph = s.end_capture()\n"
        "    s.synchronize(); print(float(y[1].get()))\n"
        "    for _ in range(3): graph.launch(s)\n"
        "    s.synchronize(); print(float(y[1].get()))\n"
    )
    for settings in ({}, {"lazy": 0}, {"lazy": 5}, {"check": True}):
        assert output(text, **settings) == ["0.0", "9.0"]


REFUSALS = {
    "s.synchronize()": ("Unsupported", "Invalidated"),
    "cupy.cuda.Device().synchronize()": ("Unsupported", "Invalidated"),
    "y.get(stream=Stream.null) if not nb else s.synchronize()": ("Unsupported", "Invalidated"),
    "s.wait_event(before)": ("Isolation", "Invalidated"),
    "t.wait_event(recorded(s)); work(1, t)": ("", "Unjoined"),
    "t.wait_event(recorded(s)); work(1, t); s.wait_event(recorded(t))": ("", "a graph of 1"),
    "s.begin_capture()": ("IllegalState", "a graph of 0"),
    "recorded(s).synchronize()": ("CapturedEvent", "a graph of 0"),
    "runtime.malloc(100)": ("", "a graph of 0"),
    "t.begin_capture(); t.wait_event(recorded(s))": ("Merge", "Invalidated"),
    "t.wait_event(recorded(s)); t.end_capture()": ("Unmatched", "Invalidated"),
}


def test_a_capture_refuses_what_the_manual_forbids(output):
    text = PRELUDE + (
        "def recorded(s):\n"
        "    event = Event(); event.record(s); return event\n"
        "before, nb = recorded(Stream.null), True\n"
        "def name(error): return type(error).__name__ if not hasattr(error, 'status') else str(error).split(':')[0]\n"
        f"for line in {list(REFUSALS)!r}:\n"
        "    s, t, refusal = Stream(non_blocking=True), Stream(non_blocking=True), ''\n"
        "    with s:\n"
        "        s.begin_capture()\n"
        "        try: exec(line)\n"
        "        except Exception as error: refusal = name(error).removeprefix('cudaErrorStreamCapture')\n"
        "        try: s.end_capture(); end = 'a graph'\n"
        "        except Exception as error: end = name(error).removeprefix('cudaErrorStreamCapture')\n"
        "    try: t.end_capture()\n"
        "    except Exception: pass\n"
        "    print(f'{refusal} {end}')\n"
    )
    lines = output(text)
    expected = [f"{refusal} {re.sub(' of .*', '', end)}" for refusal, end in REFUSALS.values()]
    assert [line.replace("cudaError", "") for line in lines] == expected


def test_global_captures_refuse_allocations_and_the_default_stream_blocking_ones(output):
    text = PRELUDE + (
        "def attempt(call):\n"
        "    try: call(); print('done')\n"
        "    except Exception as error: print(str(error).split(':')[0].removeprefix('cudaErrorStreamCapture'))\n"
        "s = Stream(non_blocking=True)\n"
        "with s: s.begin_capture(runtime.streamCaptureModeGlobal)\n"
        "attempt(lambda: runtime.malloc(100))\n"
        "attempt(s.end_capture)\n"
        "s = Stream()\n"
        "with s: s.begin_capture()\n"
        "attempt(lambda: runtime.streamSynchronize(0))\n"
        "attempt(s.end_capture)\n"
        "attempt(lambda: runtime.streamBeginCapture(0, runtime.streamCaptureModeRelaxed))\n"
    )
    assert output(text) == ["Unsupported", "Invalidated", "Implicit", "Invalidated", "Unsupported"]


def test_host_functions_and_events_keep_the_order_of_their_stream(output):
    text = PRELUDE + (
        "seen, s, t = [], Stream(non_blocking=True), Stream(non_blocking=True)\n"
        "work(1, s)\n"
        "s.launch_host_func(lambda _: seen.append('first'), None)\n"
        "event = Event(); event.record(s); t.wait_event(event)\n"
        "t.launch_host_func(lambda _: seen.append('second'), None)\n"
        "t.synchronize(); print(seen, event.done)\n"
    )
    for settings in ({}, {"lazy": 0}, {"lazy": 9}):
        assert output(text, **settings) == ["['first', 'second'] True"]
