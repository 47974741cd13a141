"""The numbers of a run, epoch by epoch."""

import math
from collections.abc import Sequence

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.run_dir import RunDir


def read_columns(run: RunDir, columns: Sequence[str]) -> dict[str, list[float]]:
    """Returns columns of a run's history.csv, an entry an epoch.

    Args:
        run: The run.
        columns: Their names.

    Returns:
        Numbers by column, NaN where one is empty or not finite.

    Raises:
        UserError: if this is no run with a finished epoch, a column is not
            there, or something in it is not a number.
    """
    if not (run.history.exists() or run.dataset.exists()):
        raise UserError(
            f"{run.path} is not a run directory: it has no "
            f"{run.history.name}. Give the --run_dir of a training."
        )
    rows = run.read_history()
    if not rows:
        raise UserError(
            f"{run.history} has no rows yet; the first one is written after "
            "the first epoch."
        )
    return {
        column: [_number(row, column, run.history) for row in rows]
        for column in columns
    }


def _number(row, column, file):
    if column not in row:
        raise UserError(f"{file} has no column {column}; is it of a run?")
    try:
        value = float(row[column] or "nan")
    except ValueError as error:
        raise UserError(
            f"{file}: {column} is {row[column]!r}, which is not a number; "
            "correct it or leave it empty."
        ) from error
    return value if math.isfinite(value) else math.nan
