#!/bin/bash
# One training over the nodes of a Slurm cluster: sbatch bench/cluster/slurm.sh cifar10 --epochs 25
# A job that Slurm stops or requeues goes on from its last checkpoint.
#SBATCH --job-name=gpucnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# On GPUs, one for each process:
##SBATCH --gpus-per-task=1

set -euo pipefail

module load openmpi 2>/dev/null || true # the cluster's MPI, with which mpi4py was built
source "${GPUCNN_ENV:-$HOME/gpucnn-env}/bin/activate"

run="${GPUCNN_RUN:-runs/slurm-${SLURM_JOB_ID}}"
if [[ -f "$run/run.json" ]]; then
    srun --mpi=pmix --kill-on-bad-exit=1 gpucnn train --resume "$run" --no-pictures
else
    srun --mpi=pmix --kill-on-bad-exit=1 gpucnn train "$@" --out "$run" --no-pictures \
        --threads "$SLURM_CPUS_PER_TASK"
fi
