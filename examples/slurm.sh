#!/bin/bash
# Trains with two tasks of eight GPUs each; all arguments are flags of train:
#   sbatch examples/slurm.sh --flagfile=flags/paper.cfg \
#     --flagfile=flags/large_batch.cfg --data_dir=/shared/data \
#     --run_dir=/shared/runs/large_batch
# A lost task, `scontrol requeue` and the time limit end the job, which Slurm
# starts again and which resumes the run. tests/end_to_end/test_slurm.py submits
# this file to a Slurm of one node.
#SBATCH --job-name=alexnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# 300 seconds before the time is over, all tasks stop with a checkpoint.
#SBATCH --signal=TERM@300

# Since Slurm 22.05, srun does not take it from sbatch.
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
# Not --kill-on-bad-exit: the others end by themselves, and srun returns the
# highest of all codes. --wait is for a task that hangs.
srun --kill-on-bad-exit=0 --wait=120 \
  "${PYTHON:-.venv/bin/python}" -m alexnet_tf.main "$@" --cluster=slurm
code=$?
# 2 is a mistake of the user, which a restart would only repeat.
if ((code != 0 && code != 2 && ${SLURM_RESTART_COUNT:-0} < 50)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
