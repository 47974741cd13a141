"""The shapes data set as a TFDS builder: `tfds.load("shapes")`.

The examples have the features of `imagenet2012`, so that whatever trains on
the one trains on the other. Nothing is downloaded: the pictures are drawn on
the spot and come out the same each time, byte for byte. (On another kind of
processor, NumPy may round a pixel differently.)
"""

import collections
import concurrent.futures
import dataclasses
import io
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data.shapes.render import CLASS_NAMES, render

_JPEG_QUALITY = 90
# NumPy lets go of the interpreter's lock in most of the work, not in all of
# it: with more threads than two the time goes up again.
_THREADS = 2
# Examples drawn or being drawn, and not yet written.
_LOOKAHEAD = 64


@dataclasses.dataclass(kw_only=True)
class ShapesConfig(tfds.core.BuilderConfig):
    """The size of the data set.

    Attributes:
        train: Number of training examples, a multiple of 12.
        validation: Number of validation examples, a multiple of 12.
    """

    train: int
    validation: int


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Builder of the shapes data set.

    An example is a dictionary of `image` (uint8 of shape (height, width, 3)
    in 0..255, kept as JPEG), `label` (int64 in 0..11) and `file_name`
    (string, unique within its split). The splits are `train` and
    `validation`; the classes have equally many examples in each.
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

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=(
                "Drawings of one textured object each, in twelve classes: a "
                "small stand-in for photographs."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        config = self.builder_config
        return {
            "train": self._generate_examples("train", config.train),
            "validation": self._generate_examples(
                "validation", config.validation
            ),
        }

    def _generate_examples(
        self, split: str, count: int
    ) -> Iterator[tuple[str, dict]]:
        # Processes would have to be forked from one that runs TensorFlow's
        # threads, or need a main module that is guarded.
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            futures = (pool.submit(_example, split, i) for i in range(count))
            pending = collections.deque(itertools.islice(futures, _LOOKAHEAD))
            while pending:
                example = pending.popleft().result()
                pending.extend(itertools.islice(futures, 1))
                yield example["file_name"], example


def _example(split: str, index: int) -> dict:
    """Returns an example, a function of its arguments alone."""
    label = index % len(CLASS_NAMES)
    rng = np.random.default_rng([split == "validation", index])
    # A GPU has no part in this, and should not get the picture sent.
    with tf.device("CPU"):
        jpeg = tf.io.encode_jpeg(render(label, rng), quality=_JPEG_QUALITY)
    return {
        # TFDS would encode an array again; it copies a file.
        "image": io.BytesIO(jpeg.numpy()),
        "label": label,
        "file_name": f"{split}_{index:05d}.jpeg",
    }
