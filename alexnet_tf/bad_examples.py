"""Examples that cannot be used: left out, counted and named.

What looks like a whole JPEG is decoded by TensorFlow's graph, at full speed,
which ends when it cannot. All else is decoded one by one, where a failure can
be caught.
"""

import csv
import threading
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from alexnet_tf.errors import UserError

# The label of an example that is left out.
BAD = -1


class BadExamples:
    """The bad examples of a run, in its bad_examples.csv, once each.

    Args:
        file: The file; those that it names already are known to be bad.
        limit: More of them end the run.
    """

    def __init__(self, file: Path, *, limit: int):
        self.file = file
        self.limit = limit
        # Whether to decode all examples one by one.
        self.suspicious = False
        self._lock = threading.Lock()
        self.reasons = {}
        if file.exists():
            with file.open(newline="") as lines:
                self.reasons = {
                    row["name"]: row["reason"] for row in csv.DictReader(lines)
                }

    def note(self, name: str, reason: str) -> None:
        """Adds an example, if it is new."""
        with self._lock:
            if name in self.reasons:
                return
            is_new_file = not self.file.exists()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.reasons[name] = reason
            with self.file.open("a", newline="") as lines:
                writer = csv.writer(lines)
                if is_new_file:
                    writer.writerow(("name", "reason"))
                writer.writerow((name, reason))

    def check(self) -> None:
        """Ends the run if there are too many.

        Raises:
            UserError: if there are more than `limit`.
        """
        if len(self.reasons) > self.limit:
            name, reason = next(reversed(self.reasons.items()))
            raise UserError(
                f"{len(self.reasons)} examples cannot be used, more than the "
                f"{self.limit} of --max_bad_fraction; the last one is\n"
                f"{name}: {reason}\nAll are named in {self.file}; mend or "
                "remove them, or allow more."
            )


def decode_or_note(
    decode: Callable[..., tf.Tensor],
    example: dict[str, tf.Tensor],
    *arguments: tf.Tensor,
    shape: tuple[int, ...],
    num_classes: int,
    bad: BadExamples,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an example's image, in a graph, or notes that it cannot be.

    Args:
        decode: Makes uint8 patches of encoded images and `arguments`.
        example: Scalars `image`, `label` and `name`.
        *arguments: Tensors for `decode`.
        shape: Shape of the patches.
        num_classes: Labels are below this.
        bad: Where bad examples are noted.

    Returns:
        The patches and the label; black patches and `BAD` for a bad example.
    """
    encoded, label, name = (example[k] for k in ("image", "label", "name"))
    is_class = (label >= 0) & (label < num_classes)

    def at_full_speed():
        return decode(encoded, *arguments), label

    def with_care():
        def attempt(encoded, label, name, is_class, *arguments):
            try:
                if not is_class:
                    raise ValueError(f"label {label} of {num_classes} classes")
                return decode(encoded, *arguments), label
            except (tf.errors.OpError, ValueError) as error:
                bad.note(name.numpy().decode(errors="replace"), _why(error))
                return tf.zeros(shape, tf.uint8), tf.constant(BAD, tf.int64)

        patches, good_label = tf.py_function(
            attempt,
            (encoded, label, name, is_class, *arguments),
            (tf.uint8, tf.int64),
        )
        return patches, good_label

    is_fine = is_class & _is_whole_jpeg(encoded)
    if bad.suspicious:
        is_fine = tf.constant(False)
    elif bad.reasons:
        is_fine &= tf.reduce_all(name != tf.constant(list(bad.reasons)))
    patches, label = tf.cond(is_fine, at_full_speed, with_care)
    return tf.ensure_shape(patches, shape), tf.ensure_shape(label, ())


def replace_bad(
    images: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the places of bad examples of a batch to the ones before them.

    The first ones' go to the first good one. A batch without a good example
    stays black, with labels of 0.

    Args:
        images: (batch, ...).
        labels: (batch,), `BAD` for a bad example.
    """

    def replaced():
        places = tf.range(tf.size(labels))
        good = tf.where(labels >= 0, places, -1)
        first = tf.argmax(tf.cast(labels >= 0, tf.int32), output_type=tf.int32)
        before = tf.scan(tf.maximum, good)  # The last good place so far.
        chosen = tf.maximum(before, first)
        return tf.gather(images, chosen), tf.gather(labels, chosen)

    images, labels = tf.cond(
        tf.reduce_all(labels >= 0), lambda: (images, labels), replaced
    )
    return images, tf.maximum(labels, 0)


def _is_whole_jpeg(encoded):
    """Returns whether the first and last bytes are those of a JPEG file."""
    return tf.cond(
        tf.strings.length(encoded) > 4,
        lambda: (
            tf.io.is_jpeg(encoded)
            & (tf.strings.substr(encoded, -2, 2) == b"\xff\xd9")
        ),
        lambda: False,
    )


def _why(error):
    """Returns the reason in one line, without where in the graph."""
    message = getattr(error, "message", str(error)).split(" [Op:")[0]
    return message.split("}} ")[-1].splitlines()[0]
