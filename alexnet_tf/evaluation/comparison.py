"""Runs that differ in settings and seeds: which settings do what."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.run_dir import RunDir

# What says nothing of how a run was meant.
_INCIDENTAL = {"seed", "run_dir", "data_dir", "prepared_dir", "gpus"}
_COLUMNS = ("top1_error", "val_top1_error", "images_per_second")


@dataclasses.dataclass(frozen=True)
class Variant:
    """Finished runs that differ in the seed and in where things lie only.

    Args:
        name: Its settings that differ from those of the first variant, as
            flags.
        histories: Of each run its columns of history.csv, an entry an epoch.
        results: Of each run its result.json.
    """

    name: str
    histories: list[dict[str, list[float]]]
    results: list[dict]

    def errors(self, name: str) -> list[float]:
        """Returns an error of each run, as a percentage."""
        return [100 * result[name] for result in self.results]

    def epochs_to(self, training_error: float) -> list[float]:
        """Returns the epochs that each run took, infinity if it never did.

        Args:
            training_error: The top-1 error over an epoch of training that
                counts, as a fraction.
        """
        return [
            next(
                (
                    epoch
                    for epoch, error in enumerate(history["top1_error"], 1)
                    if error <= training_error
                ),
                math.inf,
            )
            for history in self.histories
        ]

    def speed(self) -> float:
        """Returns the median of the images a second of all epochs."""
        speeds = [h["images_per_second"] for h in self.histories]
        return float(np.nanmedian(sum(speeds, [])))


def read_variants(runs: Sequence[tuple[Mapping, RunDir]]) -> list[Variant]:
    """Groups finished runs by their settings, in the order given.

    Args:
        runs: The settings of each, and its directory.

    Raises:
        UserError: if a run is not finished, or has no history.
    """
    groups = {}
    for settings, run in runs:
        kept = {n: v for n, v in settings.items() if n not in _INCIDENTAL}
        groups.setdefault(tuple(kept.items()), []).append(run)
    first = dict(next(iter(groups)))
    return [
        Variant(
            _differences(dict(settings), first),
            [run.read_columns(_COLUMNS) for run in members],
            [_read_result(run) for run in members],
        )
        for settings, members in groups.items()
    ]


def _differences(settings, first):
    flags = [
        f"--{'' if value else 'no'}{name}"
        if isinstance(value, bool)
        else f"--{name}={value}"
        for name, value in settings.items()
        if value != first[name]
    ]
    return " ".join(flags) or "as it is"


def _read_result(run):
    if not run.result.exists():
        raise UserError(
            f"{run.path} is not finished, it has no {run.result.name}; start "
            "it again with the same command, or leave it out."
        )
    return json.loads(run.result.read_text())


def as_table(variants: Sequence[Variant], training_error: float) -> str:
    """Returns a Markdown table, a row a variant.

    Args:
        variants: The first one is what the others are compared with.
        training_error: See `Variant.epochs_to`.
    """
    lines = [
        "| settings | runs | top-1 error, % | top-5 error, % | epochs to "
        f"{training_error:.0%} training error | speed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {_as_code(variant.name)} | {len(variant.results)} "
        f"| {_mean_and_range(variant.errors('top1_error'), '.1f')} "
        f"| {_mean_and_range(variant.errors('top5_error'), '.1f')} "
        f"| {_mean_and_range(variant.epochs_to(training_error), '.2g')} "
        f"| {variant.speed() / variants[0].speed():.2f} |"
        for variant in variants
    ]
    return "\n".join(lines)


def _as_code(name):
    return f"`{name}`" if name.startswith("--") else name


def _mean_and_range(values, form):
    known = [value for value in values if math.isfinite(value)]
    if len(known) < len(values):
        return f"not reached by {len(values) - len(known)}"
    text = f"{statistics.fmean(known):{form}}"
    if len(known) == 1:
        return text
    return f"{text} ({min(known):{form}} to {max(known):{form}})"
