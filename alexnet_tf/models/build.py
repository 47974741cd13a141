"""Networks from settings: new ones, and ones with a run's best weights."""

import contextlib
from pathlib import Path

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.distribution.devices import Devices
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.models.alexnet import alexnet
from alexnet_tf.models.layers import color_noise_basis
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import DatasetInfo, read_dataset_info
from alexnet_tf.storage.run_dir import RunDir

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
    """Builds the network; the same seed gives the same initial weights.

    Args:
        config: The settings.
        info: Classes and statistics of the data set.
        layout: The devices; None to place nothing.
        dtype: Keras's dtype policy.
    """
    side = config.crop_size
    if info.mean_image is not None and len(info.mean_image) != side:
        raise UserError(
            f"--crop_size={side}, but the run's mean image has a side of "
            f"{len(info.mean_image)}; use --crop_size={len(info.mean_image)}."
        )
    keras.utils.set_random_seed(config.seed)
    noise_basis = color_noise_basis(
        info.covariance_rgb,
        reading=config.color_noise,
        std=config.color_noise_std,
    )
    shrink = config.color_noise_shrink and noise_basis
    return alexnet(
        len(info.class_names),
        config,
        crop_size=config.crop_size,
        mean=info.mean_rgb if info.mean_image is None else info.mean_image,
        noise_basis=noise_basis,
        noise_shrink=1 + config.color_noise_std if shrink else 1.0,
        seed=config.seed,
        layout=layout,
        dtype=dtype,
    )


def best_checkpoint(run_dir: RunDir) -> Path:
    """Returns the best checkpoint of a run."""
    read_dataset_info(run_dir)  # Checks that there is a run.
    checkpoint = checkpoints.best(run_dir.checkpoints)
    if checkpoint is None:
        raise UserError(
            f"{run_dir.path} has no checkpoint yet; the first one is written "
            "after the first epoch."
        )
    return checkpoint


def load_best(
    config: Config, run_dir: RunDir, devices: Devices | None = None
) -> tuple[keras.Model, dict]:
    """Returns the network with a run's best weights.

    Args:
        config: The settings of the run.
        run_dir: The run.
        devices: The devices to predict on, in --precision; None for a network
            in float32 that is not bound to any device.

    Returns:
        The network, not compiled, and the state of its checkpoint.
    """
    checkpoint = best_checkpoint(run_dir)
    info = read_dataset_info(run_dir)
    if devices:
        scope, layout = devices.strategy.scope(), devices.layout
        dtype = POLICIES[config.precision]
    else:
        scope, layout, dtype = contextlib.nullcontext(), None, "float32"
    with scope:
        model = build_network(config, info, layout, dtype=dtype)
    checkpoints.restore(checkpoint, model.variables)
    return model, checkpoints.read_state(checkpoint)
