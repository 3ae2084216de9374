"""`gpucnn check` on a GPU: a kernel that breaks the GPU is named, and the others are still checked."""

import json
import os
import subprocess
import sys

from places import ROOT

SOUND = (
    """extern "C" __global__ void product(float* y, const float* a, const float* b, int k, int n, int m)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= m * n) return;
    float sum = 0.0f;
    for (int j = 0; j < k; ++j) sum += a[i / n * k + j] * b[j * n + i % n];
    y[i] = sum;
}
""",
    """import gpucnn
from gpucnn.ops.matmul import matmul

PRODUCT = gpucnn.cuda_function(__file__, "product")


def plain(a, b, *, transpose_a, transpose_b, **_):
    return not transpose_a and not transpose_b


@gpucnn.kernel(matmul, "NAME", "cuda", supports=plain)
def launch(y, a, b, *, transpose_a, transpose_b):
    END
    PRODUCT[(y.size + 255) // 256, 256](y, a, b, a.shape[1], y.shape[1], y.shape[0])
""",
)


def write(folder, name, end="", broken=False):
    device_code, host_code = SOUND
    if broken:
        device_code = device_code.replace("    y[i] = sum;", "    ((float*)64)[i] = sum;")
    (folder / f"{name}_cuda.cu").write_text(device_code)
    path = folder / f"{name}_cuda.py"
    path.write_text(host_code.replace("NAME", name).replace("END", end or "pass"))
    return ["--load", str(path)]


def test_every_other_kernel_is_checked_after_one_that_breaks_the_gpu_or_its_process(tmp_path):
    files = write(tmp_path, "breaking", broken=True) + write(tmp_path, "ending", "import os; os._exit(7)")
    files += write(tmp_path, "sound")
    command = [sys.executable, "-m", "gpucnn", "emulate-gpu", "check", *files]
    command += ["--device", "gpu", "--largest", "1e-5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    faults = {}
    for row in json.loads(done.stdout)["trials"]:
        faults.setdefault(row["kernel"].partition("/")[2], []).append(row["fault"])
    assert len({len(of_kernel) for of_kernel in faults.values()}) == 1
    assert faults["sound_cuda"] and not any(faults["sound_cuda"])
    assert all("gpu:0 is lost to this process" in fault for fault in faults["breaking_cuda"])
    assert all(fault == "the process that ran it ended with status 7" for fault in faults["ending_cuda"])
