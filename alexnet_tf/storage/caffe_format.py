"""Caffe's files: networks with their weights, and mean images.

Both are protocol buffers. Only the fields used here are declared;
`google.protobuf`, a dependency of TensorFlow, skips the others.
"""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from alexnet_tf.config.errors import UserError

# Name, number and type of fields in Caffe's caffe.proto; a star marks repeated
# ones. Caffe wrote V1 layers until 2014.
_MESSAGES = {
    "BlobShape": "dim 1 int64 *",
    "BlobProto": "num 1 int64, channels 2 int64, height 3 int64, "
    "width 4 int64, data 5 float *, shape 7 BlobShape, double_data 8 double *",
    "LRNParameter": "local_size 1 uint32, alpha 2 float, beta 3 float, "
    "k 5 float",
    "LayerParameter": "name 1 string, blobs 7 BlobProto *, "
    "lrn_param 118 LRNParameter",
    "V1LayerParameter": "name 4 string, blobs 6 BlobProto *, "
    "lrn_param 18 LRNParameter",
    "NetParameter": "name 1 string, layer 100 LayerParameter *, "
    "layers 2 V1LayerParameter *",
}
_LRN_DEFAULTS = {"local_size": 5, "alpha": 1.0, "beta": 0.75, "k": 1.0}


@dataclasses.dataclass(frozen=True)
class CaffeLayer:
    """A layer's weights, and the constants of a response normalization."""

    blobs: list[np.ndarray]  # float32, without leading axes of length 1.
    normalization: dict[str, float] | None  # local_size, alpha, beta and k.


def read_network(file: Path) -> dict[str, CaffeLayer]:
    """Returns the layers of a .caffemodel, old or new, in the file's order.

    It takes memory of about four times the file's size.
    """
    network = _read(file, "NetParameter")
    layers = [*network.layer, *network.layers]
    if not any(layer.blobs for layer in layers):
        raise UserError(
            f"{file} has no layers with weights; is it a .caffemodel? (A "
            ".prototxt has none, and .h5 files are not read.)"
        )
    return {
        layer.name: CaffeLayer(
            [_array(blob, f"{file}: {layer.name}") for blob in layer.blobs],
            _normalization(layer),
        )
        for layer in layers
    }


def read_mean(file: Path) -> np.ndarray:
    """Reads a mean image of Caffe's: float32 (height, width, 3), 0..255."""
    image = _array(_read(file, "BlobProto"), str(file))
    if image.ndim != 3 or len(image) != 3:
        raise UserError(
            f"{file} is not a mean image: it has shape {image.shape}, and "
            "should have (3, height, width)."
        )
    return image[::-1].transpose(1, 2, 0).copy()  # Caffe's colors are BGR.


def _read(file, message):
    try:
        return _message_class(message).FromString(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}. Check the path."
        ) from error
    except DecodeError as error:
        raise UserError(
            f"{file} is damaged, incomplete or not a file of Caffe's; get it "
            "again, and compare its SHA-1."
        ) from error


def _array(blob, name):
    """Returns a blob's numbers in its shape, without leading ones."""
    values = blob.data or blob.double_data
    legacy = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) or legacy
    expected = math.prod(shape) if min(shape) > 0 and len(shape) < 9 else 0
    if not expected or len(values) != expected:
        raise UserError(
            f"{name} has {len(values)} numbers for shape {shape}; the "
            "file is damaged."
        )
    array = np.array(values, np.float32)
    if not np.isfinite(array).all():
        raise UserError(
            f"{name} has numbers that are not finite; get the file again, or "
            "an earlier snapshot of its training."
        )
    array = array.reshape(shape)
    while array.ndim > 1 and len(array) == 1:
        array = array[0]  # Until 2014 a blob had at least four axes.
    return array


def _normalization(layer):
    if not layer.HasField("lrn_param"):
        return None
    found = {field.name: value for field, value in layer.lrn_param.ListFields()}
    return _LRN_DEFAULTS | found


@functools.cache
def _message_class(name):
    """Returns the class of one of `_MESSAGES`."""
    schema = descriptor_pb2.FileDescriptorProto(name="caffe.proto")
    schema.package, schema.syntax = "caffe", "proto2"
    for message, fields in _MESSAGES.items():
        declared = schema.message_type.add(name=message)
        for field in fields.split(", "):
            _add_field(declared, *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(schema.SerializeToString())
    message = pool.FindMessageTypeByName(f"caffe.{name}")
    return message_factory.GetMessageClass(message)


def _add_field(message, name, number, kind, star=""):
    types = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=int(number))
    field.label = types.LABEL_REPEATED if star else types.LABEL_OPTIONAL
    if kind in _MESSAGES:
        field.type, field.type_name = types.TYPE_MESSAGE, f".caffe.{kind}"
    else:
        field.type = getattr(types, f"TYPE_{kind.upper()}")
