"""Predictions for a whole split, and their errors (Sec. 2 and 4.1)."""

from collections.abc import Callable

import keras
import numpy as np

from alexnet_tf.config.data import Geometry
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples
from alexnet_tf.data.pipeline import PADDING_LABEL, evaluation_batches
from alexnet_tf.distribution import iterators
from alexnet_tf.distribution.devices import Devices


class SplitPredictor:
    """Predicts the classes of each example of a split, exactly once.

    Args:
        model: The network, made in the scope of the strategy.
        examples: The split.
        devices: The devices.
        batch_size: Patches at a time, over all replicas.
        geometry: Sizes of the patches.
        bad: Where examples are noted that cannot be used; they are left out.
        ten_crops: Whether to look at ten patches of each image.
    """

    def __init__(
        self,
        model: keras.Model,
        examples: Examples,
        devices: Devices,
        *,
        batch_size: int,
        geometry: Geometry,
        bad: BadExamples,
        ten_crops: bool = False,
    ):
        views = 10 if ten_crops else 1
        strategy, workers = devices.strategy, devices.workers
        replicas = strategy.num_replicas_in_sync
        self.num_examples = examples.count
        batches = evaluation_batches(
            examples,
            batch_size=max(1, batch_size // views // replicas) * replicas,
            geometry=geometry,
            bad=bad,
            ten_crops=ten_crops,
            shard=workers.shard,
        ).map(lambda images, labels: {"images": images, "labels": labels})
        self._num_batches = int(batches.cardinality())
        # One for all passes; it keeps reading a little ahead.
        self._batches = iterators.keep(
            iter(workers.distribute(batches.repeat()))
        )
        with strategy.scope():
            predictor = _make_predictor(model, views)
        predictor.make_predict_function()
        self._predict_batches = predictor.predict_function

    def predict(
        self,
        verbose: int = 0,
        after_batch: Callable[[], None] = lambda: None,
    ) -> dict[str, np.ndarray]:
        """Returns the predictions of the network as it is now.

        Args:
            verbose: 1 for a moving bar.
            after_batch: Called after each batch.

        Returns:
            `labels`, (n,) int64, in the split's order; `center`, (n, classes)
            float32, the probabilities of the center patch; and with ten crops
            `ten_crop`, the average of the probabilities of the ten patches.

        Raises:
            RuntimeError: if not exactly all examples were seen.
        """
        bar = keras.utils.Progbar(self._num_batches, verbose=verbose)
        predictions = []
        for done in range(1, self._num_batches + 1):
            prediction = self._predict_batches([next(self._batches)])
            predictions.append(
                {name: value.numpy() for name, value in prediction.items()}
            )
            bar.update(done)
            after_batch()
        predicted = {
            name: np.concatenate([some[name] for some in predictions])
            for name in predictions[0]
        }
        seen = (predicted["labels"] != PADDING_LABEL).sum()
        if seen != self.num_examples:
            raise RuntimeError(
                f"evaluated {seen} of {self.num_examples} examples"
            )
        real = predicted["labels"] >= 0
        return {name: values[real] for name, values in predicted.items()}


def _make_predictor(model, views):
    """Returns a network that looks at `views` patches of each image.

    It hands the labels through, so that they stay beside the predictions
    whatever the strategy does to the batches.
    """
    patch = model.input_shape[1:]
    shape = patch if views == 1 else (views, *patch)
    inputs = {
        "images": keras.Input(shape, dtype="uint8", name="images"),
        "labels": keras.Input((), dtype="int64", name="labels"),
    }
    logits = model(keras.ops.reshape(inputs["images"], (-1, *patch)))
    probabilities = keras.ops.reshape(
        keras.ops.softmax(logits), (-1, views, model.output_shape[-1])
    )
    outputs = {"labels": inputs["labels"], "center": probabilities[:, 0]}
    if views > 1:
        outputs["ten_crop"] = keras.ops.mean(probabilities, axis=1)
    return keras.Model(inputs, outputs)


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns the loss and the errors of predictions.

    Args:
        probabilities: (n, classes).
        labels: (n,) integers.

    Returns:
        `loss`, the mean cross-entropy [nats]; `top1_error` and `top5_error`,
        the shares of examples whose label is not among the one or five best
        classes (Sec. 2), in 0..1; `num_examples`.
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
    """Returns the metric `top1_error`, `top5_error`, ...

    The share of examples, in [0, 1], whose label is not among the `k` classes
    with the highest logits. Each example counts once, in batches of any size.
    """

    def error(labels, logits):
        hits = keras.metrics.sparse_top_k_categorical_accuracy(
            labels, logits, k=k
        )
        return 1.0 - hits

    return keras.metrics.MeanMetricWrapper(error, name=f"top{k}_error")
