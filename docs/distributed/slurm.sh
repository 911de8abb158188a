#!/bin/bash
#SBATCH --job-name=fastbat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --signal=TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append

# Trains on 2 hosts with 8 GPUs each. In a clone of the repository:
#
#   sbatch docs/distributed/slurm.sh
#
# `srun` starts the same command once on each host, and Slurm's variables tell
# each process its place. For several processes on a host, change
# --ntasks-per-node and add --gpus-per-task, so that each sees its own GPUs.

set -euo pipefail

# If one worker fails, the others end by themselves, with a message.
exec srun --kill-on-bad-exit=0 .venv/bin/python main.py \
    --method=fastbat --dataset=cifar10 --strategy=multiworker \
    --run_dir=runs/slurm
