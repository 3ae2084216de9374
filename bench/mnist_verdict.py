"""Whether training on a GPU is repeatable and as good as on the CPU: OUT/runs → OUT/mnist.json.

python bench/mnist_verdict.py OUT cuda numba

Two runs of a backend with one seed must give equal weights. The accuracy must lie within the spread
of the seeds on the CPU. Three seeds show little of this spread, so it is extended on both sides by
the same spread plus a quarter of a percent.
"""

import json
import sys
from pathlib import Path

from gpucnn.files import write_atomically

KEYS = ("device", "backend", "seed", "epochs", "seconds", "images_per_second", "test_accuracy", "weights_sha256")


def faults(runs: dict[str, dict], backends: list[str], compared: bool) -> list[str]:
    messages = []
    cpu = [run["test_accuracy"] for name, run in runs.items() if name.startswith("cpu")]
    for backend in backends:
        one, two = runs.get(f"{backend}-1"), runs.get(f"{backend}-2")
        if one is None or two is None:
            messages.append(f"{backend}: a run did not finish")
            continue
        if one["weights_sha256"] != two["weights_sha256"]:
            messages.append(f"{backend}: two runs with one seed gave different weights")
        if not compared:
            continue
        if not cpu:
            messages.append(f"{backend}: there is no run on the CPU to compare with")
            continue
        slack = max(cpu) - min(cpu) + 0.0025
        if not min(cpu) - slack <= one["test_accuracy"] <= max(cpu) + slack:
            messages.append(f"{backend}: the accuracy {one['test_accuracy']} is far from those on the CPU, {cpu}")
    return messages


def main(out: Path, backends: list[str]) -> int:
    started = {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("runs/*/run.json"))}
    finished = {name.removeprefix("3-train-"): run for name, run in started.items() if run.get("status") == "finished"}
    runs = {name: {key: run[key] for key in KEYS} for name, run in finished.items()}
    messages = faults(runs, backends, all(run["dataset"] == "mnist" for run in started.values()))
    text = json.dumps({"runs": runs, "faults": messages}, indent=1) + "\n"
    write_atomically(out / "mnist.json", text.encode())
    print(text, *messages, sep="\n")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
