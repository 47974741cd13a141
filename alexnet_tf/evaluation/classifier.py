"""Labels of image files, by a run's network or an exported model.

Imports no Keras, which an exported model does without.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.data.bad_examples import decoding_error
from alexnet_tf.data.class_folders import unreadable
from alexnet_tf.data.labels import class_labels

if TYPE_CHECKING:
    import keras

_BATCH = 32  # Files.
Signatures = Mapping[str, tf.types.experimental.Callable]
# A label and its probability.
Score = tuple[str, float]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network that labels image files."""

    signatures: Signatures  # See `inference.make_signatures`.
    max_image_pixels: int = Geometry.max_image_pixels
    model: "keras.Model" = None  # Of a run; an exported model has none.

    def predict(self, files: Sequence[str | PathLike]) -> list[list[Score]]:
        """Returns up to five labels of each file, the most probable first.

        Files that are no images raise a `UserError`, which is a ValueError.
        """
        found = []
        for file, best, error in self.classify(list(map(str, files))):
            if error:
                raise UserError(f"{file} cannot be read: {error}")
            found.append(best)
        return found

    def classify(
        self, files: Sequence[str]
    ) -> Iterator[tuple[str, list[Score], str]]:
        """Yields each file with its best labels, or why it has none."""
        for start in range(0, len(files), _BATCH):
            yield from self._classify(files[start : start + _BATCH])

    def _classify(self, files):
        contents, errors = zip(*map(_read, files), strict=True)
        outputs = self.signatures["classify"](image_bytes=tf.constant(contents))
        rows = zip(
            outputs["labels"].numpy(), outputs["scores"].numpy(), strict=True
        )
        for index, (labels, scores) in enumerate(rows):
            # Models of earlier versions may have WordNet ids only.
            names = class_labels(list(map(printable, labels)))
            if names[0]:
                best = list(zip(names, scores.tolist(), strict=True))
                yield files[index], best, ""
            else:
                error = errors[index] or decoding_error(
                    contents[index], self.max_image_pixels
                )
                yield files[index], [], error


def _read(file):
    """Returns a file's bytes, and why there are none."""
    if reason := unreadable(file):
        return b"", reason
    try:
        return Path(file).read_bytes(), ""
    except OSError as error:
        return b"", error.strerror


def load_signatures(path: Path) -> Signatures:
    """Returns the signatures of a SavedModel."""
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # Of any kind, also TypeError and IndexError.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} is damaged, or not a SavedModel that TensorFlow "
            f"{tf.__version__} reads: {reason}\nExport the run again."
        ) from error
    for signature in loaded.signatures.values():
        # The loaded object owns the weights and must live as long.
        signature.owner = loaded
    return dict(loaded.signatures)
