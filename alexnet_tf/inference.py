"""From encoded images to labels: what is exported, and what predicts."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf.preprocessing import Geometry, decode_patch

_SIGNATURE = [tf.TensorSpec([None], tf.string, name="image_bytes")]


def make_classifier(
    model: keras.Model, class_names: Sequence[str], geometry: Geometry
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a function that names the classes of encoded images.

    Args:
        model: The network; takes uint8 patches, gives logits.
        class_names: Names in the order of the logits.
        geometry: Sizes of the patches; the centre one is looked at.

    Returns:
        A tf.function of `image_bytes`, (batch,) strings, each a JPEG or
        another image file. It returns `labels`, (batch, 5) strings, the best
        classes first (fewer than 5 if there are fewer), and `scores`,
        (batch, 5) float32, their probabilities.
    """
    names = list(class_names)

    @tf.function(input_signature=_SIGNATURE)
    def classify(image_bytes):
        patches = tf.map_fn(
            lambda encoded: decode_patch(encoded, geometry.centre, geometry),
            image_bytes,
            fn_output_signature=tf.uint8,
        )
        logits = model(patches, training=False)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        scores, classes = tf.math.top_k(probabilities, k=min(5, len(names)))
        return {"labels": tf.gather(tf.constant(names), classes),
                "scores": scores}  # fmt: skip

    return classify


def save_classifier(classify: Callable, path: Path) -> None:
    """Writes a SavedModel with `classify` as its serving signature.

    It names no device: it loads on any machine, as it is.
    """
    archive = keras.export.ExportArchive()
    # No archive.track(model): that would write each weight twice.
    archive.add_endpoint("classify", classify, input_signature=_SIGNATURE)
    archive.write_out(str(path), verbose=False)
    _clear_devices(path / "saved_model.pb")


def _clear_devices(file: Path) -> None:
    """Clears the devices that TensorFlow's own saving functions name."""
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved.meta_graphs:
        graph = meta_graph.graph_def
        functions = [f.node_def for f in graph.library.function]
        for node in itertools.chain(graph.node, *functions):
            node.device = ""
    file.write_bytes(saved.SerializeToString())


def load_classifier(path: Path) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the function that `save_classifier` saved."""
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    # The loaded object owns the weights and must live as long.
    signature.owner = loaded
    return lambda image_bytes: signature(image_bytes=image_bytes)
