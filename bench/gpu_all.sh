#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, most valuable first, with a record after each task.
#
#   bench/gpu_all.sh                                     all steps; run it again after a stop to resume
#   DRY_RUN=1 bench/gpu_all.sh                           the same on the CPU and in the emulator, in a minute or two
#   STEPS="1 2 3 4" DEADLINE_S=840 bench/gpu_all.sh      four steps, and a clean stop before 14 minutes have passed
#
# Steps:
#   1  `gpucnn doctor --self-check`; tests marked gpu; `gpucnn check` of all kernels
#   2  compute-sanitizer memcheck and racecheck over a small training
#   3  a training with each backend, twice with one seed: equal weights; of MNIST also an accuracy within the spread
#      of the CPU's seeds, and without MNIST the embedded digits
#   4  the training step compared with PyTorch, eager and as one CUDA graph, next to what is predicted for the card;
#      the time of each of its kernels
#   5  each family of kernels compared with cuBLAS and PyTorch; the list of kernels
#   6  compute-sanitizer memcheck, racecheck, initcheck and synccheck over the check of each family
#   7  the training step compared with all contenders of bench/competitors.py, with and without TF32
#
# Steps 1 to 4 take about 15 minutes on an H100 with nothing compiled before. The tools must be there: CuPy, numba-cuda,
# NumPy below 2.5, pytest; PyTorch and compute-sanitizer if there are any.
#
# Variables:
#   OUT          folder of the records                 [bench/results/<device>; of a dry run in the temporary folder]
#   STEPS        which steps                           [1 2 3 4 5 6 7]
#   DRY_RUN      1: nothing needs a GPU, tiny data
#   DEADLINE_S   stop cleanly within this many seconds [none]
#   TASK_S       time limit of one task; a task that takes longer is recorded as failed   [240]
#   AGAIN        1: also repeat tasks that failed before
#   PATTERN      only kernels whose id contains one of these words   [all; dry: matmul/naive]
#   MODELS       the models of steps 4 and 7           [slides keras-intro torres mlearning cifar; dry: slides]
#   SECONDS_EACH seconds of measuring a model in step 4  [10; dry: 1]
#   CONTENDERS   those of bench/competitors.py in step 7             [all]
#   LIMIT        seconds of measuring for each of them  [60; dry: 5]
#   EPOCHS       of step 3                             [3]
#   WHEELS       a folder of wheels that take precedence over installed packages, such as numpy-2.4…whl
#   JOBS         processes of pytest, each with a context on the GPU    [4 with pytest-xdist on a GPU of 8 GB or more that
#                several processes may use; else none]
#   GPUCNN_DATA  the folder that holds mnist/
#   PYTHON       the interpreter                       [python3]
#   GPUCNN_COMMIT  the commit, if this folder is a copy without .git
#
# A record is a JSON object: task, status (ok, failed, or absent: it cannot run here for the reason in `why`), why,
# command, seconds, exit, tail (the end of its output; all of it is in <task>.log), commit, date, gpu, versions.
# summary.json lists all records. Exit status: 0 all done, 1 a task failed (listed), 75 stopped at the deadline.
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}
STEPS=${STEPS:-1 2 3 4 5 6 7}
DRY=${DRY_RUN:-0}
TASK_S=${TASK_S:-240}
BEGIN=$SECONDS
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg

if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$WORK/site" "$WHEELS"/*.whl || exit 2
  export PYTHONPATH="$WORK/site:$PYTHONPATH"
fi
here() { case "$1" in '' | /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
OUT=$(here "${OUT:-}")
[ -z "${GPUCNN_DATA:-}" ] || GPUCNN_DATA=$(here "$GPUCNN_DATA")
cd "$ROOT" || exit 2

if [ "$DRY" = 1 ]; then
  DEVICE=emulator
  OUT=${OUT:-${TMPDIR:-/tmp}/gpucnn-dry-run}
  PATTERN=${PATTERN:-matmul/naive}
  MODELS=${MODELS:-slides}
else
  DEVICE=gpu
  NAME=$("$PYTHON" -c 'import sys; from gpucnn.devices import choose; n, what = choose.gpu_state(); print(what); sys.exit(not n)') || {
    echo "gpu_all: no GPU: ${NAME:-gpucnn cannot be imported}; DRY_RUN=1 tries everything without one" >&2
    exit 2
  }
  OUT=${OUT:-bench/results/$(echo "${NAME%%,*}" | tr 'A-Z ' 'a-z-')}
  MODELS=${MODELS:-slides keras-intro torres mlearning cifar}
fi
FAMILIES=${PATTERN:-$(cd kernels && for f in */; do [ "$f" != include/ ] && ls "$f" | grep -q '_cuda.py$\|_numba.py$' && echo "$f"; done)}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
"$PYTHON" - >"$WORK/facts.json" <<'PY' || exit 2
import json
from gpucnn.devices import choose
from gpucnn.profiling import records

count, names = choose.gpu_state()
print(json.dumps({"commit": records.commit(), "gpu": names if count else None, "versions": records.versions()}))
PY

left() { # seconds until the deadline
  echo $((${DEADLINE_S:-1000000} - (SECONDS - BEGIN)))
}

is_due() { # whether a task has to run; stops the script at the deadline
  if [ -f "$OUT/$1.json" ]; then
    [ "${AGAIN:-0}" = 1 ] && grep -q '"status": "failed"' "$OUT/$1.json" || return 1
  fi
  if [ "$(left)" -lt 10 ]; then stop; fi
}

stop() {
  summary
  echo "gpu_all: stopped at the deadline; run the same command again to resume" >&2
  exit 75
}

record() { # TASK STATUS WHY SECONDS EXIT COMMAND...
  "$PYTHON" - "$OUT" "$WORK/facts.json" "$@" <<'PY'
import json, os, sys
from datetime import datetime, timezone
from pathlib import Path

out, facts, task, status, why, seconds, code, *command = sys.argv[1:]
log, path = Path(out, f"{task}.log"), Path(out, f"{task}.json")
fields = {
    "task": task,
    "status": status,
    "why": why or None,
    "command": command,
    "seconds": float(seconds),
    "exit": int(code),
    "tail": log.read_text(errors="replace")[-2000:] if log.is_file() else "",
    "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    **json.loads(Path(facts).read_text()),
}
part = path.with_suffix(".part")
part.write_text(json.dumps(fields, indent=1) + "\n")
os.replace(part, path)
PY
}

task() { # TASK COMMAND...: run it unless it is recorded, and record how it ended
  local name=$1 start=$SECONDS limit status=ok why='' code
  shift
  is_due "$name" || return 0
  limit=$(left)
  [ "$limit" -gt "$TASK_S" ] && limit=$TASK_S
  echo "gpu_all: $name" >&2
  timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1
  code=$?
  [ $code = 137 ] && code=124
  # A task that had nearly all the time of this call will not finish in the next call either.
  if [ $code = 75 ] || { [ $code = 124 ] && [ "$limit" -lt "$TASK_S" ] && [ "$limit" -lt $((${DEADLINE_S:-0} * 4 / 5)) ]; }; then
    stop
  fi
  [ $code = 0 ] || { status=failed why="ended with status $code"; }
  [ $code = 124 ] && why="took more than $limit s"
  if [ $status = failed ] && [ -n "${ABSENT_IF:-}" ] && grep -q "$ABSENT_IF" "$OUT/$name.log"; then
    status=absent why=$(tail -n 1 "$OUT/$name.log")
  fi
  if [ $status = ok ] && [ -n "${MUST_SAY:-}" ] && ! grep -q "$MUST_SAY" "$OUT/$name.log"; then
    status=failed why="its output has no '$MUST_SAY'"
  fi
  record "$name" $status "$why" $((SECONDS - start)) $code "$@"
  [ $status = ok ]
}

absent() { # TASK WHY: record a task that cannot run here
  is_due "$1" || return 0
  echo "gpu_all: $1: $2" >&2
  record "$1" absent "$2" 0 0
}

summary() {
  "$PYTHON" - "$OUT" <<'PY'
import json, os, sys
from pathlib import Path

out = Path(sys.argv[1])
records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json")) if path.name != "summary.json"]
rows = [{key: r[key] for key in ("task", "status", "why", "seconds", "commit", "date")} for r in records if "task" in r]
part = out / "summary.part"
part.write_text(json.dumps({"tasks": rows}, indent=1) + "\n")
os.replace(part, out / "summary.json")
failed = [f"{r['task']} ({r['why']})" for r in rows if r["status"] == "failed"]
print(f"gpu_all: {len(rows)} tasks recorded in {out}")
print("".join(f"gpu_all: FAILED {line}\n" for line in failed), end="")
sys.exit(bool(failed))
PY
}

name_of() { echo "${1%/}" | tr '/' '-'; }

# -- step 1: correctness ----------------------------------------------------------------------------------------------

workers() { # processes of pytest: one where each context needs the whole GPU, or a large part of it
  local mode memory
  "$PYTHON" -c 'import xdist' 2>/dev/null || return 1
  [ -n "${JOBS:-}" ] && echo "$JOBS" && return
  [ "$DRY" = 1 ] && return 1
  IFS=', ' read -r mode memory < <(nvidia-smi --query-gpu=compute_mode,memory.total --format=csv,noheader,nounits 2>/dev/null)
  [ "$mode" = Default ] && [ "${memory:-0}" -ge 8000 ] && echo 4
}

tests() {
  local options=(-W default -p no:cacheprovider -m gpu tests/kernels/test_agreement.py tests/devices/test_gpu.py) several
  if several=$(workers); then options+=(-n "$several"); fi
  if [ "$DRY" = 1 ]; then # without a GPU they are all skipped
    task 1-tests "$PYTHON" -m pytest "${options[@]}"
    return
  fi
  local MUST_SAY=' passed'
  task 1-tests-cuda "$PYTHON" -m pytest "${options[@]}" -k _cuda
  task 1-tests-numba "$PYTHON" -m pytest "${options[@]}" -k '_numba and not _cuda'
  task 1-tests-others "$PYTHON" -m pytest "${options[@]}" -k 'not _cuda and not _numba'
}

check() { # all kernels compared with NumPy, each family in a process of its own
  local family
  for family in ${PATTERN:-''}; do
    task "1-check${family:+-$(name_of "$family")}" "$PYTHON" -m gpucnn check $family --device $DEVICE
  done
}

# -- steps 2 and 6: compute-sanitizer ---------------------------------------------------------------------------------

sanitize() { # STEP TOOL: compute-sanitizer over the check of each family; in a dry run the emulator's checker
  local step=$1 tool=$2 family why
  if [ "$DRY" = 1 ]; then
    for family in $FAMILIES; do
      task "$step-$tool-$(name_of "$family")" "$PYTHON" -m gpucnn check "$family" --device emulator --mode check
    done
    return
  fi
  why=$(refusal) || {
    absent "$step-$tool" "$why"
    return
  }
  for family in $FAMILIES; do
    # Without a pool, each array is an allocation whose end the tool knows.
    task "$step-$tool-$(name_of "$family")" env GPUCNN_NO_POOL=1 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      --report-api-errors no "$PYTHON" -m gpucnn check "$family" --device gpu --largest 50
  done
}

sanitize_training() { # of four images, each array an allocation whose end the tool knows
  local tool why
  [ "$DRY" = 1 ] && return # step 6 has the emulator's checker
  why=$(refusal) || {
    absent 2-training "$why"
    return
  }
  tiny
  for tool in memcheck racecheck; do
    rm -rf "${OUT:?}/runs/2-$tool"
    task "2-$tool-training" env GPUCNN_NO_POOL=1 compute-sanitizer --tool $tool --error-exitcode 9 --report-api-errors no \
      "$PYTHON" -m gpucnn train "${DATA[@]}" --no-pictures --out "$OUT/runs/2-$tool" --device gpu --backend cuda
    rm -rf "${OUT:?}/runs/2-$tool"
  done
}

refusal() { # why compute-sanitizer cannot be used; status 0 if it can
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed"; return 1; }
  compute-sanitizer --error-exitcode 9 --report-api-errors no "$PYTHON" -c 'import cupy; cupy.zeros(1).get()' \
    >"$OUT/sanitizer.log" 2>&1 || { echo "compute-sanitizer refuses: $(grep -m1 -i 'error\|not supported' "$OUT/sanitizer.log")"; return 1; }
}

# -- steps 4 and 7: the training step ----------------------------------------------------------------------------------

training_step() { # each model with PyTorch and with the prediction for this card
  local model options=(--out "$OUT") ABSENT_IF='emulated and is not timed'
  if [ "$DRY" = 1 ]; then options+=(--device cpu --card h100 --vs ''); fi
  options+=(--seconds "${SECONDS_EACH:-$([ "$DRY" = 1 ] && echo 1 || echo 10)}")
  for model in $MODELS; do
    task "4-step-$model" "$PYTHON" bench/beside_prediction.py "$model" "${options[@]}"
  done
  [ "$DRY" = 1 ] && return # the profiler sees no kernels
  ABSENT_IF='No module named' # PyTorch
  task 4-kernels "$PYTHON" bench/step_kernels.py $MODELS --branches --out "$OUT/step-kernels.json"
}

compete() { # STEP MODEL...
  local step=$1 model contender
  shift
  for model in "$@"; do
    is_due "$step-competitors-$model" || continue
    # It records each combination separately, so a stop at the limit of the task loses nothing and is not a failure.
    local TASK_S=1000000 options=(--out "$OUT/competitors" --model "$model" --deadline $(($(left) - 5)))
    [ "$DRY" = 1 ] && options+=(--dry-run)
    [ -n "${LIMIT:-}" ] && options+=(--limit "$LIMIT")
    for contender in ${CONTENDERS:-}; do options+=(--contender "$contender"); done
    [ "${AGAIN:-0}" = 1 ] && options+=(--again)
    task "$step-competitors-$model" "$PYTHON" bench/competitors.py "${options[@]}"
  done
}

# -- step 3: trainings --------------------------------------------------------------------------------------------------

tiny() { # a data set of six images
  "$PYTHON" - "$WORK/tiny.npz" <<'PY'
import sys
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (6, 28, 28, 1), np.uint8), np.arange(6) % 2
np.savez(sys.argv[1], x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:])
PY
  DATA=(--data "$WORK/tiny.npz" --model slides --epochs 1 --batch-size 4)
}

train() { # TASK OPTION...
  local name=$1
  shift
  is_due "$name" || return 0
  rm -rf "${OUT:?}/runs/$name"
  task "$name" "$PYTHON" -m gpucnn train "${DATA[@]}" --no-pictures --out "$OUT/runs/$name" "$@"
}

trainings() {
  local backend again seed backends=(cuda numba) seeds=(0 1 2)
  DATA=(mnist --epochs "${EPOCHS:-3}")
  if [ "$DRY" = 1 ]; then
    tiny
    backends=(cuda) seeds=(0) # numba's kernels take long to compile
  elif ! "$PYTHON" -m gpucnn data path mnist >/dev/null 2>&1; then
    echo "gpu_all: MNIST is not here (set GPUCNN_DATA to the folder that has mnist/): training on the embedded digits" >&2
    DATA=(digits --epochs "${EPOCHS:-3}") seeds=()
  fi
  for backend in "${backends[@]}"; do
    for again in 1 2; do
      train "3-train-$backend-$again" --device $DEVICE --backend $backend --seed 0
    done
  done
  for seed in "${seeds[@]}"; do train "3-train-cpu-$seed" --device cpu --seed $seed; done
  task 3-train-verdict "$PYTHON" bench/mnist_verdict.py "$OUT" "${backends[@]}" && rm -rf "${OUT:?}/runs"
}

# -- step 5: kernels ----------------------------------------------------------------------------------------------------

kernels() {
  local family name backend options vs=cublas ABSENT_IF='kernels takes any large case'
  "$PYTHON" -c 'import torch' 2>/dev/null && vs=cublas,torch
  for family in $FAMILIES; do
    for backend in cuda numba; do
      name=5-bench-$(name_of "$family")-$backend
      options=("$family" --backend "$backend" --device $DEVICE)
      if [ "$DRY" != 1 ] && [ "$backend" = cuda ]; then options+=(--vs $vs); fi
      task "$name" "$PYTHON" -m gpucnn bench "${options[@]}" --json "$OUT/bench-$(name_of "$family")-$backend.json"
    done
  done
  # shellcheck disable=SC2016
  task 5-kernels bash -c '"$0" -m gpucnn kernels list "$1" --arch "$2" --json >"$3.part" && mv "$3.part" "$3"' "$PYTHON" "${PATTERN:-}" \
    "$([ "$DRY" = 1 ] && echo none || echo sm_90)" "$OUT/kernels.json"
  local model device=$DEVICE
  [ "$DRY" = 1 ] && device=cpu
  for model in $MODELS; do
    # shellcheck disable=SC2016
    task "5-tune-$model" bash -c '"$0" -m gpucnn kernels tune "$1" --device "$2" --json >"$3.part" && mv "$3.part" "$3"' "$PYTHON" \
      "$model" "$device" "$OUT/tuned-$model.json"
  done
}

for step in $STEPS; do
  case $step in
    1)
      task 1-doctor "$PYTHON" -m gpucnn doctor --self-check
      tests
      check
      ;;
    2) sanitize_training ;;
    3) trainings ;;
    4) training_step ;;
    5) kernels ;;
    6) # the emulator's checker finds all kinds of faults in one pass
      for tool in memcheck $([ "$DRY" = 1 ] || echo racecheck initcheck synccheck); do sanitize 6 $tool; done
      ;;
    7) compete 7 $MODELS ;;
    *) echo "gpu_all: there is no step $step" >&2 && exit 2 ;;
  esac
  summary >/dev/null
done
summary
