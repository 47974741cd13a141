"""The trained network in the file formats of other programs."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.evaluation.inference import Signatures, save_signatures
from alexnet_tf.storage.files import write_whole, written_aside


def write_keras(file: Path, model: keras.Model) -> None:
    """Writes a .keras file."""
    with written_aside(file) as aside:
        model.save(aside)


def write_onnx(
    file: Path, signatures: Signatures, class_names: Sequence[str]
) -> None:
    """Writes the signature `probabilities` as an ONNX model.

    Its metadata have `class_names`, a JSON list.
    """
    import onnx
    import tf2onnx

    function = signatures["probabilities"]
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=18
    )
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"
    names = json.dumps(list(class_names))
    onnx.helper.set_model_props(model, {"class_names": names})
    write_whole(file, model.SerializeToString())


def write_tflite(
    file: Path, signatures: Signatures, calibration: np.ndarray | None = None
) -> None:
    """Writes the signature `probabilities` as a TFLite model.

    Its operations are TFLite's built-in ones.

    Args:
        file: The file.
        signatures: Those of the network.
        calibration: uint8 patches (n, crop_size, crop_size, 3), on which the
            ranges of all activations are measured for an int8 model; None for
            a float32 model.
    """
    with tempfile.TemporaryDirectory() as directory:
        name = "probabilities"
        save_signatures({name: signatures[name]}, Path(directory))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            directory, signature_keys=[name]
        )
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                (name, {"images": patch[None]}) for patch in calibration
            )
        with warnings.catch_warnings():
            # That uint8 images are not quantized, and of TensorFlow's own
            # interpreter, which measures the ranges.
            warnings.simplefilter("ignore", UserWarning)
            write_whole(file, converter.convert())


def write_safetensors(
    file: Path, weights: dict[str, np.ndarray], class_names: Sequence[str]
) -> None:
    """Writes arrays; the metadata have `class_names`, a JSON list."""
    from safetensors.numpy import save

    names = json.dumps(list(class_names))
    write_whole(file, save(weights, {"class_names": names}))


def named_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights by layer, as conv1_tower0/kernel, and the mean."""
    weights = {weight.path: weight.numpy() for weight in model.weights}
    return {**weights, "mean": model.get_layer("pixels_tower0").mean}
