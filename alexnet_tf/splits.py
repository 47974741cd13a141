"""From a `Config` to the splits of its data set, and what may be wrong."""

import contextlib
from pathlib import Path

import tensorflow as tf

from alexnet_tf import prepared, sources
from alexnet_tf.bad_examples import BadExamples
from alexnet_tf.config import Config
from alexnet_tf.dataset_facts import read_facts
from alexnet_tf.errors import UserError
from alexnet_tf.examples import Examples
from alexnet_tf.run_dir import RunDir


def open_split(config: Config, split: str) -> Examples:
    """Opens a split of the run's data set, the prepared one if there is one."""
    found = find_prepared(config)
    if found:
        directory, manifest = found
        for name, source in manifest["source_splits"].items():
            if source == split:
                return prepared.open_split(directory, manifest, name)
    return open_source(config, split)


def open_source(config: Config, split: str) -> Examples:
    """Opens a split of the data set itself."""
    return sources.open_split(config.dataset, split, data_dir=config.data_dir)


def find_prepared(config: Config) -> tuple[Path, dict] | None:
    """Returns the prepared set's directory and manifest, if there is one.

    Raises:
        UserError: if it is not finished, or made of something else.
    """
    if not config.prepared_dir:
        return None
    directory = Path(config.prepared_dir)
    manifest = prepared.find(directory, config.dataset, config.image_size)
    return (directory, manifest) if manifest else None


def check_classes(
    config: Config, training: Examples, validation: Examples
) -> None:
    """Checks that both splits have the same classes.

    Raises:
        UserError: if they have not.
    """
    if training.class_names != validation.class_names:
        differing = set(training.class_names) ^ set(validation.class_names)
        raise UserError(
            f"the training and validation images of {config.dataset} have "
            f"different classes: {', '.join(sorted(differing)[:3])} stand in "
            "one of them only."
        )


def check_run_classes(run: RunDir, examples: Examples) -> None:
    """Checks that a run was trained on the classes of a split.

    Raises:
        UserError: if it has others.
    """
    trained, now = read_facts(run).class_names, list(examples.class_names)
    if trained != now:
        differing = sorted(set(trained) ^ set(now))[:3]
        raise UserError(
            f"{run.path} was trained on {len(trained)} classes, its data set "
            f"now has {len(now)}; {', '.join(differing) or 'their order'} "
            "differ.\nGive the data set as it was, or start a new run with "
            f"--init_from={run.path}."
        )


@contextlib.contextmanager
def naming_damaged_files(*splits: Examples):
    """Finds out, when reading fails, whether files are damaged, and which.

    Raises:
        UserError: if one is.
    """
    try:
        yield
    except tf.errors.OpError:
        for examples in splits:
            examples.check_files()
        raise


def note_bad_examples(
    config: Config, run: RunDir, *splits: Examples
) -> BadExamples:
    """Returns where a run notes the bad examples of its splits."""
    limit = config.max_bad_fraction * sum(split.count for split in splits)
    return BadExamples(run.bad_examples, limit=int(limit))
