"""Networks in Caffe's format, and Caffe's forward pass in float64."""

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

# Of Caffe's AlexNet: (kernels, size, stride, padding, groups).
CONVOLUTIONS = {
    "conv1": (96, 11, 4, 0, 1),
    "conv2": (256, 5, 1, 2, 2),
    "conv3": (384, 3, 1, 1, 1),
    "conv4": (384, 3, 1, 1, 2),
    "conv5": (256, 3, 1, 1, 2),
}
_UPPER = ("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5")
_UPPER += ("fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8", "prob")
ALEXNET = ("conv1", "relu1", "norm1", "pool1")
ALEXNET += ("conv2", "relu2", "norm2", "pool2", *_UPPER)
CAFFENET = ("conv1", "relu1", "pool1", "norm1")
CAFFENET += ("conv2", "relu2", "pool2", "norm2", *_UPPER)

# Pooling first in layer 1 alone.
MIXED = (*CAFFENET[:4], *ALEXNET[4:])


def make_weights(crop_size, *, classes, width, groups=2, seed=0):
    """Returns random kernels and biases in Caffe's shapes, by layer."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        spread = np.sqrt(2 / np.prod(shape[1:]))
        return [random.normal(0, spread, shape), random.normal(0, 1, shape[:1])]

    weights, channels = {}, 3
    side = crop_size
    for name, convolution in CONVOLUTIONS.items():
        kernels, size, stride, padding, own_groups = convolution
        kernels = groups * round(kernels * width / groups)
        inputs = channels // groups if own_groups > 1 else channels
        weights[name] = draw(kernels, inputs, size, size)
        channels = kernels
        side = (side + 2 * padding - size) // stride + 1
        if name in ("conv1", "conv2", "conv5"):
            side = -(-(side - 3) // 2) + 1
    inputs, neurons = channels * side**2, groups * round(4096 * width / groups)
    weights["fc6"] = draw(neurons, inputs)
    weights["fc7"] = draw(neurons, neurons)
    weights["fc8"] = [array / 10 for array in draw(classes, neurons)]
    return weights


# --- Caffe's forward pass, in float64.


def convolve(x, kernel, bias, stride, padding, groups):
    """Returns (batch, kernels, rows, columns) of (batch, channels, ...)."""
    x = np.pad(x, [(0, 0), (0, 0), 2 * (padding,), 2 * (padding,)])
    size = kernel.shape[-1]
    parts = []
    for part, own in zip(
        np.split(x, groups, axis=1), np.split(kernel, groups), strict=True
    ):
        windows = np.lib.stride_tricks.sliding_window_view(
            part, (size, size), axis=(2, 3)
        )[:, :, ::stride, ::stride]
        parts.append(
            np.einsum("bcyxhw,kchw->bkyx", windows, own, optimize=True)
        )
    return np.concatenate(parts, axis=1) + bias[:, None, None]


def normalize(x, size=5, alpha=1e-4, beta=0.75, k=1.0):
    """Returns Caffe's response normalization, across all channels."""
    reach = size // 2
    squares = np.pad(x**2, [(0, 0), (reach, reach), (0, 0), (0, 0)])
    sums = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x / (k + alpha / size * sums) ** beta


def pool(x, size=3, stride=2):
    """Returns maxima; windows may end outside."""
    sides = [-(-(side - size) // stride) + 1 for side in x.shape[2:]]
    pooled = np.empty((*x.shape[:2], *sides))
    for row, column in np.ndindex(*sides):
        y, z = row * stride, column * stride
        window = x[:, :, y : y + size, z : z + size]
        pooled[:, :, row, column] = window.max(axis=(2, 3))
    return pooled


def caffe_logits(images, weights, layers, groups=2, mean=(104, 117, 123)):
    """Returns the logits of a Caffe network for RGB images (batch, h, w, 3)."""
    x = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float64)
    x = x - np.reshape(
        mean, (-1, 1, 1) if np.ndim(mean) == 1 else (3, *x.shape[2:])
    )
    for layer in layers:
        kind = layer.rstrip("0123456789")
        if kind == "conv":
            *_, stride, padding, own_groups = CONVOLUTIONS[layer]
            own_groups = groups if own_groups > 1 else 1
            x = convolve(x, *weights[layer], stride, padding, own_groups)
        elif kind == "fc":
            kernel, bias = weights[layer]
            x = x.reshape(len(x), -1) @ kernel.T + bias
        elif kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "norm":
            x = normalize(x)
        elif kind == "pool":
            x = pool(x)
    return x


# --- Caffe's files.


def field(name, number, kind, repeated=False, packed=None):
    types = descriptor_pb2.FieldDescriptorProto
    made = types(name=name, number=int(number))
    made.label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
    if kind[0].isupper():
        made.type, made.type_name = types.TYPE_MESSAGE, f".test.{kind}"
    else:
        made.type = getattr(types, f"TYPE_{kind.upper()}")
    if packed is not None:
        made.options.packed = packed
    return made


# Parameters of layers: number in a layer, in a V1 layer, and fields.
PARAMETERS = {
    "convolution_param": (
        *(106, 10, "bias_term 2 bool, group 5 uint32, pad_h 9 uint32"),
        "pad_w 10 uint32, kernel_h 11 uint32, kernel_w 12 uint32",
        "stride_h 13 uint32, stride_w 14 uint32, pad 3 uint32 *",
        "kernel_size 4 uint32 *, stride 6 uint32 *, dilation 18 uint32 *",
    ),
    "pooling_param": (
        *(121, 19, "pool 1 int32, kernel_size 2 uint32, stride 3 uint32"),
        "pad 4 uint32, kernel_h 5 uint32, kernel_w 6 uint32, stride_h 7 uint32",
        "stride_w 8 uint32, pad_h 9 uint32, global_pooling 12 bool",
    ),
    "lrn_param": (
        *(118, 18, "local_size 1 uint32, alpha 2 float, beta 3 float"),
        "norm_region 4 int32, k 5 float",
    ),
    "relu_param": (123, 30, "negative_slope 1 float"),
    "dropout_param": (108, 12, "dropout_ratio 1 float"),
    "inner_product_param": (
        *(117, 17, "num_output 1 uint32, bias_term 2 bool"),
        "axis 5 int32, transpose 6 bool",
    ),
    "transform_param": (
        *(100, 36, "scale 1 float, mirror 2 bool, crop_size 3 uint32"),
        "mean_value 5 float *",
    ),
    "data_param": (
        *(107, 11, "source 1 string, scale 2 float, batch_size 4 uint32"),
        "crop_size 5 uint32",
    ),
}
# Type and number in V1 of layers by the beginnings of their names.
TYPES = {
    "data": ("Data", 5),
    "conv": ("Convolution", 4),
    "relu": ("ReLU", 18),
    "norm": ("LRN", 15),
    "pool": ("Pooling", 17),
    "fc": ("InnerProduct", 14),
    "drop": ("Dropout", 6),
    "prob": ("Softmax", 20),
    "loss": ("SoftmaxWithLoss", 21),
}


def messages(*, packed=True):
    """Returns the message classes of networks, a part of caffe.proto."""
    file = descriptor_pb2.FileDescriptorProto(
        name="test.proto", package="test", syntax="proto2"
    )
    layer = [
        field("name", 1, "string"),
        field("type", 2, "string"),
        field("bottom", 3, "string", repeated=True),
        field("top", 4, "string", repeated=True),
        field("blobs", 7, "BlobProto", repeated=True),
    ]
    v1_layer = [
        field("layer", 1, "BlobProto"),
        field("bottom", 2, "string", repeated=True),
        field("top", 3, "string", repeated=True),
        field("name", 4, "string"),
        field("type", 5, "int32"),
        field("blobs", 6, "BlobProto", repeated=True),
    ]
    parameters = {}
    for name, (number, v1_number, *fields) in PARAMETERS.items():
        message = name.title().replace("_", "")
        layer.append(field(name, number, message))
        v1_layer.append(field(name, v1_number, message))
        parameters[message] = [
            field(*words[:3], repeated=len(words) > 3)
            for words in map(str.split, ", ".join(fields).split(", "))
        ]
    blob = [
        *(field(n, i, "int32") for i, n in enumerate(LEGACY, start=1)),
        field("data", 5, "float", repeated=True, packed=packed),
        field("diff", 6, "float", repeated=True, packed=packed),
        field("shape", 7, "BlobShape"),
        field("double_data", 8, "double", repeated=True, packed=packed),
    ]
    for name, fields in {
        "BlobShape": [field("dim", 1, "int64", repeated=True, packed=True)],
        "BlobProto": blob,
        **parameters,
        "LayerParameter": layer,
        "V1LayerParameter": v1_layer,
        "NetParameter": [
            field("name", 1, "string"),
            field("layers", 2, "V1LayerParameter", repeated=True),
            field("input", 3, "string", repeated=True),
            field("input_dim", 4, "int32", repeated=True),
            field("layer", 100, "LayerParameter", repeated=True),
        ],
        "SolverState": [
            field("iter", 1, "int32"),
            field("learned_net", 2, "string"),
            field("history", 3, "BlobProto", repeated=True),
        ],
    }.items():
        file.message_type.add(name=name).field.extend(fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"test.{name}")
        )
        for name in ("NetParameter", "BlobProto", "SolverState")
    }


LEGACY = ("num", "channels", "height", "width")


def fill(blob, array, *, v1, double=False):
    """Writes an array into a blob of either generation of the format."""
    if v1:  # Four axes, the first ones 1.
        shape = (1,) * (4 - array.ndim) + array.shape
        for name, side in zip(LEGACY, shape, strict=True):
            setattr(blob, name, side)
    else:
        blob.shape.dim.extend(array.shape)
    target = blob.double_data if double else blob.data
    target.extend(array.ravel().tolist())


def write_caffemodel(
    file,
    weights,
    order,
    *,
    v1,
    packed=True,
    double=False,
    change=lambda layers: None,
):
    """Writes a network in Caffe's format, with its layers changed."""
    network = messages(packed=packed)["NetParameter"](name="AlexNet")
    network.input.append("data")
    network.input_dim.extend([10, 3, 227, 227])
    layers = network.layers if v1 else network.layer
    blob, channels = "data", 3
    for name in order:
        kind = name.rstrip("0123456789")
        layer = layers.add(name=name, type=TYPES[kind][v1], bottom=[blob])
        if kind not in ("relu", "drop"):  # They replace their inputs.
            blob = name
        layer.top.append(blob)
        if kind == "conv":
            _, size, stride, padding, groups = CONVOLUTIONS[name]
            if name in weights:
                kernel, _ = weights[name]
                groups = channels // kernel.shape[1]
                channels = len(kernel)
            layer.convolution_param.kernel_size.append(size)
            if stride > 1:  # Caffe writes what the .prototxt has.
                layer.convolution_param.stride.append(stride)
            if padding:
                layer.convolution_param.pad.append(padding)
            if groups > 1:
                layer.convolution_param.group = groups
        elif kind == "pool":
            layer.pooling_param.pool = 0
            layer.pooling_param.kernel_size = 3
            layer.pooling_param.stride = 2
        elif kind == "norm":
            layer.lrn_param.local_size = 5
            layer.lrn_param.alpha = 1e-4
            layer.lrn_param.beta = 0.75
        elif kind == "drop":
            layer.dropout_param.dropout_ratio = 0.5
        for array in weights.get(name, ()):
            added = layer.blobs.add()
            fill(added, array, v1=v1, double=double)
            added.diff.extend([0.5] * 3)  # To be skipped.
    change(layers)
    file.write_bytes(network.SerializeToString())
    return file
