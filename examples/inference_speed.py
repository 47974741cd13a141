"""Speeds of a run's exported files, in batches of 1 and 128, in turns.

From the repository's root, after `export`:

    python -m examples.inference_speed runs/quickstart

Of patches in memory, and of JPEG files of 500x375 pixels, which the SavedModel
decodes itself and Pillow, if installed, decodes for ONNX. If OpenVINO is
installed, it also runs the ONNX file, in 32 and in 16 bits.
"""

import argparse
import functools
import importlib.util
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks.timing import measure_in_turns
from alexnet_tf.config.commands import EXPORT_FORMATS
from alexnet_tf.config.flags import Config, parse_run
from alexnet_tf.evaluation.reload import OPENERS
from alexnet_tf.evaluation.tables import format_table

ROUNDS = 5


def open_openvino(file: str, dtype: str) -> Callable:
    """Returns a function from patches to probabilities, as OPENERS do."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": dtype, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(file, "CPU", options)
    return lambda patches: {"probabilities": model([patches])[0]}


def open_all(run_dir: Path) -> dict[str, Callable]:
    """Returns functions from patches to probabilities, by format."""
    files = {name: run_dir / EXPORT_FORMATS[name][0] for name in OPENERS}
    del files["safetensors"]  # Weights alone.
    predict = {
        name: OPENERS[name](str(file))
        for name, file in files.items()
        if file.exists()
    }
    if files["onnx"].exists() and importlib.util.find_spec("openvino"):
        for dtype in ("f32", "bf16"):
            name = f"onnx, OpenVINO {dtype}"
            predict[name] = open_openvino(str(files["onnx"]), dtype)
    return predict


def open_classify(directory: Path) -> Callable:
    """Returns a function from JPEG files to the best classes' labels."""
    model = tf.saved_model.load(str(directory))
    run = model.signatures["classify"]
    run.owner = model  # It must live as long.
    return lambda encoded: run(image_bytes=tf.constant(encoded))["labels"]


def decode(encoded: list[bytes], config: Config) -> np.ndarray:
    """Decodes the center patches as Pillow does, uint8."""
    from PIL import Image

    patches, side = [], config.crop_size
    for data in encoded:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        square = min(image.size) * side / config.image_size
        left, top = ((length - square) / 2 for length in image.size)
        box = left, top, left + square, top + square
        resized = image.resize((side, side), Image.Resampling.BILINEAR, box)
        patches.append(np.asarray(resized))
    return np.stack(patches)


def count(predict: Callable, patches: np.ndarray) -> int:
    """Predicts; returns the number of patches."""
    return len(predict(patches)["probabilities"])


def encode_photo(random: np.random.Generator) -> bytes:
    """Returns a JPEG file of about 110 KB, smooth with grain."""
    colors = random.integers(0, 256, (12, 16, 3))
    image = tf.image.resize(colors, (375, 500), "bicubic")
    image += random.normal(0, 17.5, (375, 500, 1))
    image = tf.saturate_cast(image, tf.uint8)
    return tf.io.encode_jpeg(image, quality=92).numpy()


def print_speeds(title: str, subjects: Mapping[str, Callable]) -> None:
    """Measures functions without arguments; the first is what counts as 1."""
    *_, times = measure_in_turns(subjects, ROUNDS)
    first, rows = next(iter(subjects)), []
    base = times[first]
    for name in subjects:
        speed = times[name].speed()["images_per_second"]
        ratios = np.divide(base.wall, times[name].wall)
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        # Less affected by what else the machine does.
        cpu = np.median(np.divide(base.cpu, times[name].cpu))
        cells = [f"{np.median(ratios):.2f}", spread, f"{cpu:.2f}"]
        rows.append([name, f"{speed:,.0f}", *cells])
    header = [title, "images/s", f"times {first}", "(spread)", "in CPU time"]
    print(format_table(header, rows))


def main() -> None:
    """Prints a table for each size of a batch and kind of images."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run_dir", type=Path)
    run_dir = parser.parse_args().run_dir
    if not (run_dir / "saved_model" / "saved_model.pb").exists():
        parser.error(f"{run_dir} is not a run with a saved_model")
    config = parse_run(run_dir / "flags.cfg")
    predict = open_all(run_dir)
    classify = open_classify(run_dir / "saved_model")
    random = np.random.default_rng(0)
    has_pillow = importlib.util.find_spec("PIL")
    for size in (1, 128):
        side = config.crop_size
        patches = random.integers(0, 256, (size, side, side, 3), np.uint8)
        subjects = {
            name: functools.partial(count, run, patches)
            for name, run in predict.items()
        }
        print_speeds(f"batch {size}", subjects)
        files = size * [encode_photo(random)]
        subjects = {"classify": lambda files=files: len(classify(files))}
        for name, run in predict.items():
            if name.startswith("onnx") and has_pillow:
                subjects[f"Pillow, {name}"] = lambda files=files, run=run: (
                    count(run, decode(files, config))
                )
        print_speeds(f"batch {size}, JPEG files", subjects)


if __name__ == "__main__":
    main()
