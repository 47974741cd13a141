"""Examples that cannot be used: left out, counted and named."""

import csv
import threading
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from alexnet_tf.errors import UserError
from alexnet_tf.examples import Examples

# The label of an example that is left out.
BAD = -1


class BadExamples:
    """The bad examples of a run, in its bad_examples.csv, once each.

    Args:
        file: The file; those that it names already are not named again.
        limit: More of them end the run.
    """

    def __init__(self, file: Path, *, limit: float):
        self.file = file
        self.limit = limit
        self.reasons = {}
        self._lock = threading.Lock()
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


def decode_each(
    decode: Callable[..., tf.Tensor],
    examples: Examples,
    rows: dict[str, tf.Tensor],
    *arguments: tf.Tensor,
    instead: tf.Tensor,
    bad: BadExamples,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes the images of some examples, as part of a tf.data pipeline.

    Args:
        decode: Makes a tensor of a loaded image and a row of each of
            `arguments`; fails for a bad one.
        examples: The split.
        rows: Some examples of it, n rows each.
        *arguments: Tensors of n rows.
        instead: What stands for a bad image.
        bad: Where bad examples are noted.

    Returns:
        The n decoded images, and their labels, `BAD` for the bad ones.
    """
    labels, size = rows["label"], tf.size(rows["label"])
    num_classes = len(examples.class_names)

    def decode_one(label, image, *arguments):
        is_class = (label >= 0) & (label < num_classes)
        wrong = tf.strings.format(
            "label {} of {} classes", (label, num_classes)
        )
        with tf.control_dependencies([tf.Assert(is_class, [wrong])]):
            return decode(examples.load(image), *arguments)

    def note_missing(names, missing, *columns):
        for place in tf.where(missing)[:, 0]:
            try:
                decode_one(*(column[place] for column in columns))
            except tf.errors.OpError as error:
                name = names[place].numpy().decode(errors="replace")
                bad.note(name, _reason(error.message))

    # What cannot be decoded is missing in `decoded`; `instead` comes last.
    columns = (labels, rows["image"], *arguments)
    decoded, places = (
        tf.data.Dataset.from_tensor_slices((tf.range(size), columns))
        .map(lambda place, column: (decode_one(*column), place))
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((instead, size)))
        .batch(tf.cast(size, tf.int64) + 1)
        .get_single_element()
    )

    def some_missing():
        last = tf.size(places) - 1
        where = tf.tensor_scatter_nd_update(
            tf.fill((size + 1,), last), places[:, None], tf.range(last + 1)
        )[:-1]
        missing = where == last
        noted = tf.py_function(
            note_missing, (rows["name"], missing, *columns), ()
        )
        with tf.control_dependencies([noted]):
            return tf.gather(decoded, where), tf.where(
                missing, tf.constant(BAD, tf.int64), labels
            )

    return tf.cond(
        tf.size(places) == size + 1,
        lambda: (decoded[:-1], labels),
        some_missing,
    )


def replace_bad(
    images: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the places of bad examples of a batch to the ones before them.

    The first ones' go to the first good one. A batch without a good example
    stays as it is, with labels of 0.

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


def _reason(message):
    """Returns the last line of an error, without where in the graph it was."""
    line = message.split(" [Op:")[0].split("\n\t [[")[0].splitlines()[-1]
    return line.split("}} ")[-1].split("Summarized data: ")[-1]
