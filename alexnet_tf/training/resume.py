"""Resuming a run: which settings may change, and which may not."""

import dataclasses
from collections.abc import Sequence

import keras

from alexnet_tf.config.data import Data
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.field import change_path
from alexnet_tf.config.flags import (
    DATA_AND_NETWORK,
    FORMER_DEFAULTS,
    Config,
    absolute,
    parse_run,
    to_flagfile,
)
from alexnet_tf.config.training import Training
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.files import write_json, write_whole
from alexnet_tf.storage.run_dir import RunDir, describe_environment
from alexnet_tf.training.checkpointing import Progress

_RECIPE = {field.name for field in dataclasses.fields(Training)} | {"precision"}
_FIXED = DATA_AND_NETWORK | {"batch_size", "freeze", "seed"}
# Paths in them; the data may move.
_PATHS = {
    field.name: field.metadata["setting"].path
    for field in dataclasses.fields(Data)
    if field.name in _FIXED and field.metadata["setting"].path
}
# Settings with a rule of their own: `settle_learning_rate`; and a resumed run
# has weights.
_SETTLED = {"learning_rate", "base_batch_size", "init_from"}
# Entries of environment.json that numbers do not depend on.
_HARMLESS = {"git_commit", "dataset"}


def with_former_defaults(config: Config, run_dir: RunDir) -> Config:
    """Returns the settings; of those that a run lacks, what they were then."""
    lacking = _find_lacking(run_dir)
    for name, value in lacking.items():
        if getattr(config, name) != value:
            print(
                f"{run_dir.path} was started before --{name} existed; it "
                f"continues with --{name}={value}."
            )
    return dataclasses.replace(config, **lacking)


def _find_lacking(run_dir):
    """Returns the former defaults of settings newer than a run."""
    if not run_dir.has_settings():
        return {}
    recorded = run_dir.flags.read_text()
    return {
        name: value
        for name, value in FORMER_DEFAULTS.items()
        if f"--{name}=" not in recorded
    }


def check_settings(config: Config, run_dir: RunDir) -> Config | None:
    """Returns the settings of a run's last start, None if there was none.

    `config` must not change those that are fixed.
    """
    if not run_dir.flags.exists():
        return None
    previous = parse_run(run_dir.flags)
    read_dataset_info(run_dir)  # Before any work starts.
    for name in sorted(_FIXED):
        before, now = getattr(previous, name), getattr(config, name)
        kinds = {
            change_path(value, _PATHS.get(name, ""), lambda path: "PATH")
            for value in (before, now)
        }
        if len(kinds) > 1:
            raise UserError(
                f"--{name}={now}, but {run_dir.path} was started with "
                f"--{name}={before}. Resume with --flagfile={run_dir.flags} "
                f"--run_dir={run_dir.path}, or give another --run_dir."
            )
    return previous


def find_result(run_dir: RunDir) -> dict:
    """Returns result.json of a finished run, {} of others; reports damage."""
    try:
        result = run_dir.read_result()
        if result and not run_dir.is_imported:
            run_dir.read_columns(())  # history.csv, too, is written anew.
        return result
    except UserError as error:
        print(f"{error} It does so now.")
        return {}


def reason_to_stop(result: dict, config: Config, run_dir: RunDir) -> str:
    """Returns why a finished run does not continue, "" if it does."""
    if "epochs" not in result:
        return "Its weights are imported; --init_from trains a new run on them."
    states = checkpoints.states(run_dir.checkpoints)
    if any(state.get("stopped") for state in states):
        return (
            f"The plateau rule ended it; --init_from={run_dir.path} starts "
            "another run from it."
        )
    if config.epochs <= result["epochs"]:
        return (
            f"More epochs than --epochs={result['epochs']} continue it; "
            "another run needs another --run_dir."
        )
    return ""


def write_settings(
    config: Config,
    run_dir: RunDir,
    replicas: Sequence[Sequence[str]],
    train_examples: int,
    previous: Config | None,
) -> None:
    """Writes flags.cfg and environment.json, and prints what has changed.

    `replicas` are the names of each replica's devices.
    """
    previous, config = absolute(previous or config), absolute(config)
    for name in sorted(_RECIPE - _FIXED - _SETTLED | _PATHS.keys()):
        before, now = getattr(previous, name), getattr(config, name)
        if before != now:
            print(f"--{name} was {before}; the run continues with {now}.")
    environment = describe_environment(replicas, config.dataset, train_examples)
    if run_dir.flags.exists() and (before := run_dir.read_environment()):
        for name in sorted(environment.keys() - _HARMLESS):
            if before.get(name) != environment[name]:
                print(
                    f"{name} was {before.get(name)}, now {environment[name]}: "
                    "from here on the last bits of numbers may differ."
                )
    # Settings that the run lacks stay so: the same command resumes it again.
    new = tuple(f"--{name}=" for name in _find_lacking(run_dir))
    lines = to_flagfile(config).splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(new)]
    write_whole(run_dir.flags, "".join(kept))
    write_json(run_dir.environment, environment)


def keep_initial_weights(config: Config, previous: Config) -> Config:
    """Returns the settings with --init_from of the start of a restored run."""
    given, kept = (absolute(c).init_from for c in (config, previous))
    if given and given != kept:
        print(
            f"--init_from={config.init_from} has no effect: the run has "
            f"weights, and began with {kept or 'random ones'}."
        )
    return dataclasses.replace(config, init_from=kept)


def settle_learning_rate(
    config: Config, previous: Config, model: keras.Model, progress: Progress
) -> Config:
    """Keeps the learning rate of a restored run, or forces another.

    The same rate is forced only once, so that repeating a command does not
    set the run back to it. Returns `config` with the rate that applies.
    """
    if config.schedule:  # It sets all rates.
        return config
    reached = float(model.optimizer.learning_rate.numpy())
    new = config.full_learning_rate
    if config.override_learning_rate:
        if progress.forced_rate != new:
            model.optimizer.learning_rate = new
            progress.forced_rate = new
            change = f"Learning rate {reached:g} -> {new:g}"
            print(f"{change}: --override_learning_rate.")
        elif f"{reached:g}" != f"{new:g}":
            print(
                f"Learning rate {reached:g}, to which the plateau rule has "
                f"lowered it since --override_learning_rate set it to {new:g}."
            )
        return config
    if new == previous.full_learning_rate:
        return config
    if f"{reached:g}" != f"{new:g}":
        print(
            f"Learning rate {reached:g}, which the run has reached, instead of "
            f"{new:g} from --learning_rate={config.learning_rate:g}; "
            "--override_learning_rate forces that."
        )
    return dataclasses.replace(
        config,
        learning_rate=previous.learning_rate,
        base_batch_size=previous.base_batch_size,
    )
