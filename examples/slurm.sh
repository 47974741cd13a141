#!/bin/bash
# Trains on two machines with eight GPUs each:
#   sbatch examples/slurm.sh
# Only the syntax was checked; not run on a cluster.
#SBATCH --job-name=alexnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=2-00:00:00
#SBATCH --requeue

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
workers=$(printf '"%s:9000",' "${hosts[@]}")
export CLUSTER="{\"worker\": [${workers%,}]}"
srun --kill-on-bad-exit=1 bash -c '
  export TF_CONFIG="{\"cluster\": $CLUSTER, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec .venv/bin/python -m alexnet_tf.main --flagfile=flags/paper.cfg \
    --flagfile=flags/large_batch.cfg --distribution=multi_worker \
    --data_dir=/shared/data --run_dir=/shared/runs/large_batch
'
# If a worker is lost, all workers exit; the requeued job resumes the run. Exit
# code 2 is a user error, which a restart would only repeat.
case $? in 0|2) ;; *) scontrol requeue "$SLURM_JOB_ID" ;; esac
