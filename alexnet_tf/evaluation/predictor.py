"""Predictions for a whole split, and their errors (Sec. 2 and 4.1)."""

import math
import sys
from collections.abc import Callable

import keras
import numpy as np

from alexnet_tf.config.flags import Config
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples
from alexnet_tf.data.pipeline import PADDING_LABEL, evaluation_batches
from alexnet_tf.distribution import iterators
from alexnet_tf.distribution.devices import Devices

# Logits that are measured at once.
_ELEMENTS = 4_000_000


class SplitPredictor:
    """Predicts the classes of each example of a split, exactly once.

    A batch has --batch_size patches over all replicas.

    Args:
        model: The network, created in the scope of the strategy.
        bad: Records the examples that cannot be used; they are left out.
        ten_crops: Whether to predict ten patches of each image.
    """

    def __init__(
        self,
        config: Config,
        model: keras.Model,
        examples: Examples,
        devices: Devices,
        bad: BadExamples,
        *,
        ten_crops: bool = False,
    ):
        strategy, workers = devices.strategy, devices.workers
        views = 10 if ten_crops else 1
        replicas = strategy.num_replicas_in_sync
        per_replica = max(1, config.batch_size // views // replicas)
        self._num_examples = examples.count
        self._dataset = batches = evaluation_batches(
            examples,
            batch_size=per_replica * replicas,
            geometry=config.geometry,
            bad=bad,
            ten_crops=ten_crops,
            shard=workers.shard,
        ).map(lambda images, labels: {"images": images, "labels": labels})
        self.num_batches = int(batches.cardinality())
        # One iterator for all passes; it keeps reading a little ahead.
        distributed = workers.distribute(batches.repeat())
        self._batches = iterators.keep(iter(distributed))
        with strategy.scope():
            predictor = _make_predictor(model, views)
        predictor.make_predict_function()
        self._predict_batches = predictor.predict_function

    def read(self, count: int) -> dict[str, np.ndarray]:
        """Returns the first `images` and `labels` of the split that are usable.

        They are `count` or fewer, and on several workers of this one's part.
        """
        found: dict[str, list] = {"images": [], "labels": []}
        for batch in self._dataset.as_numpy_iterator():
            usable = batch["labels"] >= 0
            for name, values in batch.items():
                found[name] += list(values[usable])
            if len(found["labels"]) >= count:
                break
        return {name: np.array(found[name][:count]) for name in found}

    def predict(
        self, after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, np.ndarray]:
        """Returns predictions by the current weights of the network.

        Returns:
            `labels`, (n,) int64, in the split's order; `center`, (n, classes)
            float32, the logits of the center patch; and with ten crops
            `ten_crop`, the logarithms of the mean probabilities of the ten
            patches.

        Raises:
            RuntimeError: if an example was not seen exactly once.
        """
        batches = []
        for _ in range(self.num_batches):
            batch = self._predict_batches([next(self._batches)])
            batches.append({name: x.numpy() for name, x in batch.items()})
            after_batch()
        predicted = {
            name: np.concatenate([batch[name] for batch in batches])
            for name in batches[0]
        }
        count = self._num_examples
        seen = (predicted["labels"] != PADDING_LABEL).sum()
        if seen != count:
            raise RuntimeError(f"evaluated {seen} of {count} examples")
        usable = predicted["labels"] >= 0
        return {name: values[usable] for name, values in predicted.items()}


def _make_predictor(model, views):
    """Returns a network that averages over `views` patches of each image.

    It passes the labels through, so that they stay with their predictions
    however the strategy divides the batches.
    """
    patch = model.input_shape[1:]
    shape = patch if views == 1 else (views, *patch)
    images = keras.Input(shape, dtype="uint8", name="images")
    labels = keras.Input((), dtype="int64", name="labels")
    logits = keras.ops.reshape(
        model(keras.ops.reshape(images, (-1, *patch))),
        (-1, views, model.output_shape[-1]),
    )
    outputs = {"labels": labels, "center": logits[:, 0]}
    if views > 1:
        sums = keras.ops.logsumexp(log_probabilities(logits), axis=1)
        mean = sums - math.log(views)
        outputs["ten_crop"] = keras.ops.cast(mean, "float32")
    return keras.Model({"images": images, "labels": labels}, outputs)


def log_probabilities(logits):
    """Returns the logarithm of softmax(logits) over the last axis, in float64.

    Not that of their softmax in float32, where the probabilities of logits
    more than 103 below the highest are zero, and all equal.
    """
    return keras.ops.log_softmax(keras.ops.cast(logits, "float64"))


def bar_verbosity() -> int:
    """Returns Keras's `verbose`: a moving bar on a screen, none in a file."""
    return int(sys.stdout.isatty())


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns the loss and the errors of predictions.

    Args:
        logits: (n, classes), or the logarithms of probabilities, of which
            small ones must not be rounded to zero.
        labels: (n,) integers.

    Returns:
        `loss`, the mean cross-entropy [nats]; `top1_error` and `top5_error`,
        the fractions of examples whose label is not among the one or five
        most probable classes (Sec. 2), see `top_k_errors`; `num_examples`.
    """
    each = measure_each(logits, labels)
    means = {name: float(np.mean(values)) for name, values in each.items()}
    return {**means, "num_examples": len(labels)}


def measure_each(
    logits: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the same for each example: arrays (n,), errors as bool."""
    # A few at a time: in float64, all those of 10,000 classes are gigabytes.
    rows = max(1, _ELEMENTS // logits.shape[1])
    parts = []
    for start in range(0, max(len(labels), 1), rows):
        chosen = slice(start, start + rows)
        some, their_labels = logits[chosen], labels[chosen]
        losses = keras.ops.sparse_categorical_crossentropy(
            their_labels, some.astype(np.float64), from_logits=True
        )
        errors = [top_k_errors(their_labels, some, k) for k in (1, 5)]
        parts.append([losses, *errors])
    names = ("loss", "top1_error", "top5_error")
    columns = map(np.concatenate, zip(*parts, strict=True))
    return dict(zip(names, columns, strict=True))


def top_k_errors(labels, logits, k: int):
    """Returns which examples, (n,) bool, are wrong.

    An example is right if fewer than k other classes have the logit of its
    label or a higher one: a tie is no hit, and neither is NaN. (Keras counts
    ties as hits, so a network whose logits are all zero has no errors.)

    Args:
        labels: (n,) integers.
        logits: (n, classes).
        k: Number of classes that may contain the label.
    """
    logits = keras.ops.convert_to_tensor(logits)
    labels = keras.ops.cast(labels, "int32")[:, None]
    of_label = keras.ops.take_along_axis(logits, labels, axis=1)
    # Negated, so that NaN is not below; the label's own class is among them.
    not_below = keras.ops.logical_not(logits < of_label)
    rank = keras.ops.sum(keras.ops.cast(not_below, "int32"), axis=1)
    return (rank > k) | keras.ops.isnan(of_label[:, 0])


def top_k_error(k: int) -> keras.metrics.Metric:
    """Returns the metric `top1_error`, `top5_error`, ... of logits.

    Each example counts once, in batches of any size.
    """
    name = f"top{k}_error"
    return keras.metrics.MeanMetricWrapper(_errors, name=name, k=k)


def _errors(labels, logits, k):
    return keras.ops.cast(top_k_errors(labels, logits, k), "float32")
