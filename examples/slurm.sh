#!/bin/bash
# Trains on two nodes, one task per node: sbatch examples/slurm.sh cifar10 --model resnet56 --data-dir DIR
# The same command resumes the run. The run folder (--workdir, by default below runs/ in the folder of submission) must be
# on a file system that all nodes, or at least the first one, always see.
#SBATCH --job-name=resnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=4
#SBATCH --distribution=block
#SBATCH --signal=TERM@60
set -euo pipefail

: "${1:?Usage: sbatch examples/slurm.sh RECIPE [FLAGS]}"

# srun starts the tasks and describes the cluster to each (SLURM_STEP_NODELIST and others). A task that ends with an error
# ends the step.
exec srun --kill-on-bad-exit=1 resnet train "$@"
