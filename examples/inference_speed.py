"""Speeds of a run's exported files, in batches of 1 and 128, in turns.

From the repository's root, after `export`:

    python -m examples.inference_speed runs/quickstart

If OpenVINO is installed, it also runs the ONNX file, in 32 and in 16 bits.
"""

import importlib.util
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
predict = {
    name: OPENERS[name](str(file))
    for name, file in files.items()
    if file.exists()
}


def open_openvino(file, dtype):
    """Returns a function from patches to probabilities, as OPENERS do."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": dtype, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(file, "CPU", options)
    return lambda patches: {"probabilities": model([patches])[0]}


if files["onnx"].exists() and importlib.util.find_spec("openvino"):
    for dtype in ("f32", "bf16"):
        name = f"onnx, OpenVINO {dtype}"
        predict[name] = open_openvino(str(files["onnx"]), dtype)
for size in (1, 128):
    images = np.random.default_rng(0).integers(
        0, 256, (size, side, side, 3), np.uint8
    )

    def _subject(name, images=images):
        return lambda: len(predict[name](images)["probabilities"])

    subjects = {name: _subject(name) for name in predict}
    *_, times = measure_in_turns(subjects, ROUNDS)
    base, rows = times["saved_model"], []
    for name in predict:
        speed = times[name].speed()["images_per_second"]
        ratios = np.divide(base.wall, times[name].wall)
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        # Less affected by what else the machine does.
        cpu = np.median(np.divide(base.cpu, times[name].cpu))
        cells = [f"{np.median(ratios):.2f}", spread, f"{cpu:.2f}"]
        rows.append([name, f"{speed:,.0f}", *cells])
    header = [f"batch {size}", "images/s", "times saved_model", "(spread)"]
    print(format_table([*header, "in CPU time"], rows))
