"""Speeds measured in turns: medians and spread over several rounds."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from alexnet_tf.evaluation.tables import format_table

# Shortest measurement [s].
_MIN_SECONDS = 4.0


@dataclasses.dataclass(frozen=True)
class Times:
    """Time per image of one subject in each round [s]."""

    wall: list[float] = dataclasses.field(default_factory=list)
    # Processor time, summed over all cores.
    cpu: list[float] = dataclasses.field(default_factory=list)

    def speed(self) -> dict[str, float]:
        """Returns the median speed and its spread [images/s]."""
        return {
            "images_per_second": 1 / np.median(self.wall),
            "lowest": 1 / max(self.wall),
            "highest": 1 / min(self.wall),
        }


def measure_in_turns(
    subjects: Mapping[str, Callable], rounds: int, *, warmup_calls: int = 0
) -> Iterator[dict[str, Times]]:
    """Measures each subject once per round, so that noise affects all alike.

    Subjects are functions that process images and return their number. One
    round precedes those that count, some calls each measurement. Speeds are
    printed as they come; after each round that counts, all of them are yielded.
    """
    measured = {name: Times() for name in subjects}
    width = max(map(len, subjects))
    title = "warm-up, which does not count"
    for number in range(rounds + 1):
        print(title, flush=True)
        start = time.perf_counter()
        for name, subject in subjects.items():
            for _ in range(warmup_calls):
                subject()
            wall, cpu = _time_per_image(subject)
            print(f"  {name:{width}}  {1 / wall:9,.1f} images/s", flush=True)
            if number:
                measured[name].wall.append(wall)
                measured[name].cpu.append(cpu)
        left = (rounds - number) * (time.perf_counter() - start) / 60
        title = f"round {number + 1} of {rounds}, about {left:.1f} min left"
        if number:
            yield measured


def _time_per_image(subject):
    wall, cpu = time.perf_counter(), time.process_time()
    images = subject()
    while time.perf_counter() - wall < _MIN_SECONDS:
        images += subject()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall / images, cpu / images


def speed_table(
    rows: Sequence[Mapping], columns: Mapping[str, tuple[str, str]]
) -> str:
    """Returns a table of rows with `what`, a name, and `Times.speed`.

    `columns` are titles and formats of further keys that rows may have.
    """
    titles = [title for title, _ in columns.values()]
    cells = []
    for row in rows:
        spread = f"({row['lowest']:,.1f}-{row['highest']:,.1f})"
        cells.append([row["what"], f"{row['images_per_second']:,.1f}", spread])
        for key, (_, spec) in columns.items():
            cells[-1].append(format(row[key], spec) if key in row else "")
    return format_table(["", "images/s", "(spread)", *titles], cells)
