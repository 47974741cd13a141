"""What a training shows: a line that moves, and one that stays for each epoch.

    Epoch  3/24  [=====>       ]  error 34.2% (val 29.0)  690 img/s  12 min left

Errors are those of the epoch so far, and in parentheses those of the last
validation. Without a terminal, a line comes once a minute.
"""

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO, cast

import keras

from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.checkpointing import Progress

# Seconds between lines on a terminal and elsewhere.
_MOVING, _PRINTED = 0.1, 60.0
# Fields that a line too long for the terminal lacks, the first one first.
_LESS_WITHIN = ("top-5", "bar", "speed", "state", "error")
_LESS_AFTER = ("left", "speed", "duration", "top-5")
# Widths of the bar, with brackets: of 80 columns, and of more.
_BARS, _WIDE = (14, 24), 112


class ProgressLine(keras.callbacks.Callback):
    """Shows how far a run of `epochs` epochs is, in place of Keras's bar.

    Must come after the callbacks that add `images_per_second` and the
    validation's errors to the logs, and before `ProgressTracker`.
    """

    def __init__(
        self,
        run_dir: RunDir,
        progress: Progress,
        *,
        epochs: int,
        batch_size: int,
        num_classes: int,
    ):
        super().__init__()
        self.run_dir = run_dir
        self.progress = progress
        self.epochs = epochs
        self.batch_size = batch_size
        self.errors = {"error": "top1_error"}
        if num_classes > 5:
            self.errors["top-5"] = "top5_error"
        self._screen: _Screen | None = None
        self._first_state = "compiling ..."
        self._next = time.monotonic() + _PRINTED  # When a line is due.
        self._between = 0.0  # Seconds between the steps of two epochs.

    @contextlib.contextmanager
    def on_screen(self) -> Iterator[None]:
        """Moves the line if standard output is a terminal.

        Whatever else is printed meanwhile appears above it.
        """
        if not sys.stdout.isatty():
            yield
            return
        self._screen, self._next = _Screen(sys.stdout), 0.0
        try:
            with contextlib.redirect_stdout(cast(TextIO, self._screen)):
                yield
        finally:
            self._screen.draw("")
            self._screen = None

    def on_epoch_begin(self, epoch, logs=None):
        """Shows the epoch; before the first step, that this may take long."""
        self._epoch = epoch
        self._start = self._last_step = time.monotonic()
        rows = self.run_dir.read_history()
        self._validated = rows[-1] if rows else {}
        if self._screen:
            self._show({}, self.progress.steps_in_epoch, self._first_state)

    def on_train_batch_end(self, batch, logs=None):
        """Shows the step if a line is due, and the last one of an epoch."""
        self._first_state = ""
        self._last_step = now = time.monotonic()
        done = self.progress.steps_in_epoch + 1
        is_last = done == self.progress.steps_per_epoch
        if now >= self._next or (is_last and self._screen):
            self._next = now + (_MOVING if self._screen else _PRINTED)
            left = self._time_left(logs, epoch=self._epoch, step=done)
            self._show(logs, done, "validation ..." if is_last else left)

    def on_epoch_end(self, epoch, logs=None):
        """Prints the line that stays."""
        now = time.monotonic()
        self._between = now - self._last_step
        self._next = now + (0 if self._screen else _PRINTED)
        fields = self._fields(logs, logs)
        fields["duration"] = show_duration(now - self._start)
        fields["left"] = self._time_left(logs, epoch=epoch + 1, step=0)
        print(_fit(fields, _LESS_AFTER, self._width()), flush=True)

    def _show(self, logs, done, state):
        """Shows a line within an epoch, of which `done` steps are done."""
        part = done / self.progress.steps_per_epoch
        size = _BARS[self._width() >= _WIDE]
        bar = f"[{'=' * round(part * (size - 3))}>".ljust(size - 1) + "]"
        if not self._screen:
            bar = f"{part:4.0%}"
        fields = self._fields(logs, self._validated, bar) | {"state": state}
        line = _fit(fields, _LESS_WITHIN, self._width())
        if self._screen:
            self._screen.draw(line)
        else:
            print(line, flush=True)

    def _fields(self, logs, validated, bar=""):
        """Returns the parts that all lines have, by name."""
        number = f"{self._epoch + 1:{len(str(self.epochs))}}"
        fields = {"epoch": f"Epoch {number}/{self.epochs}", "bar": bar}
        for name, column in self.errors.items():
            if column in logs:
                fields[name] = f"{name} {100 * logs[column]:4.1f}%"
                # Numbers, or texts of history.csv, where lost ones are empty.
                error = validated.get(f"val_{column}", "")
                if error != "":
                    fields[name] += f" (val {100 * float(error):4.1f})"
        speed = logs.get("images_per_second", math.nan)
        if math.isfinite(speed):
            fields["speed"] = f"{speed:,.{1 if speed < 10 else 0}f} img/s"
        return fields

    def _time_left(self, logs, *, epoch, step):
        """Returns the time from a step of an epoch to the end, "" if none."""
        steps = (self.epochs - epoch) * self.progress.steps_per_epoch - step
        speed = logs.get("images_per_second", math.nan)
        seconds = steps * self.batch_size / speed
        seconds += (self.epochs - epoch) * self._between
        return f"{show_duration(seconds)} left" if seconds > 0 else ""

    def _width(self):
        """Returns the longest line; a full one would move the cursor down."""
        if not self._screen:
            return sys.maxsize
        return shutil.get_terminal_size().columns - 1


class _Screen:
    """A terminal with a line at its end that can be drawn again."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._line = ""

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text in place of the line."""
        self.draw("")
        return self._stream.write(text)

    def draw(self, line: str) -> None:
        """Draws another line, or none, in place of the last one."""
        if line != self._line:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
            self._line = line


def _fit(fields: dict[str, str], less: Sequence[str], width: int) -> str:
    """Returns the fields in a line, without the first of `less` if need be."""
    for name in ("", *less):
        fields = {n: text for n, text in fields.items() if n != name and text}
        if len(line := "  ".join(fields.values())) <= width:
            break
    return line[:width]


def show_duration(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
