"""TensorBoard's pages: figures, images, the graph, settings, a profile."""

import re
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from alexnet_tf.evaluation.gallery import kernel_sheets
from alexnet_tf.storage.run_dir import RunDir

# Columns of history.csv, by the curve and the chart that they are in.
_SCALARS = {
    "train": {
        "loss": "loss",
        "top1_error": "errors/top1",
        "top5_error": "errors/top5",
        "learning_rate": "training/learning_rate",
        "gradient_norm": "training/gradient_norm",
        "images_per_second": "speed/images_per_second",
        "input_wait": "speed/input_wait",
    },
    "validation": {
        "val_loss": "loss",
        "val_top1_error": "errors/top1",
        "val_top5_error": "errors/top5",
    },
}
# Settings by which runs are compared.
_COMPARED = (
    "activation",
    "batch_size",
    "dataset",
    "dropout_rate",
    "learning_rate",
    "lrn",
    "momentum",
    "precision",
    "seed",
    "towers",
    "weight_decay",
    "width",
)
# Training images on the page, in as many rows as columns.
_SIDE = 6
# The first step that is traced; those before it take longer.
_PROFILED = 10


class TensorBoard(keras.callbacks.Callback):
    """Writes what TensorBoard shows of a run.

    At the start: some training images, the graph of the network, and the
    settings (HPARAMS). After each epoch: its row of history.csv, so that
    `History` must come before this, and conv1's kernels. (Keras's own callback
    gives each figure a group of its own, and writes none of the others.)

    Args:
        run: The run directory.
        batches: Training batches; some of the first one's images are shown
            as the network sees them, after mirroring, cutting and color
            noise.
        settings: All settings by name.
        profile_steps: Steps to trace for the profiler; 0 for none.
    """

    def __init__(
        self,
        run: RunDir,
        batches: tf.data.Dataset,
        *,
        settings: Mapping[str, int | float | str | bool],
        profile_steps: int,
    ):
        super().__init__()
        self.run = run
        self.batches = batches
        self.settings = {name: settings[name] for name in _COMPARED}
        self.profile_steps = profile_steps
        self._step = 0

    def on_train_begin(self, logs=None):
        """Shows the network and its input, unless a run goes on."""
        directory = self.run.tensorboard
        begun = directory.exists()
        self.writers = {
            name: tf.summary.create_file_writer(str(directory / name))
            for name in (".", *_SCALARS)
        }
        if begun:
            return
        with self.writers["."].as_default(step=0):
            tf.summary.image("training_images", self._training_images()[None])
            tf.summary.graph(self._graph())
            hparams.hparams_config(
                hparams=[hparams.HParam(name) for name in self.settings],
                metrics=[
                    hparams.Metric(tag, group="validation")
                    for tag in _SCALARS["validation"].values()
                ],
            )
            hparams.hparams(self.settings, trial_id=self.run.path.name)

    def on_train_batch_begin(self, batch, logs=None):
        """Begins and ends the profile."""
        self._step += 1
        if self.profile_steps and self._step == _PROFILED:
            tf.profiler.experimental.start(str(self.run.tensorboard))
        if self._step == _PROFILED + self.profile_steps:
            self._end_profile()

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's figures and the kernels."""
        row = self.run.read_history()[-1]
        for name, tags in _SCALARS.items():
            with self.writers[name].as_default(step=epoch):
                for column, tag in tags.items():
                    tf.summary.scalar(tag, float(row[column]))
        with self.writers["."].as_default(step=epoch):
            for tower, sheet in enumerate(kernel_sheets(self.model)):
                # Larger, or TensorBoard smoothes the pixels away.
                sheet = np.kron(sheet, np.ones((4, 4, 1)))
                tf.summary.image(f"conv1_kernels/tower{tower}", sheet[None])
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        """Closes the files."""
        self._end_profile()
        for writer in self.writers.values():
            writer.close()

    def _end_profile(self):
        if self.profile_steps and self._step >= _PROFILED:
            tf.profiler.experimental.stop()
            self.profile_steps = 0  # Once a process.

    def _graph(self):
        """Returns the graph of the network as it is asked, layer by layer."""
        shape = (None, *self.model.input.shape[1:])
        ask = tf.function(lambda images: self.model(images, training=False))
        traced = ask.get_concrete_function(tf.TensorSpec(shape, tf.uint8))
        graph = traced.graph.as_graph_def()
        for node in graph.node:
            node.name = _by_layer(node.name)
            node.input[:] = map(_by_layer, node.input)
        return graph

    def _training_images(self):
        """Returns a square of images in 0..1, noise and all."""
        images, _ = next(iter(self.batches))
        layer = self.model.get_layer("pixels_tower0")
        # Another layer of the same kind: the network's own draws go on.
        layer = type(layer).from_config(layer.get_config())
        seen = layer(images[: _SIDE**2], training=True).numpy() + layer.mean
        blank = np.full((_SIDE**2 - len(seen), *seen.shape[1:]), 255.0)
        grid = np.concatenate([seen, blank]).reshape(
            _SIDE, _SIDE, *seen.shape[1:]
        )
        rows = [np.concatenate(list(row), axis=1) for row in grid]
        return np.clip(np.concatenate(rows) / 255, 0, 1)


def _by_layer(name):
    """Returns alexnet_1/conv1_tower0_1/Relu as conv1_tower0/Relu."""
    return re.sub(r"alexnet\w*/(\w+?)(_\d+)?/", r"\1/", name)
