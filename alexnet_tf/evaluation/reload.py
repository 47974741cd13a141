"""Exported files, as other programs read them.

    python -m alexnet_tf.evaluation.reload FORMAT FILE PATCHES.npy RESULTS.npz

reads one in a process that cannot import TensorFlow, unless the format is its.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from alexnet_tf.config.errors import UserError

_ROOT = Path(__file__).parents[2]


def reload(name: str, file: Path, patches: np.ndarray) -> dict[str, np.ndarray]:
    """Reads a file of a format in a new process.

    Returns:
        `probabilities`, (n, classes) float32, of uint8 patches (n, crop_size,
        crop_size, 3); of safetensors each array, by its name.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # On CPUs: this process has the GPUs' memory.
    env = {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as directory:
        given, results = Path(directory, "in.npy"), Path(directory, "out.npz")
        np.save(given, patches)
        done = subprocess.run(
            [sys.executable, "-m", __name__, name, file, given, results],
            env=os.environ | env,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            reason = (done.stderr.strip() or "no message").splitlines()[-1]
            raise UserError(
                f"{file} cannot be read again: {reason}\n"
                "Install the versions of 'alexnet_tf[export]', those in "
                "requirements-export.txt."
            )
        with np.load(results) as found:
            return dict(found)


def _open_onnx(file):
    import onnxruntime

    session, names = onnxruntime.InferenceSession(file), ["probabilities"]
    return lambda patches: dict(
        zip(names, session.run(names, {"images": patches}), strict=True)
    )


def _open_tflite(file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=os.cpu_count())
    run = interpreter.get_signature_runner("probabilities")
    return lambda patches: run(images=patches)


def _open_safetensors(file):
    from safetensors.numpy import load_file

    return lambda patches: load_file(file)


def _open_saved_model(file):
    import tensorflow as tf

    model = tf.saved_model.load(file)
    run = model.signatures["probabilities"]
    # The model owns the weights and must live as long.
    run.owner = model
    return lambda patches: run(images=tf.constant(patches))


def _open_keras(file):
    import keras

    import alexnet_tf.models.alexnet  # noqa: F401 (Registers its layers.)

    model = keras.models.load_model(file)
    return lambda patches: {
        "probabilities": keras.ops.softmax(model.predict(patches, verbose=0))
    }


# For each format a function from a file's name to a function that returns what
# `reload` does.
OPENERS = {
    "saved_model": _open_saved_model,
    "saved_model_bfloat16": _open_saved_model,
    "keras": _open_keras,
    "onnx": _open_onnx,
    "tflite": _open_tflite,
    "tflite_int8": _open_tflite,
    "safetensors": _open_safetensors,
}


def _main(name, file, patches, results):
    if OPENERS[name] not in (_open_saved_model, _open_keras):
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    np.savez(results, **OPENERS[name](file)(np.load(patches)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
