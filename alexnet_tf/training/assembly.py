"""From a `Config` to its run directory, devices and batches."""

from pathlib import Path

import keras
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, to_arguments
from alexnet_tf.data import pipeline as data
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples
from alexnet_tf.data.input_clock import InputClock
from alexnet_tf.distribution import placement as towers
from alexnet_tf.distribution import workers as multi_worker
from alexnet_tf.distribution.placement import Placement
from alexnet_tf.evaluation.predictor import SplitPredictor
from alexnet_tf.storage.run_dir import RunDir


def open_run(config: Config) -> RunDir:
    """Returns the directory that --run_dir names.

    Raises:
        UserError: if it names none, or something else.
    """
    if not config.run_dir:
        raise UserError("give --run_dir=DIR, the directory of the run.")
    path = Path(config.run_dir)
    if path.exists() and not path.is_dir():
        raise UserError(f"--run_dir={path} is a file; give a directory.")
    return RunDir(path)


def make_placement(config: Config, run: RunDir | None = None) -> Placement:
    """Returns the devices of the run.

    Args:
        config: The settings.
        run: The run, if several workers may deal with it together.

    Raises:
        UserError: if devices are missing, the towers or the batch cannot be
            divided among them, or the other workers cannot be joined.
    """
    if run and config.distribution == "multi_worker":
        placement = multi_worker.join(
            run.path,
            settings="\n".join(to_arguments(config, "train")),
            timeout=config.startup_timeout,
            gpus=config.gpus,
            virtual_devices=config.virtual_devices,
            num_towers=config.towers,
            devices_per_replica=config.devices_per_replica,
        )
        replicas = placement.strategy.num_replicas_in_sync
    else:
        devices = towers.find_devices(
            gpus=config.gpus, virtual_devices=config.virtual_devices
        )
        placement = towers.place(
            devices,
            towers=config.towers,
            devices_per_replica=config.devices_per_replica,
        )
        replicas = len(placement.devices)
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} cannot be divided among "
            f"{replicas} replicas; use a multiple of {replicas}."
        )
    return placement


def training_batches(
    config: Config,
    examples: Examples,
    steps: range,
    bad: BadExamples | None = None,
    clock: InputClock | None = None,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Returns the batches of some steps, see `data.training_batches`.

    Bad examples are left out without a word if nothing shall note them.
    """
    return data.training_batches(
        examples,
        batch_size=config.batch_size,
        steps=steps,
        geometry=config.geometry,
        crop=config.random_crop,
        flip=config.horizontal_flip,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
        bad=bad or BadExamples(),
        clock=clock,
        share=share,
    )


def names_of_step(config: Config, examples: Examples, step: int) -> list[str]:
    """Returns the names of the training examples of a step."""
    return data.names_of_step(
        examples,
        batch_size=config.batch_size,
        step=step,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
    )


def make_predictor(
    model: keras.Model,
    config: Config,
    examples: Examples,
    bad: BadExamples,
    *,
    ten_crops: bool = False,
) -> SplitPredictor:
    """Returns what predicts each example of a split."""
    return SplitPredictor(
        model,
        examples,
        batch_size=config.batch_size,
        geometry=config.geometry,
        bad=bad,
        ten_crops=ten_crops,
    )
