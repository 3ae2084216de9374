"""Whether trainings on a GPU are repeatable and as good as on the CPU; reads OUT/runs, writes OUT/mnist.json.

python bench/mnist_verdict.py OUT cuda numba

Two trainings of a backend with one seed must end in equal weights. The accuracy must lie within the spread of the
seeds on the CPU: three seeds show little of it, so as much again counts on both sides, and a quarter of a percent.
"""

import json
import sys
from pathlib import Path

from gpucnn.files import write_atomically

KEYS = ("device", "backend", "seed", "epochs", "seconds", "images_per_second", "test_accuracy", "weights_sha256")


def faults(runs: dict[str, dict], backends: list[str], compared: bool) -> list[str]:
    found = []
    cpu = [run["test_accuracy"] for name, run in runs.items() if name.startswith("cpu")]
    for backend in backends:
        one, two = runs.get(f"{backend}-1"), runs.get(f"{backend}-2")
        if one is None or two is None:
            found.append(f"{backend}: a training did not end")
            continue
        if one["weights_sha256"] != two["weights_sha256"]:
            found.append(f"{backend}: two trainings with one seed end in different weights")
        if not compared:
            continue
        if not cpu:
            found.append(f"{backend}: no training on the CPU to compare with")
            continue
        slack = max(cpu) - min(cpu) + 0.0025
        if not min(cpu) - slack <= one["test_accuracy"] <= max(cpu) + slack:
            found.append(f"{backend}: the accuracy {one['test_accuracy']} is far from those on the CPU, {cpu}")
    return found


def main(out: Path, backends: list[str]) -> int:
    told = {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("runs/*/run.json"))}
    ended = {name.removeprefix("3-mnist-"): run for name, run in told.items() if run.get("status") == "finished"}
    runs = {name: {key: run[key] for key in KEYS} for name, run in ended.items()}
    found = faults(runs, backends, all(run["dataset"] == "mnist" for run in told.values()))
    text = json.dumps({"runs": runs, "faults": found}, indent=1) + "\n"
    write_atomically(out / "mnist.json", text.encode())
    print(text, *found, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
