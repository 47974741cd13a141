"""Caffe's files: networks with their weights, and mean images.

Both are protocol buffers. Only the fields used here are declared;
`google.protobuf`, a dependency of TensorFlow, skips the others.
"""

import dataclasses
import functools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.message import DecodeError

from alexnet_tf.config.errors import UserError

# Name, number, type and default of fields in Caffe's caffe.proto; a star marks
# repeated ones, though Caffe's poolings have one value each. Parameters are
# named after their type of layer. Caffe wrote V1 layers until 2014, and V0
# layers, the first field of V1 layers, until 2013.
_MESSAGES = {
    "BlobShape": "dim 1 int64 *",
    "BlobProto": "num 1 int64, channels 2 int64, height 3 int64, "
    "width 4 int64, data 5 float *, shape 7 BlobShape, double_data 8 double *",
    "Convolution": "kernel_size 4 uint32 *, stride 6 uint32 *, pad 3 uint32 *, "
    "dilation 18 uint32 *, group 5 uint32 1, bias_term 2 bool true, "
    "pad_h 9 uint32, pad_w 10 uint32, kernel_h 11 uint32, kernel_w 12 uint32, "
    "stride_h 13 uint32, stride_w 14 uint32",
    "Pooling": "pool 1 int32, kernel_size 2 uint32 *, stride 3 uint32 *, "
    "pad 4 uint32 *, global_pooling 12 bool, kernel_h 5 uint32, "
    "kernel_w 6 uint32, stride_h 7 uint32, stride_w 8 uint32, pad_h 9 uint32, "
    "pad_w 10 uint32",
    "LRN": "norm_region 4 int32, local_size 1 uint32 5, k 5 float 1, "
    "alpha 2 float 1, beta 3 float 0.75",
    "ReLU": "negative_slope 1 float",
    "InnerProduct": "bias_term 2 bool true, axis 5 int32 1, transpose 6 bool",
    "Dropout": "dropout_ratio 1 float 0.5",
    "Transformation": "scale 1 float 1, crop_size 3 uint32, "
    "mean_value 5 float *",
    "Data": "scale 2 float 1, crop_size 5 uint32",
    "LayerParameter": "name 1 string, type 2 string, bottom 3 string *, "
    "top 4 string *, blobs 7 BlobProto *, transform 100 Transformation, "
    "Convolution 106 Convolution, data 107 Data, Dropout 108 Dropout, "
    "image_data 115 Data, InnerProduct 117 InnerProduct, LRN 118 LRN, "
    "Pooling 121 Pooling, ReLU 123 ReLU",
    "V1LayerParameter": "v0 1 bytes, bottom 2 string *, top 3 string *, "
    "name 4 string, type 5 int32, blobs 6 BlobProto *, "
    "Convolution 10 Convolution, data 11 Data, Dropout 12 Dropout, "
    "image_data 15 Data, InnerProduct 17 InnerProduct, LRN 18 LRN, "
    "Pooling 19 Pooling, ReLU 30 ReLU, transform 36 Transformation",
    "NetParameter": "name 1 string, layer 100 LayerParameter *, "
    "layers 2 V1LayerParameter *",
    "SolverState": "iter 1 int64, learned_net 2 string",
}
# The types of V1 layers by number, with the names of later ones.
_V1_TYPES = (
    "None Accuracy BNLL Concat Convolution Data Dropout EuclideanLoss Flatten "
    "HDF5Data HDF5Output Im2col ImageData InfogainLoss InnerProduct LRN "
    "MultinomialLogisticLoss Pooling ReLU Sigmoid Softmax SoftmaxWithLoss "
    "Split TanH WindowData Eltwise Power SigmoidCrossEntropyLoss HingeLoss "
    "MemoryData ArgMax Threshold DummyData Slice MVN AbsVal Silence "
    "ContrastiveLoss Exp Deconvolution"
).split()
_ENUMS = {
    "pool": ("MAX", "AVE", "STOCHASTIC"),
    "norm_region": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
}
# Parameters with up to one value for each axis, and their defaults.
_PER_AXIS = {"kernel_size": 0, "stride": 1, "pad": 0, "dilation": 1}
_TEXT = re.compile(rb"[\t\n\r -~\x80-\xff]*[:{][\t\n\r -~\x80-\xff]*")


@dataclasses.dataclass(frozen=True)
class CaffeLayer:
    """A layer of a network."""

    name: str
    type: str  # Such as Convolution.
    inputs: list[str]  # Names of blobs; a layer that reads data has none.
    outputs: list[str]
    blobs: list[np.ndarray]  # float32, without leading axes of length 1.
    # By Caffe's names; of a layer that reads data `scale`, `crop_size` and
    # `mean_value`. Where the axes differ, a text such as 3x2.
    parameters: dict[str, Any]


def read_network(file: Path) -> list[CaffeLayer]:
    """Returns the layers of a .caffemodel, old or new, in the file's order.

    It takes memory of about four times the file's size.
    """
    content = _read(file)
    _refuse_other_files(file, content)
    network = _parse(file, content, "NetParameter")
    if any(layer.v0 for layer in network.layers):
        raise UserError(
            f"{file} has Caffe's format of 2013; convert it with Caffe's "
            "upgrade_net_proto_binary."
        )
    layers = [*network.layer, *network.layers]
    if not any(layer.blobs for layer in layers):
        raise UserError(
            f"{file} has no layers with weights; is it a .caffemodel? (A mean "
            "image, .binaryproto, is for --mean.)"
        )
    return [_read_layer(layer, file) for layer in layers]


def read_mean(file: Path) -> np.ndarray:
    """Reads a mean image of Caffe's: float32 (height, width, 3), 0..255."""
    image = _array(_parse(file, _read(file), "BlobProto"), str(file))
    if image.ndim != 3 or len(image) != 3:
        raise UserError(
            f"{file} is not a mean image: it has shape {image.shape}, and "
            "should have (3, height, width)."
        )
    return image[::-1].transpose(1, 2, 0).copy()  # Caffe's colors are BGR.


def _read(file):
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}. Check the path."
        ) from error


def _parse(file, content, message):
    try:
        return _message_classes()[f"caffe.{message}"].FromString(content)
    except DecodeError as error:
        raise UserError(
            f"{file} is damaged, incomplete or not a file of Caffe's; get it "
            "again, and compare its SHA-1."
        ) from error


def _refuse_other_files(file, content):
    """Raises an error about those files of a training that are no network."""
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        if ".solverstate" in file.name:
            raise UserError(
                f"{file} is the state of a solver, in HDF5, without weights; "
                "give the snapshot of the network that was written with it."
            )
        raise UserError(
            f"{file} is a snapshot in HDF5; where Caffe is installed, make a "
            ".caffemodel of it:\npython -c \"import caffe; caffe.Net('train_val"
            f".prototxt', '{file}', caffe.TEST).save('new.caffemodel')\""
        )
    if content.startswith(b"\x08"):  # A number; a network begins with texts.
        state = _parse(file, content, "SolverState")
        if state.learned_net:
            raise UserError(
                f"{file} is the state of a solver after {state.iter} "
                "iterations, without weights; give the network that was "
                f"written with it, {state.learned_net}."
            )
    if _TEXT.fullmatch(content[:4096]):
        raise UserError(
            f"{file} is a text, such as a .prototxt: a description without "
            "weights; give the .caffemodel that was trained with it."
        )


def _read_layer(layer, file):
    layer_type = layer.type
    if isinstance(layer_type, int):
        is_known = 0 <= layer_type < len(_V1_TYPES)
        layer_type = _V1_TYPES[layer_type] if is_known else f"type {layer_type}"
    parameters = {}
    if not layer.bottom:
        # Old layers have them outside of `transform`.
        places = layer.transform, layer.data, layer.image_data
        parameters = {
            "scale": math.prod(place.scale for place in places),
            "crop_size": max(place.crop_size for place in places),
            "mean_value": list(layer.transform.mean_value),
        }
    elif layer_type in _MESSAGES.keys() & layer.DESCRIPTOR.fields_by_name:
        parameters = _parameters(getattr(layer, layer_type))
    return CaffeLayer(
        layer.name,
        layer_type,
        list(layer.bottom),
        list(layer.top),
        [_array(blob, f"{file}: {layer.name}") for blob in layer.blobs],
        parameters,
    )


def _parameters(message):
    """Returns a layer's parameters by name, with their defaults."""
    found = {}
    for name in [field.name for field in message.DESCRIPTOR.fields]:
        value = getattr(message, name)
        if name in _PER_AXIS:
            found[name] = _per_axis(message, name)
        elif name in _ENUMS:
            names = dict(enumerate(_ENUMS[name]))
            found[name] = names.get(value, value)
        elif not name.endswith(("_h", "_w")):
            found[name] = value
    return found


def _per_axis(message, name):
    values = list(getattr(message, name)) or [_PER_AXIS[name]]
    stem = name.removesuffix("_size")
    axes = [f"{stem}_{axis}" for axis in "hw"]
    if any(f.name in axes for f, _ in message.ListFields()):
        values = [getattr(message, axis) for axis in axes]
    same = len(set(values)) == 1
    return values[0] if same else "x".join(map(str, values))


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


@functools.cache
def _message_classes():
    """Returns the classes of `_MESSAGES`, by names such as caffe.BlobProto."""
    schema = descriptor_pb2.FileDescriptorProto(
        name="caffe.proto", package="caffe", syntax="proto2"
    )
    for message, fields in _MESSAGES.items():
        declared = schema.message_type.add(name=message)
        for field in fields.split(", "):
            _add_field(declared, *field.split())
    return message_factory.GetMessages([schema])


def _add_field(message, name, number, kind, default=""):
    types = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=int(number))
    field.label = (
        types.LABEL_REPEATED if default == "*" else types.LABEL_OPTIONAL
    )
    if default not in ("", "*"):
        field.default_value = default
    if kind in _MESSAGES:
        field.type, field.type_name = types.TYPE_MESSAGE, f".caffe.{kind}"
    else:
        field.type = getattr(types, f"TYPE_{kind.upper()}")
