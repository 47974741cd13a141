"""Figures with pictures in them, from a run's directory and its data set."""

import dataclasses

from matplotlib.figure import Figure

from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.evaluation import gallery
from alexnet_tf.storage.dataset_info import read_facts
from alexnet_tf.training import assembly, building

# Images looked at: of the validation split, and among which neighbours are.
_TESTED, _POOL, _BATCH = 500, 2000, 50


def draw(config: Config) -> dict[str, Figure]:
    """Draws what a run's best network has learned, see `gallery`.

    Args:
        config: The settings of the run.

    Returns:
        Figures by name.

    Raises:
        UserError: if the run has no checkpoint, or its data set is not there.
    """
    run_dir = assembly.open_run(config)
    model = building.make_best_network(config, run_dir)
    return gallery.draw(
        model,
        read_facts(run_dir).class_names,
        _batches(config, config.validation_split, _TESTED),
        _batches(config, config.train_split, _POOL),
    )


def _batches(config, split, count):
    """Returns the centres of images in an order of their own."""
    run_dir = assembly.open_run(config)
    examples = splits.open_split(config, split)
    splits.check_run_classes(run_dir, examples)
    bad = splits.note_bad_examples(config, run_dir, examples)
    size = min(_BATCH, examples.count)
    plain = dataclasses.replace(
        config, random_crop=False, horizontal_flip=False, batch_size=size
    )
    steps = range(min(count, examples.count) // size)
    return assembly.training_batches(plain, examples, steps, bad)
