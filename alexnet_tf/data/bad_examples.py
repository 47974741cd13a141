"""Examples that cannot be used: left out, counted and listed by name."""

import csv
import io
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.data.examples import Examples, pipeline_options
from alexnet_tf.data.formats import decode_image
from alexnet_tf.storage.files import append, read_csv, to_csv_cell

# The label of an example that is left out.
BAD_LABEL = -1


class BadExamples:
    """The bad examples that a process finds, and why they are bad.

    They are listed in `file`, if given, unless an earlier process did so. More
    than `limit` bad examples of `total` end the run.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        limit: float = math.inf,
        total: int = 1,
    ):
        self.file = file
        self.limit = limit
        self.total = total
        self.reasons: dict[str, str] = {}
        self.listed: set[str] = set()  # The names in `file`.
        self._lock = threading.Lock()
        self._failure: UserError | None = None
        if file and file.exists():
            fix = "Remove it; bad examples are found and listed again."
            rows = read_csv(file, ("name", "reason"), fix)
            self.listed = {row["name"] for row in rows}

    def add(self, name: str | bytes, reason: str) -> None:
        """Adds an example, and lists it."""
        name, reason = printable(name), printable(reason)
        with self._lock:
            if name in self.reasons:
                return
            self.reasons[name] = reason
            if not self.file or name in self.listed:
                return
            self.listed.add(name)
            header = [] if self.file.exists() else [("name", "reason")]
            row = [to_csv_cell(name), to_csv_cell(reason)]
            lines = io.StringIO(newline="")
            csv.writer(lines).writerows([*header, row])
            try:
                append(self.file, lines.getvalue())
            except UserError as error:
                self._failure = error  # TensorFlow, which calls, hides it.

    def check(self) -> None:
        """Raises a `UserError` if there are more than `limit`.

        Or if `file` cannot be written.
        """
        if self._failure:
            raise self._failure
        if len(self.reasons) > self.limit:
            count = len(self.reasons)
            name, reason = next(reversed(self.reasons.items()))
            # Twice as many, as there may be more.
            enough = min(1.0, 2 * count / self.total)
            raise UserError(
                f"{count} of {self.total} examples cannot be used, but "
                f"--max_bad_fraction allows {self.limit}; the last one is\n"
                f"{name}: {reason}\n{self.file} lists all of them; repair "
                f"them, or go on with --max_bad_fraction={enough:.1g}."
            )


def decode_rows(
    decode: Callable, columns: Sequence[tf.Tensor], placeholder: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes images inside a graph, where errors cannot be caught.

    `decode` makes an image of a row of `columns`, tensors of n rows each.
    Returns the n images, the placeholder for those that cannot be decoded, and
    which ones could be, (n,) bool.
    """
    num_rows = tf.size(columns[0], tf.int64)
    # Without the rows that fail, but with the placeholder at the end.
    images, rows = (
        tf.data.Dataset.from_tensor_slices((tf.range(num_rows), *columns))
        .map(lambda row, *values: (decode(*values), row))
        .ignore_errors()
        .concatenate(tf.data.Dataset.from_tensors((placeholder, num_rows)))
        .batch(num_rows + 1)
        .with_options(pipeline_options())
        .get_single_element()
    )
    last = tf.size(rows, tf.int64) - 1
    chosen = tf.tensor_scatter_nd_update(
        tf.fill([num_rows], last), rows[:-1, None], tf.range(last)
    )
    all_ok = last == num_rows
    images = tf.cond(
        all_ok, lambda: images[:-1], lambda: tf.gather(images, chosen)
    )
    return images, chosen < last


def decode_with_fallback(
    fast: Callable, careful: Callable, columns: Sequence, placeholder: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Does the same, with a second decoder for the rows that `fast` fails on.

    A decoder of all kinds of images has branches, and each takes several
    percent of the processor time even where it is not taken.
    """
    images, ok = decode_rows(fast, columns, placeholder)

    def retry():
        failed = tf.where(~ok)
        rest = [tf.gather_nd(column, failed) for column in columns]
        more, more_ok = decode_rows(careful, rest, placeholder)
        all_images = tf.tensor_scatter_nd_update(images, failed, more)
        return all_images, tf.tensor_scatter_nd_update(ok, failed, more_ok)

    return tf.cond(tf.reduce_all(ok), lambda: (images, ok), retry)


def report_failures(
    examples: Examples,
    rows: dict,
    ok: tf.Tensor,
    bad: BadExamples,
    max_pixels: int,
) -> tf.Tensor:
    """Adds the examples to `bad` that have no image or no label of a class.

    `rows` are n examples of the split; `ok`, (n,) bool, says which images were
    decoded, of up to `max_pixels`. Returns the n labels, with `BAD_LABEL` for
    bad examples.
    """
    labels = rows["label"]
    num_classes = len(examples.class_names)
    ok &= (labels >= 0) & (labels < num_classes)

    def add(names, labels, images):
        for name, label, image in zip(names, labels, images, strict=True):
            reason = f"label {label} of {num_classes} classes"
            if 0 <= label < num_classes:
                reason = decoding_error(image, max_pixels, examples.load)
            bad.add(name.numpy(), reason)

    def report():
        columns = rows["name"], labels, rows["image"]
        failed = [tf.boolean_mask(column, ~ok) for column in columns]
        with tf.control_dependencies([tf.py_function(add, failed, ())]):
            return tf.where(ok, labels, tf.constant(BAD_LABEL, tf.int64))

    return tf.cond(tf.reduce_all(ok), lambda: labels, report)


def decoding_error(
    image: tf.Tensor, max_pixels: int, load: Callable = tf.identity
) -> str:
    """Returns why `load(image)`, the bytes of a file, cannot be used."""
    try:
        decode_image(load(image), max_pixels)
    except tf.errors.OpError as error:
        # The last line, without the error's place in the graph.
        lines = error.message.split(" [Op:")[0].split("\n\t [[")[0]
        reason = lines.splitlines()[-1].split("}} ")[-1]
        return reason.removeprefix("assertion failed: [").removesuffix("]")
    return (
        "its patch cannot be decoded; an exported model may have a lower "
        "--max_image_pixels, that of its run"
    )


def replace_bad(
    images: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces each bad example of a batch by the preceding good one.

    Those at the start become the first good one. A batch without any good
    example stays as it is, with labels of 0.
    """

    def replaced():
        is_good = labels >= 0
        first_good = tf.argmax(tf.cast(is_good, tf.int32))
        good = tf.where(is_good, tf.range(tf.size(labels, tf.int64)), -1)
        chosen = tf.maximum(tf.scan(tf.maximum, good), first_good)
        return tf.gather(images, chosen), tf.gather(labels, chosen)

    all_good = tf.reduce_all(labels >= 0)
    images, labels = tf.cond(all_good, lambda: (images, labels), replaced)
    return images, tf.maximum(labels, 0)
