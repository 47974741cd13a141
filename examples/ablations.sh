#!/usr/bin/env bash
# Trains flags/small.cfg and 17 variants with seeds 1, 2 and 3, then compares
# them: the table and figures of docs/results.md, "Ablations". Finished runs are
# skipped, so an interrupted script can be started again. 54 runs of 1.5 to 2.5
# minutes each on one core.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

# train_variant NAME FLAG...
train_variant() {
  local name=$1
  shift
  for seed in 1 2 3; do
    "$python" -m alexnet_tf.main --flagfile=flags/small.cfg "$@" \
      --prepared_dir=shapes108 --seed="$seed" --run_dir="runs/small/$name-$seed"
  done
}

"$python" -m alexnet_tf.main prepare --flagfile=flags/small.cfg \
  --prepared_dir=shapes108 --prepared_format=raw

train_variant base
for file in flags/ablations/*.cfg; do
  train_variant "$(basename "$file" .cfg)" --flagfile="$file"
done
train_variant bfloat16 --precision=bfloat16
train_variant tanh_glorot --activation=tanh --initialization=glorot
train_variant towers_on_two_devices --virtual_devices=2
train_variant two_replicas --virtual_devices=4

"$python" -m alexnet_tf.main compare runs/small/base-* runs/small/*
