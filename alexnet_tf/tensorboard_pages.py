"""What TensorBoard shows beside the figures of each epoch."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from alexnet_tf import gallery, picture_plots
from alexnet_tf.run_dir import RunDir

# Training images on the page, in as many rows as columns.
_SIDE = 6
# Settings by which runs are compared.
_COMPARED = (
    "dataset",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "width",
    "towers",
    "activation",
    "lrn",
    "dropout_rate",
    "initialisation",
    "random_crop",
    "horizontal_flip",
    "colour_noise_std",
    "precision",
    "seed",
)


def make_callbacks(
    run: RunDir,
    batches: tf.data.Dataset,
    *,
    settings: Mapping[str, int | float | str | bool],
    profile_steps: int,
) -> list[keras.callbacks.Callback]:
    """Returns what writes all of TensorBoard's pages.

    Args:
        run: The run directory.
        batches: Training batches; some of the first one's images are shown.
        settings: All settings by name.
        profile_steps: Steps to trace; 0 for none.
    """
    # After the first steps, which take longer.
    profiled = (10, 9 + profile_steps) if profile_steps else 0
    return [
        keras.callbacks.TensorBoard(run.tensorboard, profile_batch=profiled),
        Pages(run, batches, {name: settings[name] for name in _COMPARED}),
    ]


class Pages(keras.callbacks.Callback):
    """Shows some training images at the start, and conv1's kernels each epoch.

    They stand in TensorBoard's images, of the run `pictures`; the settings and
    the errors they led to in HPARAMS.

    Args:
        run: The run directory.
        batches: Training batches; some of the first one's images are shown
            as the network sees them, after mirroring, cutting and colour
            noise.
        settings: Numbers, texts and truth values by name.
    """

    def __init__(
        self,
        run: RunDir,
        batches: tf.data.Dataset,
        settings: dict[str, int | float | str | bool],
    ):
        super().__init__()
        self.run = run
        self.batches = batches
        self.settings = settings

    def on_train_begin(self, logs=None):
        """Shows the images and the settings, unless a run goes on."""
        pictures = self.run.tensorboard / "pictures"
        begun = pictures.exists()
        self.writer = tf.summary.create_file_writer(str(pictures))
        if begun:
            return
        with self.writer.as_default(step=0):
            tf.summary.image("training_images", self._training_images()[None])
        root = tf.summary.create_file_writer(str(self.run.tensorboard))
        with root.as_default():
            hparams.hparams_config(
                hparams=[hparams.HParam(name) for name in self.settings],
                metrics=[
                    hparams.Metric(
                        f"epoch_{name}",
                        group="validation",
                        display_name=f"validation {name}",
                    )
                    for name in ("top1_error", "top5_error", "loss")
                ],
            )
            hparams.hparams(self.settings)
        root.close()

    def on_epoch_end(self, epoch, logs=None):
        """Shows the kernels."""
        sheets = map(picture_plots.sheet, gallery.conv1_kernels(self.model))
        with self.writer.as_default(step=epoch):
            for tower, sheet in enumerate(sheets):
                # Larger, or TensorBoard smoothes the pixels away.
                sheet = np.kron(sheet, np.ones((4, 4, 1)))
                tf.summary.image(f"conv1_kernels/tower{tower}", sheet[None])

    def on_train_end(self, logs=None):
        """Closes the file."""
        self.writer.close()

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
