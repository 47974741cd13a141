"""The shapes data set as a TFDS builder: `tfds.load("shapes")`.

Examples have the features of `imagenet2012`. Nothing is downloaded: the
pictures are rendered, and are the same each time, byte for byte, except that
NumPy may round a pixel differently on another kind of processor.
"""

import collections
import concurrent.futures
import dataclasses
import io
import itertools

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data.shapes.render import CLASS_NAMES, render

_JPEG_QUALITY = 90
# NumPy releases the interpreter's lock for most of the work, but not for all:
# with more than two threads the time increases again.
_THREADS = 2
# Examples rendered ahead of those that are written.
_LOOKAHEAD = 64


@dataclasses.dataclass(kw_only=True)
class ShapesConfig(tfds.core.BuilderConfig):
    """Numbers of examples of both splits, multiples of 12."""

    train: int
    validation: int


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Builder of the shapes data set.

    An example is a dictionary of `image` (uint8 (height, width, 3) in 0..255,
    stored as JPEG), `label` (int64 in 0..11) and `file_name` (string, unique
    within its split). Classes have equal numbers of examples in both splits,
    `train` and `validation`.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        ShapesConfig(
            name="full",
            description="500 training and 100 validation examples a class.",
            train=6000,
            validation=1200,
        ),
        ShapesConfig(
            name="tiny",
            description="The first 20 and 5 examples a class, for tests.",
            train=240,
            validation=60,
        ),
    ]

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=CLASS_NAMES),
            "file_name": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            description=(
                "Drawings of one textured object each, in twelve classes: a "
                "small stand-in for photographs."
            ),
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        splits = ("train", "validation")
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
        count = getattr(self.builder_config, split)
        # Not processes: those would be forked from one with TensorFlow's
        # threads, or need a guarded main module.
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            futures = (pool.submit(_example, split, i) for i in range(count))
            pending = collections.deque(itertools.islice(futures, _LOOKAHEAD))
            while pending:
                example = pending.popleft().result()
                pending.extend(itertools.islice(futures, 1))
                yield example["file_name"], example


def _example(split, index):
    """Returns an example, a function of nothing but its arguments."""
    label = index % len(CLASS_NAMES)
    rng = np.random.default_rng([split == "validation", index])
    # Or TensorFlow may send the picture to a GPU.
    with tf.device("CPU"):
        jpeg = tf.io.encode_jpeg(render(label, rng), quality=_JPEG_QUALITY)
    return {
        # TFDS copies a file, but would encode an array again.
        "image": io.BytesIO(jpeg.numpy()),
        "label": label,
        "file_name": f"{split}_{index:05d}.jpeg",
    }
