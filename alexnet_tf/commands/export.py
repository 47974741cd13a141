"""Writes a run's best weights in several formats, and verifies each file."""

import importlib.util
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.commands import EXPORT_FORMATS
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.labels import run_labels
from alexnet_tf.data.pipeline import evaluation_batches, training_batches
from alexnet_tf.evaluation import formats
from alexnet_tf.evaluation.inference import make_signatures, save_signatures
from alexnet_tf.evaluation.model_card import make_card
from alexnet_tf.evaluation.predictor import top_k_errors
from alexnet_tf.evaluation.reload import reload
from alexnet_tf.models.build import load_trained
from alexnet_tf.storage.files import write_whole
from alexnet_tf.storage.run_dir import open_run

# Formats whose probabilities differ from the run's.
_APPROXIMATE = {"saved_model_bfloat16", "tflite_int8"}
# Largest difference between those of another file and of the run.
_TOLERANCE = 1e-4
# Images to compare them on, to measure int8's ranges on, and in a batch.
_COMPARED, _CALIBRATION, _BATCH = 50, 200, 500


def run(config: Config) -> int:
    """Exports to the run directory, and to --keras_file.

    The exit code is 1 if a file, read again, differs from the run.
    """
    run_dir = open_run(config.run_dir)
    files = _files_to_write(config, run_dir)
    names = run_labels(config, run_dir)
    card = make_card(config, run_dir, names)
    model, _ = load_trained(config, run_dir)
    weights = formats.named_weights(model)
    signatures = make_signatures(model, names, config.geometry)
    if _APPROXIMATE & files.keys():
        train_split, val_split = splits.open_run_splits(config, run_dir)
    patches, kind = _patches_to_compare(config)
    probabilities = {"probabilities": _predict(signatures, patches)}
    write = {
        "saved_model": lambda file: save_signatures(signatures, file),
        "saved_model_bfloat16": lambda file: save_signatures(
            _narrow_signatures(config, run_dir, names), file
        ),
        "keras": lambda file: formats.write_keras(file, model),
        "onnx": lambda file: formats.write_onnx(file, signatures, names),
        "tflite": lambda file: formats.write_tflite(file, signatures),
        "tflite_int8": lambda file: formats.write_tflite(
            file, signatures, _training_patches(config, train_split)
        ),
        "safetensors": lambda file: formats.write_safetensors(
            file, weights, names
        ),
    }
    write_whole(run_dir.labels, "".join(f"{name}\n" for name in names))
    write_whole(run_dir.model_card, card)
    code = 0
    for name, file in files.items():
        write[name](file)
        start = f"{file}: {_size(file) / 1e6:,.1f} MB,"
        if name in _APPROXIMATE:
            print(start, _compare_errors(config, model, val_split, name, file))
            continue
        expected, tolerance = probabilities, _TOLERANCE
        what, where = "probabilities", f" on {len(patches)} {kind}"
        if name == "safetensors":
            expected, tolerance = weights, 0.0
            what, where = "weights", ""
        found = reload(name, file, patches)
        difference = _largest_difference(found, expected)
        print(f"{start} {what} differ by at most {difference:.0e}{where}")
        if not difference <= tolerance:  # It may be NaN.
            print(f"{file} is not the run's network; do not use it.")
            code = 1
    return code


def _files_to_write(config, run_dir):
    """Returns the file of each format; checks the packages they need."""
    chosen = config.export_formats()
    files = {name: run_dir.path / EXPORT_FORMATS[name][0] for name in chosen}
    if config.keras_file:
        files["keras"] = Path(config.keras_file)
        if files["keras"].suffix != ".keras":
            raise UserError(
                f"--keras_file={config.keras_file}: Keras expects a name that "
                "ends in .keras."
            )
    for name in files:
        missing = [
            package
            for package in EXPORT_FORMATS[name][1]
            if not importlib.util.find_spec(package)
        ]
        if missing:
            raise UserError(
                f"--format={name} needs {', '.join(missing)}: pip install "
                "'alexnet_tf[export]', or -r requirements-export.txt"
            )
    return files


def _patches_to_compare(config):
    """Returns uint8 patches, and what they are.

    They are noise if the run's images are not here, as for imported runs.
    """
    try:
        split = splits.open_split(config, config.validation_split)
        patches, _ = next(_usable_batches(config, split, _COMPARED))
        if len(patches):
            return patches, "images"
        reason = "the first validation images cannot be used"
    except UserError as error:
        reason = f"the validation images cannot be opened: {error}"
    print(f"Comparing on noise, since {reason}")
    shape = (_COMPARED, *config.geometry.patch_shape)
    random = np.random.default_rng(0)
    return random.integers(0, 256, shape, np.uint8), "images of noise"


def _usable_batches(config, split, size):
    """Yields patches and labels of all usable examples of a split."""
    batches = evaluation_batches(
        split, batch_size=size, geometry=config.geometry, bad=BadExamples()
    )
    with splits.reporting_damaged_files(split):
        for patches, labels in batches.as_numpy_iterator():
            yield patches[labels >= 0], labels[labels >= 0]


def _training_patches(config, split):
    """Returns random patches of training images."""
    size = min(_CALIBRATION, split.count)
    batches = training_batches(
        split, config, batch_size=size, steps=range(1), seed=config.seed
    )
    with splits.reporting_damaged_files(split):
        return next(batches.as_numpy_iterator())[0]


def _predict(signatures, patches):
    with tf.device("/CPU:0"):  # As the programs that read the files.
        outputs = signatures["probabilities"](images=tf.constant(patches))
    return outputs["probabilities"].numpy()


def _narrow_signatures(config, run_dir, names):
    """Returns the signatures of the network with weights in bfloat16."""
    model, _ = load_trained(config, run_dir, dtype="bfloat16")
    return make_signatures(model, names, config.geometry)


def _compare_errors(config, model, split, name, file):
    """Returns a text with the errors of a file next to the run's."""
    wrong = []
    for patches, labels in _usable_batches(config, split, _BATCH):
        exact = model.predict_on_batch(patches)
        found = reload(name, file, patches)["probabilities"]
        # Equal ones (int8 has steps of 1/256) count in the order of classes.
        rounded = found - 1e-6 * np.arange(found.shape[1])
        errors = [
            top_k_errors(labels, scores, k)
            for k in (1, 5)
            for scores in (rounded, exact)
        ]
        wrong += np.transpose(errors).tolist()
    if not wrong:
        raise UserError(
            f"--format={name} is compared on the validation images, of which "
            "none can be used; repair them, or give --validation_split."
        )
    top1, exact1, top5, exact5 = np.mean(wrong, axis=0)
    return (
        f"top-1 error {top1:.4f} (float32: {exact1:.4f}), top-5 error "
        f"{top5:.4f} ({exact5:.4f}) on {len(wrong):,} validation images"
    )


def _largest_difference(found, expected):
    """Returns that of two dictionaries of arrays; infinity if none fit."""
    if {n: a.shape for n, a in found.items()} != {
        n: a.shape for n, a in expected.items()
    }:
        return np.inf
    return max(np.abs(found[n] - expected[n]).max() for n in expected)


def _size(path):
    """Returns the size of a file or a directory [bytes]."""
    files = [path, *path.rglob("*")]  # Inside a file there is nothing.
    return sum(file.stat().st_size for file in files if file.is_file())
