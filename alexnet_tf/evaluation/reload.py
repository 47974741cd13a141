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
        crop_size, 3); of safetensors each tensor, by its name.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as directory:
        given, results = Path(directory, "in.npy"), Path(directory, "out.npz")
        np.save(given, patches)
        # On CPUs: this process has the GPUs' memory.
        env = {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""}
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
                "Install the versions in requirements-export.txt."
            )
        with np.load(results) as found:
            return dict(found)


def _read_onnx(file, patches):
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    (probabilities,) = session.run(["probabilities"], {"images": patches})
    return {"probabilities": probabilities}


def _read_tflite(file, patches):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(file).get_signature_runner("probabilities")
    return runner(images=patches)


def _read_safetensors(file, patches):
    from safetensors.numpy import load_file

    return load_file(file)


def _read_saved_model(file, patches):
    import tensorflow as tf

    model = tf.saved_model.load(file)
    return model.signatures["probabilities"](images=tf.constant(patches))


def _read_keras(file, patches):
    import keras

    import alexnet_tf.models.alexnet  # noqa: F401 (Registers its layers.)

    logits = keras.models.load_model(file).predict(patches, verbose=0)
    return {"probabilities": keras.ops.softmax(logits)}


_READERS = {
    "saved_model": _read_saved_model,
    "keras": _read_keras,
    "onnx": _read_onnx,
    "tflite": _read_tflite,
    "tflite_int8": _read_tflite,
    "safetensors": _read_safetensors,
}


def _main(name, file, patches, results):
    if name not in ("saved_model", "keras"):
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    np.savez(results, **_READERS[name](file, np.load(patches)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
