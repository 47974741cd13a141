"""Serving signatures: from image files to labels, with or without a run."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_tf.config.data import Geometry
from alexnet_tf.config.flags import Config, parse_run
from alexnet_tf.data.bad_examples import decode_rows
from alexnet_tf.data.decoding import decode_patch
from alexnet_tf.data.labels import run_labels
from alexnet_tf.evaluation.classifier import Classifier, Signatures
from alexnet_tf.models.build import load_trained
from alexnet_tf.storage.files import written_aside
from alexnet_tf.storage.run_dir import open_run

# The layers whose outputs are an image's features, in AlexNet and in the
# networks for CIFAR-10.
_FEATURES = ("fc7_tower", "flat3_tower", "flat4_tower")
# Classes that `classify` returns.
_BEST = 5


def load_run(
    path: str | os.PathLike, config: Config | None = None
) -> Classifier:
    """Returns the network of a run's best checkpoint, for image files.

    Args:
        path: The run directory.
        config: Settings in place of those in its flags.cfg.
    """
    run_dir = open_run(os.path.expanduser(path))
    if config is None:
        saved = run_dir.has_settings()
        config = parse_run(run_dir.flags) if saved else Config()
    model, _ = load_trained(config, run_dir)
    labels = run_labels(config, run_dir)
    signatures = make_signatures(model, labels, config.geometry)
    return Classifier(signatures, config.max_image_pixels, model)


def make_signatures(
    model: keras.Model, class_names: Sequence[str], geometry: Geometry
) -> Signatures:
    """Returns the model's serving signatures.

    Args:
        model: The network, from uint8 patches to logits.
        class_names: Names in the order of the logits.
        geometry: Image files are cut to its center patch.

    Returns:
        Compiled functions from named arguments to named results.

        `classify`: from `image_bytes`, (n,) strings, each an image file, to
        `labels`, (n, up to 5) strings, the most probable classes first, and
        `scores`, their probabilities; an entry that is not an image has empty
        labels and scores of 0.
        `probabilities`: from `images`, (n, crop_size, crop_size, 3) uint8, to
        `probabilities`, (n, classes) float32.
        `features`: from `images` to `features`, (n, neurons) float32, the
        outputs of fc7, both towers side by side (Sec. 6.1), or what the output
        layer of a network for CIFAR-10 sees.
        `class_names`: from nothing to `class_names`, (classes,) strings.
    """
    names = tf.constant(list(class_names))
    image_bytes = tf.TensorSpec([None], tf.string, "image_bytes")
    images = tf.TensorSpec([None, *geometry.patch_shape], tf.uint8, "images")
    extract = keras.Model(model.input, feature_outputs(model))

    @tf.function(input_signature=[image_bytes])
    def classify(image_bytes):
        patches, good = decode_rows(
            lambda encoded: decode_patch(encoded, geometry.center, geometry),
            [image_bytes],
            tf.zeros(geometry.patch_shape, tf.uint8),
        )
        patches = tf.ensure_shape(patches, images.shape)
        best = min(_BEST, len(class_names))
        logits = tf.cast(model(patches, training=False), tf.float32)
        # Not by their probabilities, of which small ones round to zero.
        classes = tf.math.top_k(logits, k=best).indices
        scores = tf.gather(tf.nn.softmax(logits), classes, batch_dims=1)
        labels = tf.where(good[:, None], tf.gather(names, classes), "")
        scores = tf.where(good[:, None], scores, 0.0)
        return {"labels": labels, "scores": scores}

    @tf.function(input_signature=[images])
    def probabilities(images):
        logits = tf.cast(model(images, training=False), tf.float32)
        return {"probabilities": tf.nn.softmax(logits)}

    @tf.function(input_signature=[images])
    def features(images):
        found = extract(images, training=False)
        return {"features": tf.cast(found, tf.float32)}

    @tf.function(input_signature=[])
    def all_names():
        return {"class_names": names}

    return {
        "classify": classify,
        "probabilities": probabilities,
        "features": features,
        "class_names": all_names,
    }


def feature_outputs(model: keras.Model) -> keras.KerasTensor:
    """Returns the features, (batch, neurons), of all towers."""
    towers = [
        layer.output
        for layer in model.layers
        if layer.name.startswith(_FEATURES)
    ]
    return keras.ops.concatenate(towers, axis=-1)


def save_signatures(signatures: Signatures, path: Path) -> None:
    """Writes a SavedModel that loads on any machine, whatever its devices.

    `classify` is its default serving signature.
    """
    archive = keras.export.ExportArchive()
    # No archive.track(model): that would write each weight twice.
    for name, function in signatures.items():
        archive.add_endpoint(name, function, function.input_signature)
    with written_aside(path) as aside:
        archive.write_out(str(aside), verbose=False)
        _clear_devices(aside / "saved_model.pb")


def _clear_devices(file):
    """Clears the devices that TensorFlow's own saving functions name."""
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved.meta_graphs:
        graph = meta_graph.graph_def
        functions = [f.node_def for f in graph.library.function]
        for node in itertools.chain(graph.node, *functions):
            node.device = ""
    file.write_bytes(saved.SerializeToString())
