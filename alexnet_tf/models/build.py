"""Networks from settings: new ones, and ones with a run's best weights."""

import sys
from pathlib import Path

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.distribution.devices import Devices
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.models.alexnet import alexnet
from alexnet_tf.models.cifar import cifar_network
from alexnet_tf.models.layers import color_noise_basis
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import DatasetInfo, read_dataset_info
from alexnet_tf.storage.run_dir import RunDir, count_from_one

# Keras's dtype policy for each --precision.
POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def build_network(
    config: Config,
    info: DatasetInfo,
    layout: DeviceLayout | None = None,
    *,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the network; the same seed gives the same initial weights."""
    side, mean = config.crop_size, info.mean_image
    if mean is not None and len(mean) != side:
        raise UserError(
            f"--crop_size={side}, but the run's mean image has a side of "
            f"{len(mean)}; use --crop_size={len(mean)}."
        )
    keras.utils.set_random_seed(config.seed)
    std = config.color_noise_std
    noise_basis = color_noise_basis(
        info.covariance_rgb, reading=config.color_noise, std=std
    )
    shrink = config.color_noise_shrink and noise_basis
    network = alexnet if config.architecture == "alexnet" else cifar_network
    return network(
        len(info.class_names),
        config,
        crop_size=side,
        mean=info.mean_rgb if mean is None else mean,
        noise_basis=noise_basis,
        noise_shrink=1 + std if shrink else 1.0,
        seed=config.seed,
        layout=layout,
        dtype=dtype,
    )


def outline_network(config: Config, info: DatasetInfo) -> keras.Model:
    """Builds the network in --precision, with weights without values."""
    with keras.StatelessScope(initialize_variables=False):
        return build_network(config, info, dtype=POLICIES[config.precision])


def best_checkpoint(run_dir: RunDir) -> Path:
    """Returns the best checkpoint of a run."""
    checkpoint = checkpoints.best(run_dir.checkpoints)
    if checkpoint is None:
        read_dataset_info(run_dir)  # Checks that there is a run.
        raise UserError(
            f"{run_dir.path} has no checkpoint yet; the first one is written "
            "after the first epoch."
        )
    *_, last = checkpoints.states(run_dir.checkpoints)
    found = checkpoints.read_state(checkpoint)
    for row in count_from_one(last.get("parts", {}).get("history", [])):
        if not row.get("val_loss"):  # A lost row of a run of version 0.1.
            continue
        errors = float(row["val_top1_error"]), float(row["val_loss"])
        if errors < (found["val_top1_error"], found["val_loss"]):
            print(
                f"The checkpoint of epoch {row['epoch']} is lost, "
                f"with a top-1 error of {errors[0]:.4f}; {checkpoint} is used.",
                file=sys.stderr,
            )
    return checkpoint


def load_trained(
    config: Config,
    run_dir: RunDir,
    devices: Devices | None = None,
    *,
    dtype: str = "float32",
) -> tuple[keras.Model, dict]:
    """Returns the network of --checkpoint, and the run's state then.

    It is in --precision on the devices; without devices in `dtype`, and not
    bound to any.
    """
    checkpoint = best_checkpoint(run_dir)  # Checks that there is one.
    if config.checkpoint == "last":
        checkpoint = checkpoints.newest(run_dir.checkpoints) or checkpoint
    info = read_dataset_info(run_dir)
    if devices:
        dtype = POLICIES[config.precision]
        with devices.strategy.scope():
            model = build_network(config, info, devices.layout, dtype=dtype)
    else:
        model = build_network(config, info, dtype=dtype)
    checkpoints.restore(checkpoint, model.variables)
    return model, checkpoints.read_state(checkpoint)
