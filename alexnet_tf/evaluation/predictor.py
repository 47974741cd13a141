"""Predictions for a whole split, and their errors (Sec. 2 and 4.1)."""

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
        batches = evaluation_batches(
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

    def predict(
        self, after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, np.ndarray]:
        """Returns predictions by the current weights of the network.

        Returns:
            `labels`, (n,) int64, in the split's order; `center`, (n, classes)
            float32, the probabilities of the center patch; and with ten crops
            `ten_crop`, the average of the probabilities of the ten patches.

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
    logits = model(keras.ops.reshape(images, (-1, *patch)))
    probabilities = keras.ops.reshape(
        keras.ops.softmax(logits), (-1, views, model.output_shape[-1])
    )
    outputs = {"labels": labels, "center": probabilities[:, 0]}
    if views > 1:
        outputs["ten_crop"] = keras.ops.mean(probabilities, axis=1)
    return keras.Model({"images": images, "labels": labels}, outputs)


def bar_verbosity() -> int:
    """Returns Keras's `verbose`: a moving bar on a screen, none in a file."""
    return int(sys.stdout.isatty())


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns the loss and the errors of predictions.

    Args:
        probabilities: (n, classes).
        labels: (n,) integers.

    Returns:
        `loss`, the mean cross-entropy [nats]; `top1_error` and `top5_error`,
        the fractions of examples whose label is not among the one or five
        most probable classes (Sec. 2); `num_examples`.
    """
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)
    better = (probabilities > of_label).sum(axis=1)
    # Nothing is greater than NaN; a network that predicts it is wrong.
    better[np.isnan(of_label[:, 0])] = probabilities.shape[1]
    smallest = np.finfo(np.float32).tiny
    return {
        "loss": float(-np.log(np.maximum(of_label, smallest)).mean()),
        "top1_error": float((better >= 1).mean()),
        "top5_error": float((better >= 5).mean()),
        "num_examples": len(labels),
    }


def top_k_error(k: int) -> keras.metrics.Metric:
    """Returns the metric `top1_error`, `top5_error`, ... of logits.

    Each example counts once, in batches of any size.
    """
    name = f"top{k}_error"
    return keras.metrics.MeanMetricWrapper(_top_k_errors, name=name, k=k)


def _top_k_errors(labels, logits, k):
    return 1.0 - keras.metrics.sparse_top_k_categorical_accuracy(
        labels, logits, k=k
    )
