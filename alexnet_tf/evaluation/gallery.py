"""What a network has learned, as figures with pictures."""

import dataclasses
import sys
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.evaluation import picture_plots
from alexnet_tf.evaluation.inference import fc7_outputs
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import open_run

_SHOWN, _QUERIES, _NEIGHBORS, _BEST = 8, 5, 6, 5
# Images of the validation split, and of the training split among which
# neighbors are sought; and of a batch.
_TESTED, _POOL, _BATCH = 500, 2000, 50


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Images and what the network makes of them: (n, ...) arrays."""

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray


def draw_run(config: Config) -> dict[str, Figure]:
    """Draws what a run's best network has learned, see `draw`."""
    run_dir = open_run(config.run_dir)
    model, _ = load_best(config, run_dir)
    return draw(
        model,
        read_dataset_info(run_dir).class_names,
        _batches(config, run_dir, config.validation_split, _TESTED),
        _batches(config, run_dir, config.train_split, _POOL),
    )


def _batches(config, run_dir, split, count):
    """Returns the center patches of shuffled images."""
    examples = splits.open_split(config, split)
    splits.check_run_classes(run_dir, examples)
    size = min(_BATCH, examples.count)
    plain = dataclasses.replace(
        config, random_crop=False, horizontal_flip=False
    )
    return training_batches(
        examples,
        plain,
        batch_size=size,
        steps=range(min(count, examples.count) // size),
        seed=config.seed,
        bad=splits.record_bad_examples(config, run_dir, examples),
    )


def draw(
    model: keras.Model,
    names: Sequence[str],
    tested: tf.data.Dataset,
    pool: tf.data.Dataset,
) -> dict[str, Figure]:
    """Draws conv1's kernels, some answers, and neighbors by fc7.

    Args:
        model: The network.
        names: Names of the classes.
        tested: Batches of (images, labels) to ask it about.
        pool: Batches among which neighbors are sought.

    Returns:
        `kernels`, `answers` and `neighbors`, after Figures 3 and 4.
    """
    network = keras.Model(
        model.input, {"logits": model.output, "features": fc7_outputs(model)}
    )
    seen = _look(network, tested)
    return {
        "kernels": picture_plots.kernels(conv1_kernels(model)),
        "answers": _draw_answers(seen, names),
        "neighbors": _draw_neighbors(seen, _look(network, pool), names),
    }


def conv1_kernels(model: keras.Model) -> list[np.ndarray]:
    """Returns conv1's kernels for each tower, (11, 11, 3, kernels)."""
    layers = [x for x in model.layers if x.name.startswith("conv1_tower")]
    return [layer.kernel.numpy() for layer in layers]


def _look(network, batches):
    # A moving bar on a screen, nothing in a log file.
    verbose = int(sys.stdout.isatty())
    bar = keras.utils.Progbar(int(batches.cardinality()), verbose=verbose)
    seen = []
    for images, labels in batches:
        answer = network(images, training=False)
        probabilities = tf.nn.softmax(answer["logits"])
        rows = (images, labels, probabilities, answer["features"])
        seen.append([tensor.numpy() for tensor in rows])
        bar.add(1)
    return _Seen(*(np.concatenate(part) for part in zip(*seen, strict=True)))


def _draw_answers(tested, names):
    """Draws right answers, then wrong ones, half of each if there are."""
    right = tested.probabilities.argmax(axis=1) == tested.labels
    wrong = np.flatnonzero(~right)[: _SHOWN // 2]
    chosen = [*np.flatnonzero(right)[: _SHOWN - len(wrong)], *wrong]
    best = []
    for row in tested.probabilities[chosen]:
        order = np.argsort(-row)[:_BEST]
        best.append([(names[n], float(row[n])) for n in order])
    truths = [names[label] for label in tested.labels[chosen]]
    return picture_plots.answers(tested.images[chosen], truths, best)


def _draw_neighbors(tested, pool, names):
    """Draws images of different classes, and their nearest by fc7."""
    _, first = np.unique(tested.labels, return_index=True)
    chosen = np.sort(first)[:_QUERIES]
    distances = np.stack(
        [
            np.linalg.norm(pool.features - features, axis=1)
            for features in tested.features[chosen]
        ]
    )
    nearest = np.argsort(distances, axis=1)[:, :_NEIGHBORS]
    labels = [
        [names[n] for n in (tested.labels[query], *pool.labels[found])]
        for query, found in zip(chosen, nearest, strict=True)
    ]
    return picture_plots.neighbors(
        tested.images[chosen], pool.images[nearest], labels
    )
