"""TensorBoard: curves, images, the graph, settings and a profile."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.plugins.hparams import api as hparams

from alexnet_tf.config.flags import Config
from alexnet_tf.evaluation.kernels import first_kernels, sheet
from alexnet_tf.evaluation.plots import pixels
from alexnet_tf.evaluation.tables import format_table
from alexnet_tf.storage.files import reporting_failed_writes
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.checkpointing import Progress

# Column of history.csv -> tag and description of a scalar by epoch.
_BY_EPOCH = {
    "loss": ("loss/training", "Cross-entropy [nats], mean over the epoch"),
    "val_loss": ("loss/validation", "Cross-entropy [nats] after the epoch"),
    "top1_error": (
        "error_percent/top1_training",
        "Patches misclassified [%], mean over the epoch, with dropout",
    ),
    "val_top1_error": (
        "error_percent/top1_validation",
        "Validation images misclassified [%] after the epoch, center crop",
    ),
    "top5_error": (
        "error_percent/top5_training",
        "Patches whose class is not among the five most probable [%]",
    ),
    "val_top5_error": (
        "error_percent/top5_validation",
        "Validation images whose class is not among the five most probable [%]",
    ),
    "learning_rate": ("training/learning_rate", "Of the epoch's last step"),
    "gradient_norm": (
        "training/gradient_norm",
        "Euclidean norm of the epoch's last gradient",
    ),
    "images_per_second": ("speed/images_per_second", "Mean over the epoch"),
    "input_wait": (
        "speed/input_wait",
        "Fraction of the time that the devices waited for images",
    ),
}
# The same by training step; the first ones are means since the last point.
_MEANS = {
    "loss": ("within_epochs/loss", "Cross-entropy [nats] in training"),
    "top1_error": (
        "within_epochs/top1_error_percent",
        "Patches misclassified [%] in training",
    ),
    "top5_error": (
        "within_epochs/top5_error_percent",
        "Patches whose class is not among the five most probable [%]",
    ),
}
_LAST = {
    "learning_rate": ("within_epochs/learning_rate", "Of the step"),
    "gradient_norm": (
        "within_epochs/gradient_norm",
        "Euclidean norm of the step's gradient",
    ),
    "images_per_second": (
        "within_epochs/images_per_second",
        "Mean over the epoch so far",
    ),
}
# Of the best epoch so far, for HPARAMS, which shows the last value of a tag,
# and the first tags by name unless asked.
_BEST = {
    "val_top1_error": (
        "best/top1_error_percent",
        "Validation error of the best epoch so far [%]",
    ),
    "val_top5_error": (
        "best/top5_error_percent",
        "Top-5 validation error of the epoch with the best top-1 error [%]",
    ),
}
# Settings under HPARAMS, which shows those first that differ between runs.
_COMPARED = (
    "activation batch_size dataset dropout_rate epochs learning_rate lrn "
    "momentum precision seed towers weight_decay width"
).split()
# Training images a row and a column.
_SIDE = 6
# First profiled step; those before it take longer.
_FIRST_PROFILED = 10


class TensorBoard(keras.callbacks.Callback):
    """Writes what TensorBoard shows of a run, all as one of its runs.

    At the start of a process: the settings, as text and for HPARAMS, which
    curves CUSTOM SCALARS draws together, and the epochs done; before the
    first step also some training images and the graph of the network. Every
    --summary_steps steps: the loss and errors since the last time. After each
    epoch: its row of history.csv, so that `History` must come first, and
    conv1's kernels. (Keras's callback makes a run of training and another one
    of validation, and writes none of the rest.)

    Images that `make_batches` returns for the first step are shown as the
    network sees them, after cropping, mirroring and color noise.
    """

    def __init__(
        self,
        run_dir: RunDir,
        progress: Progress,
        make_batches: Callable[[range], Iterable],
        config: Config,
    ):
        super().__init__()
        self.run_dir = run_dir
        self.progress = progress
        self.make_batches = make_batches
        self.config = config
        self.summary_steps = config.summary_steps
        self.profile_steps = config.profile_steps
        self._steps = 0  # In this process.
        self._has_begun = False
        self._file: Path | None = None  # Of events.
        self._size = 0  # Bytes of it that have arrived.
        self._start_epoch()

    def _start_epoch(self):
        # As Keras resets its means: batches of the epoch, those before the
        # last point, and sums over the latter.
        self._batches, self._written, self._sums = 0, 0, {}

    def get_state(self) -> dict:
        """Returns what changes within an epoch."""
        return {"epoch": [self._batches, self._written, self._sums]}

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` returned."""
        self._batches, self._written, self._sums = state["epoch"]

    def on_train_begin(self, logs=None):
        """Writes the settings, and the input or the epochs done."""
        self._open()
        if self._has_begun:
            return  # `fit` may be called more than once.
        self._has_begun = True
        text = self._describe()
        with self._writing(step=self.progress.epochs_done):
            tf.summary.text("run/settings", text)
            self._write_plugins()
        # What a killed process did not write, or an earlier version otherwise.
        rows = self.run_dir.read_history()
        for epoch in range(1, self.progress.epochs_done + 1):
            if rows[epoch - 1].get("val_loss"):  # Not of a lost row.
                self._write_epoch(rows[:epoch])
        if not self.progress.step:
            images, graph = self._training_images(), self._graph()
            with self._writing(step=0):
                tf.summary.image("training_images", images[None])
                tf.summary.graph(graph)

    def on_train_batch_begin(self, batch, logs=None):
        """Starts and stops the profiler."""
        self._steps += 1
        if self.profile_steps and self._steps == _FIRST_PROFILED:
            with reporting_failed_writes(self.run_dir.tensorboard):
                tf.profiler.experimental.start(str(self.run_dir.tensorboard))
        if self._steps == _FIRST_PROFILED + self.profile_steps:
            self._end_profile()

    def on_train_batch_end(self, batch, logs=None):
        """Writes the means over the steps since the last time."""
        self._batches += 1
        step = self.progress.step + 1  # `ProgressTracker` comes later.
        if not self.summary_steps or step % self.summary_steps:
            return
        sums = {name: float(logs[name]) * self._batches for name in _MEANS}
        count = self._batches - self._written
        means = {
            name: (total - self._sums.get(name, 0.0)) / count
            for name, total in sums.items()
        }
        self._written, self._sums = self._batches, sums
        rate = self.model.optimizer.last_rate()
        values = {**logs, "learning_rate": rate, **means}
        with self._writing(step=step):
            self._write_scalars(_MEANS | _LAST, values)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's metrics and the kernels."""
        self._start_epoch()
        self._write_epoch(self.run_dir.read_history())
        with self._writing(step=epoch + 1):
            for tower, kernels in enumerate(first_kernels(self.model)):
                # Enlarged, or TensorBoard blurs the pixels.
                image = np.kron(sheet(kernels), np.ones((4, 4, 1)))[None]
                tf.summary.image(f"conv1_kernels/tower{tower}", image)

    def on_train_end(self, logs=None):
        """Closes the file."""
        self._end_profile()
        self.writer.close()

    def write_result(
        self, result: dict, figures: Mapping[str, Figure | None]
    ) -> None:
        """Writes result.json as text, and figures, after the end of `fit`."""
        self._open()
        with self._writing(step=result["epochs"]):
            tf.summary.text("run/result", _table(result))
            for name, figure in figures.items():
                if figure:
                    tf.summary.image(f"validation/{name}", pixels(figure)[None])
        self.writer.close()

    def _open(self):
        directory = self.run_dir.tensorboard
        with reporting_failed_writes(directory):
            self.writer = tf.summary.create_file_writer(str(directory))

    def _write_epoch(self, rows):
        """Writes the last row of history.csv and what follows from all."""
        epoch = len(rows)
        rates = [float(row.get("learning_rate") or "nan") for row in rows[-2:]]
        measured = [row for row in rows if row.get("val_loss")]
        with self._writing(step=epoch):
            self._write_scalars(_BY_EPOCH, rows[-1])
            if measured:
                self._write_scalars(_BEST, min(measured, key=_errors))
            if rates[-1] < rates[0]:
                text = f"Epoch {epoch}: {rates[0]:.4g} -> {rates[1]:.4g}"
                tf.summary.text("run/learning_rate_drops", text)

    def _write_scalars(self, tags, values):
        """Writes those values that are known."""
        has_top5 = self.model.output_shape[-1] > 5
        for name, (tag, description) in tags.items():
            known = values.get(name) not in (None, "")
            if known and (has_top5 or "top5" not in name):
                scale = 100 if "error" in name else 1
                value = scale * float(values[name])
                tf.summary.scalar(tag, value, description=description)

    def _write_plugins(self):
        """Writes the settings, and the curves that belong together."""
        # Without `hparams_config`, which would fix the columns.
        settings = {name: getattr(self.config, name) for name in _COMPARED}
        hparams.hparams(settings, trial_id=self.run_dir.path.name)
        charts = [
            {"title": title, "multiline": {"tag": [tag]}}
            for title, tag in (
                ("Loss [nats]", "loss/"),
                ("Top-1 error [%]", "error_percent/top1"),
                ("Top-5 error [%]", "error_percent/top5"),
            )
        ]
        category = {"title": "Training and validation", "chart": charts}
        layout = layout_pb2.Layout(category=[category])
        tf.summary.write(
            metadata.CONFIG_SUMMARY_TAG,
            layout.SerializeToString(),
            metadata=metadata.create_summary_metadata(),
        )

    def _describe(self):
        """Returns the run and its flags in Markdown."""
        environment = self.run_dir.read_environment()
        devices = [
            ", ".join(names) for names in environment.pop("replicas", [])
        ]
        facts = {
            "classes": self.model.output_shape[-1],
            "parameters": f"{self.model.count_params():,}",
            "replicas": "; ".join(devices),
            **environment,
        }
        flags = self.run_dir.flags.read_text()
        code = "".join(f"    {line}\n" for line in flags.splitlines())
        return f"{_table(facts)}\n\n{self.run_dir.flags.name}:\n\n{code}"

    @contextlib.contextmanager
    def _writing(self, *, step):
        """Writes at a step or epoch, and then to disk."""
        with (
            reporting_failed_writes(self.run_dir.tensorboard),
            self.writer.as_default(step=step),
        ):
            yield
            self.writer.flush()
            self._check_file()

    def _check_file(self):
        """Checks that what was written has arrived; TensorFlow does not."""
        file = max(
            self.run_dir.tensorboard.glob(f"events.*.{os.getpid()}.*"),
            key=lambda path: path.stat().st_mtime_ns,
            default=None,
        )
        if not file:
            raise OSError("the file of events is gone")
        size = file.stat().st_size
        if file != self._file:
            self._file, self._size = file, 0
        elif size == self._size:
            raise OSError(f"{file.name} does not grow")
        with file.open("rb") as events:
            while self._size < size:
                # A record: its length, a checksum of that, content, checksum.
                events.seek(self._size)
                self._size += 16 + int.from_bytes(events.read(8), "little")
        if self._size > size:
            raise OSError(f"{file.name} was cut at {size} bytes")

    def _end_profile(self):
        if self.profile_steps and self._steps >= _FIRST_PROFILED:
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
        images, _ = next(iter(self.make_batches(range(1))))
        layer = self.model.get_layer("pixels_tower0")
        # A copy: the state of the network's random draws must not change.
        layer = type(layer).from_config(layer.get_config())
        seen = layer(images[: _SIDE**2], training=True).numpy() + layer.mean
        grid = np.full((_SIDE**2, *seen.shape[1:]), 255.0)
        grid[: len(seen)] = seen
        rows = [np.concatenate(row, axis=1) for row in np.split(grid, _SIDE)]
        return np.clip(np.concatenate(rows) / 255, 0, 1)


def _errors(row):
    """Returns what the best epoch has least of."""
    return float(row["val_top1_error"]), float(row["val_loss"])


def _table(values):
    """Returns a dictionary as a Markdown table."""
    rows = []
    for name, value in values.items():
        if isinstance(value, float):
            value = f"{value:.1%}" if "error" in name else f"{value:.4g}"
        rows.append((name.replace("_", " "), str(value)))
    return format_table(("name", "value"), rows, markdown=True)
