"""TensorBoard: curves, images, the graph, settings and a profile."""

import contextlib
import re

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from alexnet_tf.evaluation.gallery import kernel_sheets
from alexnet_tf.storage.files import reporting_failed_writes
from alexnet_tf.storage.run_dir import RunDir

# Column of history.csv -> chart, for each curve of a chart.
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
# Settings shown under HPARAMS.
_COMPARED = (
    "activation batch_size dataset dropout_rate learning_rate lrn momentum "
    "precision seed towers weight_decay width"
).split()
# Training images a row and a column.
_SIDE = 6
# First profiled step; those before it take longer.
_FIRST_PROFILED = 10


class TensorBoard(keras.callbacks.Callback):
    """Writes what TensorBoard shows of a run.

    Before the first checkpoint: some training images, the graph of the network,
    and the settings (HPARAMS). After each epoch: its row of history.csv, so
    that `History` must come first, and conv1's kernels. (Keras's callback puts
    each curve into a separate group and writes none of the rest.)

    Images of the first of `batches` are shown as the network sees them, after
    cropping, mirroring and color noise. The profiler traces `profile_steps`.
    """

    def __init__(
        self,
        run_dir: RunDir,
        batches,
        *,
        settings: dict,
        profile_steps: int,
        is_new: bool,
    ):
        super().__init__()
        self.run_dir = run_dir
        self.batches = batches
        self.settings = {name: settings[name] for name in _COMPARED}
        self.profile_steps = profile_steps
        self.is_new = is_new  # Whether the run has no checkpoint yet.
        self._step = 0

    def on_train_begin(self, logs=None):
        """Writes the network and its input, unless the run is resumed."""
        directory = self.run_dir.tensorboard
        with reporting_failed_writes(directory):
            self.writers = {
                name: tf.summary.create_file_writer(str(directory / name))
                for name in (".", *_SCALARS)
            }
        if not self.is_new:
            return
        self.is_new = False
        images, graph = self._training_images(), self._graph()
        with self._writing(".", step=0):
            tf.summary.image("training_images", images[None])
            tf.summary.graph(graph)
            parameters = [hparams.HParam(name) for name in self.settings]
            tags = _SCALARS["validation"].values()
            metrics = [hparams.Metric(t, group="validation") for t in tags]
            hparams.hparams_config(hparams=parameters, metrics=metrics)
            hparams.hparams(self.settings, trial_id=self.run_dir.path.name)
        # A checkpoint, which comes later, means that they are on disk.
        self.writers["."].flush()

    def on_train_batch_begin(self, batch, logs=None):
        """Starts and stops the profiler."""
        self._step += 1
        if self.profile_steps and self._step == _FIRST_PROFILED:
            with reporting_failed_writes(self.run_dir.tensorboard):
                tf.profiler.experimental.start(str(self.run_dir.tensorboard))
        if self._step == _FIRST_PROFILED + self.profile_steps:
            self._end_profile()

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's metrics and the kernels."""
        row = self.run_dir.read_history()[-1]
        for name, tags in _SCALARS.items():
            with self._writing(name, step=epoch):
                for column, tag in tags.items():
                    tf.summary.scalar(tag, float(row[column]))
        with self._writing(".", step=epoch):
            for tower, sheet in enumerate(kernel_sheets(self.model)):
                # Enlarged, or TensorBoard blurs the pixels.
                sheet = np.kron(sheet, np.ones((4, 4, 1)))[None]
                tf.summary.image(f"conv1_kernels/tower{tower}", sheet)

    def on_train_end(self, logs=None):
        """Closes the files."""
        self._end_profile()
        for writer in self.writers.values():
            writer.close()

    @contextlib.contextmanager
    def _writing(self, name, *, step):
        """Writes to the curves `name`, and then to disk."""
        with (
            reporting_failed_writes(self.run_dir.tensorboard),
            self.writers[name].as_default(step=step),
        ):
            yield
            self.writers[name].flush()

    def _end_profile(self):
        if self.profile_steps and self._step >= _FIRST_PROFILED:
            with reporting_failed_writes(self.run_dir.tensorboard):
                tf.profiler.experimental.stop()
            self.profile_steps = 0  # Once a process.

    def _graph(self):
        """Returns the graph of a prediction, grouped by layer."""
        predict = tf.function(lambda images: self.model(images, training=False))
        images = tf.TensorSpec((None, *self.model.input.shape[1:]), tf.uint8)
        graph = predict.get_concrete_function(images).graph.as_graph_def()
        for node in graph.node:
            node.name = self._by_layer(node.name)
            node.input[:] = map(self._by_layer, node.input)
        return graph

    def _by_layer(self, name):
        """Returns alexnet_1/conv1_tower0_1/Relu as conv1_tower0/Relu."""
        pattern = rf"{self.model.name}\w*/(\w+?)(_\d+)?/"
        return re.sub(pattern, r"\1/", name)

    def _training_images(self):
        """Returns a grid of images in 0..1, with noise."""
        images, _ = next(iter(self.batches))
        layer = self.model.get_layer("pixels_tower0")
        # A copy: the state of the network's random draws must not change.
        layer = type(layer).from_config(layer.get_config())
        seen = layer(images[: _SIDE**2], training=True).numpy() + layer.mean
        grid = np.full((_SIDE**2, *seen.shape[1:]), 255.0)
        grid[: len(seen)] = seen
        rows = [np.concatenate(row, axis=1) for row in np.split(grid, _SIDE)]
        return np.clip(np.concatenate(rows) / 255, 0, 1)
