"""The paper's error rates as Keras metrics."""

import keras


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
