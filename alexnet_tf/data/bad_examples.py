"""Examples that cannot be used: left out, counted and named."""

import csv
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.data.examples import Examples, pipeline_options

# The label of an example that is left out.
BAD_LABEL = -1


class BadExamples:
    """The bad examples of a run, in its bad_examples.csv, once each.

    Args:
        file: The file; those that it names already are not named again. None
            to name them nowhere.
        limit: More of them end the run.
    """

    def __init__(self, file: Path | None = None, *, limit: float = math.inf):
        self.file = file
        self.limit = limit
        self.reasons = {}
        self._lock = threading.Lock()
        if file and file.exists():
            with file.open(newline="") as lines:
                self.reasons = {
                    row["name"]: row["reason"] for row in csv.DictReader(lines)
                }

    def note(self, name: str, reason: str) -> None:
        """Adds an example, if it is new."""
        with self._lock:
            if name in self.reasons:
                return
            self.reasons[name] = reason
            if not self.file:
                return
            is_new_file = not self.file.exists()
            self.file.parent.mkdir(parents=True, exist_ok=True)
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
                f"{len(self.reasons)} examples cannot be used, and "
                f"--max_bad_fraction allows {self.limit}; the last one is\n"
                f"{name}: {reason}\nAll are named in {self.file}; mend them, "
                "allow more, or begin a new run without them."
            )


def decode_each(
    decoders: Sequence[Callable[..., tf.Tensor]],
    examples: Examples,
    rows: dict[str, tf.Tensor],
    *arguments: tf.Tensor,
    instead: tf.Tensor,
    bad: BadExamples,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes the images of some examples, as part of a tf.data pipeline.

    Args:
        decoders: A fast one, for most images, and one for what that fails
            for; both may be the same. They make a tensor of a loaded image and
            a row of each of `arguments`.
        examples: The split.
        rows: Some examples of it, n rows each.
        *arguments: Tensors of n rows.
        instead: What stands for a bad image.
        bad: Where bad examples are noted.

    Returns:
        The n decoded images, and their labels, `BAD_LABEL` for the bad ones.
    """
    labels, names = rows["label"], rows["name"]
    num_classes = len(examples.class_names)
    is_class = (labels >= 0) & (labels < num_classes)
    # No image for a wrong label: cheaper than a check for each.
    columns = (tf.where(is_class, rows["image"], ""), *arguments)
    usual, careful = (
        lambda image, *arguments, decode=decode: decode(
            examples.load(image), *arguments
        )
        for decode in decoders
    )
    decoded, good = decode_rows(usual, columns, instead)

    def note(names, labels, *columns):
        for name, label, *row in zip(names, labels, *columns, strict=True):
            reason = f"label {label} of {num_classes} classes"
            if 0 <= label < num_classes:
                reason = _why_not(careful, row)
            bad.note(name.numpy().decode(errors="replace"), reason)

    def with_care():
        rest = tf.where(~good)
        decoded_rest, good_rest = decode_rows(
            careful, [tf.gather_nd(c, rest) for c in columns], instead
        )
        good_now = tf.tensor_scatter_nd_update(good, rest, good_rest)
        still_bad = tf.where(~good_now)
        noted = tf.py_function(
            note,
            [tf.gather_nd(c, still_bad) for c in (names, labels, *columns)],
            (),
        )
        with tf.control_dependencies([noted]):
            return (
                tf.tensor_scatter_nd_update(decoded, rest, decoded_rest),
                tf.where(good_now, labels, tf.constant(BAD_LABEL, tf.int64)),
            )

    return tf.cond(tf.reduce_all(good), lambda: (decoded, labels), with_care)


def decode_rows(
    decode: Callable[..., tf.Tensor],
    columns: Sequence[tf.Tensor],
    instead: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes some images, inside a graph, where errors cannot be caught.

    Args:
        decode: Makes a tensor of a row of `columns`.
        columns: Tensors of n rows.
        instead: What stands for an image that cannot be decoded.

    Returns:
        The n decoded images, and for which of them it worked, (n,) bool.
    """
    size = tf.size(columns[0])
    # What fails is missing in `decoded`, at the end of which is `instead`.
    decoded, places = (
        tf.data.Dataset.from_tensor_slices((tf.range(size), *columns))
        .map(lambda place, *row: (decode(*row), place))
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((instead, size)))
        .batch(tf.cast(size, tf.int64) + 1)
        .with_options(pipeline_options())
        .get_single_element()
    )
    last = tf.size(places) - 1
    order = tf.tensor_scatter_nd_update(
        tf.fill((size + 1,), last), places[:, None], tf.range(last + 1)
    )[:-1]
    return tf.cond(
        last == size,
        lambda: decoded[:-1],
        lambda: tf.gather(decoded, order),
    ), order < last


def replace_bad(
    images: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the places of bad examples of a batch to the ones before them.

    The first ones' go to the first good one. A batch without a good example
    stays as it is, with labels of 0.

    Args:
        images: (batch, ...).
        labels: (batch,), `BAD_LABEL` for a bad example.
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


def _why_not(decode, row):
    try:
        decode(*row)
    except tf.errors.OpError as error:
        return reason_of(error)
    return "not at the first attempt"


def reason_of(error: tf.errors.OpError) -> str:
    """Returns the last line of an error, without where in the graph it was."""
    lines = error.message.split(" [Op:")[0].split("\n\t [[")[0]
    return lines.splitlines()[-1].split("}} ")[-1]
