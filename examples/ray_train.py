"""Training on the machines of a Ray cluster, with Ray Train.

    pip install --require-hashes -r requirements-ray.txt
    python -m examples.ray_train WORKERS GPUS FLAGS...

with the number of workers, the GPUs of each, and flags of train. Ray places the
workers, shows their output, restarts all of them when one is lost, at most
three times, and keeps the metrics and the newest checkpoint in RUN_DIR/ray.
Without a cluster (RAY_ADDRESS), it starts one of this machine.
"""

import argparse
import sys

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import absolute, check_flags, parse, to_arguments
from alexnet_tf.main import main
from alexnet_tf.storage.run_dir import open_run

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("workers", type=int)
parser.add_argument("gpus", type=int)
options, flags = parser.parse_known_args()
try:
    check_flags(flags, "train")
    config, _ = parse(flags)
    run_dir = open_run(config.run_dir).path.absolute()
except UserError as error:
    parser.error(str(error))
arguments = to_arguments(absolute(config), "train")
trainer = TensorflowTrainer(
    # An exit code, such as 2 for a mistake of the user, is no failure to Ray.
    lambda: main([*arguments, f"--run_dir={run_dir}", "--cluster=ray"]),
    scaling_config=ScalingConfig(
        num_workers=options.workers,
        use_gpu=options.gpus > 0,
        resources_per_worker={"CPU": 1, "GPU": options.gpus},
    ),
    run_config=RunConfig(
        storage_path=str(run_dir),
        name="ray",
        failure_config=FailureConfig(max_failures=3),
        checkpoint_config=CheckpointConfig(num_to_keep=1),
    ),
)
sys.exit(trainer.fit().return_value)
