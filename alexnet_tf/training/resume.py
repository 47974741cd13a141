"""Resuming a run: which settings may change, and which may not."""

import dataclasses
import json

import keras

from alexnet_tf.config.data import Data
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, parse
from alexnet_tf.config.network import Network
from alexnet_tf.config.training import Training
from alexnet_tf.data.examples import Examples
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.checkpointing import Progress

_FIXED = {
    field.name
    for group in (Data, Network)
    for field in dataclasses.fields(group)
} | {"batch_size", "freeze", "seed"}
# Where the data lie, and how bad they may be.
_FREE = {"data_dir", "max_bad_fraction"}
# What has a rule of its own: `settle_learning_rate`, and the weights that a
# run which has some does not take.
_SETTLED = {"learning_rate", "base_batch_size", "init_from"}
# Of environment.json: what numbers do not depend on.
_HARMLESS = {"git_commit"}


def check_settings(config: Config, run: RunDir) -> Config | None:
    """Returns the settings that a run was last started with, if it was.

    Raises:
        UserError: if the data, the network, the batch size, the frozen layers
            or the seed differ.
    """
    if not run.flags.exists():
        return None
    old, _ = parse([f"--flagfile={run.flags}"])
    for name in sorted(_FIXED - _FREE):
        before, now = getattr(old, name), getattr(config, name)
        if before != now:
            raise UserError(
                f"--{name}={now}, but {run.path} was started with "
                f"--{name}={before}. Go on with --flagfile={run.flags} "
                f"--run_dir={run.path}, or take another --run_dir."
            )
    return old


def check_data(run: RunDir, training: Examples, validation: Examples) -> None:
    """Checks that the splits have as many examples as at the first start.

    Raises:
        UserError: if they have more or fewer.
    """
    info = read_dataset_info(run)
    before = (info.train_examples, info.validation_examples)
    now = (training.count, validation.count)
    if before != now:
        raise UserError(
            f"{run.path} was started on {before[0]} training and {before[1]} "
            f"validation images; its data set now has {now[0]} and {now[1]}.\n"
            "Give the data set as it was, or start a new run with "
            f"--init_from={run.path}."
        )


def log_changes(
    run: RunDir, environment: dict, old: Config | None, new: Config
) -> None:
    """Says what differs from how and where a run was last started.

    Args:
        run: The run.
        environment: As `environment.describe_environment` returns it.
        old: The settings it was last started with, if it was.
        new: The settings it goes on with.
    """
    recipe = {field.name for field in dataclasses.fields(Training)}
    for name in sorted((recipe | {"precision"}) - _FIXED - _SETTLED):
        before, now = getattr(old or new, name), getattr(new, name)
        if before != now:
            print(f"--{name} was {before}; the run goes on with {now}.")
    if not run.environment.exists():
        return
    before = json.loads(run.environment.read_text())
    for name in sorted(environment.keys() - _HARMLESS):
        if before.get(name) != environment[name]:
            print(
                f"{name} was {before.get(name)}, now {environment[name]}: from "
                "here on the last bits of numbers may differ."
            )


def settle_learning_rate(
    config: Config, old: Config, model: keras.Model, progress: Progress
) -> Config:
    """Keeps the learning rate of a run that goes on, or forces another.

    The same rate is forced once only, so that a run which is started with the
    same command again is not thrown back to it.

    Args:
        config: The settings that the run goes on with.
        old: Those it was last started with.
        model: The model, as its checkpoint left it.
        progress: Notes which rate was forced.

    Returns:
        `config`, with the learning rate that counts.
    """
    reached = float(model.optimizer.learning_rate.numpy())
    new = config.full_learning_rate
    if config.override_learning_rate and progress.forced_rate != new:
        model.optimizer.learning_rate = new
        progress.forced_rate = new
        print(
            f"Learning rate {reached:g} -> {new:g}: --override_learning_rate."
        )
    elif not config.override_learning_rate and new != old.full_learning_rate:
        print(
            f"Learning rate {reached:g}, which the run had reached, and not "
            f"{new:g}, which --learning_rate={config.learning_rate:g} asks "
            "for; --override_learning_rate forces that."
        )
        return dataclasses.replace(
            config,
            learning_rate=old.learning_rate,
            base_batch_size=old.base_batch_size,
        )
    return config
