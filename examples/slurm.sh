#!/bin/bash
# Trains on two nodes, a task on each: sbatch examples/slurm.sh digits_resnet20 --epochs 5
# The same command again continues the run. RUNS must lie where all nodes, or at least the first, always find it.
#SBATCH --job-name=resnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=4
#SBATCH --distribution=block
#SBATCH --signal=TERM@60
set -euo pipefail

RUNS=${RUNS:-$SLURM_SUBMIT_DIR/runs}
RECIPE=${1:?Usage: sbatch examples/slurm.sh RECIPE [FLAGS]}
shift

# srun starts the tasks and tells each of them where the others are (SLURM_STEP_NODELIST and others). A task that ends
# with an error ends the step.
exec srun --kill-on-bad-exit=1 resnet-train "$RECIPE" --workdir "$RUNS/$RECIPE" "$@"
