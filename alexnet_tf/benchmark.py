"""Speeds, each beside what the machine could do, measured in turns."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alexnet_tf import assembly, input_benchmark
from alexnet_tf.config import Config
from alexnet_tf.run_dir import write_json


def run(config: Config, words: list[str]) -> int:
    """Measures --what and prints a table; --json writes it to a file.

    Args:
        config: The settings.
        words: Nothing; all commands are called alike.

    Returns:
        The exit code, 0.
    """
    with tempfile.TemporaryDirectory() as directory:
        subjects = input_benchmark.make_subjects(
            Path(directory),
            geometry=assembly.make_geometry(config),
            batch_size=config.batch_size,
        )
        measured = _in_turns(subjects, config.rounds)
    rows = input_benchmark.compare(measured)
    print(input_benchmark.as_table(rows, config.batch_size))
    if config.json:
        write_json(Path(config.json), {"input": rows})
    return 0


def _in_turns(
    subjects: dict[str, Callable[[], int]], rounds: int
) -> dict[str, np.ndarray]:
    """Measures all subjects in turns, so that noise meets all of them.

    Args:
        subjects: Functions that deal with images and return how many.
        rounds: Rounds that count; one more goes before them.

    Returns:
        Seconds and seconds of processor time an image, (rounds, 2), by name.
    """
    measured = {name: [] for name in subjects}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", flush=True)
        for name, subject in subjects.items():
            wall, cpu = time.perf_counter(), time.process_time()
            images = subject()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                measured[name].append((wall / images, cpu / images))
    return {name: np.array(times) for name, times in measured.items()}
