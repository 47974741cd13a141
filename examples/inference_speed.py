"""Speeds of a run's exported files, in batches of 1 and 128, in turns.

From the repository's root, after `export`:

    python -m examples.inference_speed runs/quickstart
"""

import sys
from pathlib import Path

import numpy as np

from alexnet_tf.benchmarks.timing import measure_in_turns
from alexnet_tf.config.commands import EXPORT_FORMATS
from alexnet_tf.config.flags import parse
from alexnet_tf.evaluation.reload import OPENERS
from alexnet_tf.evaluation.tables import format_table

ROUNDS = 5
run_dir = Path(sys.argv[1])
side = parse([f"--flagfile={run_dir}/flags.cfg"])[0].crop_size
files = {name: run_dir / EXPORT_FORMATS[name][0] for name in OPENERS}
del files["safetensors"]  # Weights alone.
names = [name for name, file in files.items() if file.exists()]
predict = {name: OPENERS[name](str(files[name])) for name in names}
for size in (1, 128):
    images = np.random.default_rng(0).integers(
        0, 256, (size, side, side, 3), np.uint8
    )

    def _subject(name, images=images):
        return lambda: len(predict[name](images)["probabilities"])

    subjects = {name: _subject(name) for name in names}
    *_, times = measure_in_turns(subjects, ROUNDS)
    base, rows = times["saved_model"], []
    for name in names:
        speed = times[name].speed()["images_per_second"]
        ratios = np.divide(base.wall, times[name].wall)
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        # Less affected by what else the machine does.
        cpu = np.median(np.divide(base.cpu, times[name].cpu))
        cells = [f"{np.median(ratios):.2f}", spread, f"{cpu:.2f}"]
        rows.append([name, f"{speed:,.0f}", *cells])
    header = [f"batch {size}", "images/s", "times saved_model", "(spread)"]
    print(format_table([*header, "in CPU time"], rows))
